"""What a device pays for a bundle: the first answer, memory, disk, and the way over the air."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from edgeml.core.bundle import MANIFEST, Bundle
from edgeml.core.manifest import Variant
from edgeml.errors import HostError
from edgeml.tasks.text import TOKENIZER

_TIMEOUT_S = 300.0
_ANSWERS = 50
_BLOCK = 1 << 20
# What a device imports and does, in a process that has done nothing before.
_SCRIPT = """
import json, sys, time
begun = time.perf_counter()
import edgeml
imported = time.perf_counter()
predictor = edgeml.load(sys.argv[1], num_threads=int(sys.argv[2]))
loaded = time.perf_counter()
from edgeml.core.bundle import Bundle
from edgeml.workflows.profiling.samples import samples_of
item = samples_of(Bundle.read(sys.argv[1])).items[0]
asked = time.perf_counter()
predictor.predict(item)
answered = time.perf_counter()
for _ in range(int(sys.argv[3])):
    predictor.predict(item)
with open("/proc/self/status") as status:
    kib = {line.split(":")[0]: int(line.split()[1]) for line in status if line.startswith("Vm")}
print(json.dumps({
    "import_s": imported - begun, "load_s": loaded - imported, "first_answer_s": answered - asked,
    "rss_mb": kib["VmRSS"] * 1024 / 1e6, "peak_mb": kib["VmHWM"] * 1024 / 1e6,
}))
"""


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What a device pays.

    Attributes:
        variant: The variant that is deployed.
        import_s: ``import edgeml``, in seconds.
        load_s: ``edgeml.load``, which imports the runtime and compares hashes.
        first_answer_s: The first prediction.
        cold_start_s: The three together; the interpreter's own start is not in it.
        rss_mb: Memory after 50 answers, in megabytes.
        peak_mb: Its peak.
        disk_mb: What a device needs of the bundle.
        over_the_air_mb: The same, compressed by zlib at level 6.
        starts: Fresh processes; the times are their medians.
        first_runs: The cold start of each, in seconds.
    """

    variant: str
    import_s: float
    load_s: float
    first_answer_s: float
    cold_start_s: float
    rss_mb: float
    peak_mb: float
    disk_mb: float
    over_the_air_mb: float
    starts: int
    first_runs: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return asdict(self)


def measure_footprint(
    bundle: Bundle, variant: Variant, *, num_threads: int, starts: int
) -> Footprint:
    """Start fresh processes, and weigh the files that a device needs.

    Raises:
        HostError: A process does not answer.
    """
    runs = [_start(bundle, num_threads) for _ in range(starts)]
    files = deployed_files(bundle, variant)
    disk, packed = _sizes(bundle, files)
    cold = [run["import_s"] + run["load_s"] + run["first_answer_s"] for run in runs]
    return Footprint(
        variant=variant.name,
        import_s=median(run["import_s"] for run in runs),
        load_s=median(run["load_s"] for run in runs),
        first_answer_s=median(run["first_answer_s"] for run in runs),
        cold_start_s=median(cold),
        rss_mb=median(run["rss_mb"] for run in runs),
        peak_mb=max(run["peak_mb"] for run in runs),
        disk_mb=disk / 1e6,
        over_the_air_mb=packed / 1e6,
        starts=starts,
        first_runs=tuple(cold),
    )


def deployed_files(bundle: Bundle, variant: Variant) -> list[str]:
    """Return what a device needs of a bundle: manifest, model, what lies beside it, tokenizer."""
    folder = variant.file.rpartition("/")[0]
    beside = [name for name in bundle.manifest.files if name.startswith(f"{folder}/")]
    tokenizer = [TOKENIZER] if TOKENIZER in bundle.manifest.files else []
    return [MANIFEST, *tokenizer, *(beside or [variant.file])]


def _sizes(bundle: Bundle, files: Sequence[str]) -> tuple[int, int]:
    disk = packed = 0
    for name in files:
        packer = zlib.compressobj(6)
        with (bundle.path / name).open("rb") as file:
            while block := file.read(_BLOCK):
                disk += len(block)
                packed += len(packer.compress(block))
        packed += len(packer.flush())
    return disk, packed


def _start(bundle: Bundle, num_threads: int) -> dict[str, float]:
    command = [sys.executable, "-c", _SCRIPT, str(bundle.path), str(num_threads), str(_ANSWERS)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
        )
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as exc:
        said = str(getattr(exc, "stderr", "") or exc).strip().splitlines() or ["it said nothing"]
        raise HostError(
            what=f"a fresh process does not answer ({said[-1]})", needed="run 'edgeml verify'"
        ) from exc
    return found
