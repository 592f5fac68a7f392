"""What an edge device pays: disk, import, first answer, memory. In an environment of its own."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from time import perf_counter

import pytest

from benchmarks.conftest import Deploy
from tests.base_environment import BaseEnvironment, make_base_environment

# Building a wheel and an environment takes a minute: the cold start itself is in test_cold_start.
pytestmark = pytest.mark.full_tier

_RUNS = 15

_FIRST_ANSWER = """
import json, sys, time
started = time.perf_counter()
import edgeml
with edgeml.load(sys.argv[1], variant="int8", num_threads=1) as predictor:
    label = predictor.predict(sys.argv[2]).label
    first_s = time.perf_counter() - started
    for _ in range(200):
        predictor.predict(sys.argv[2])
    with open("/proc/self/status") as status:
        rss = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
print(json.dumps({"first_s": first_s, "rss_kib": rss, "label": label,
                  "heavy": [m for m in ("torch", "onnx", "transformers") if m in sys.modules]}))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> BaseEnvironment:
    """The base wheel and Pillow, nothing else."""
    return make_base_environment(tmp_path_factory.mktemp("base"))


def test_base_install_size(
    benchmark,
    environment: BaseEnvironment,
) -> None:
    """Record file bytes of site-packages without the installers."""
    benchmark.extra_info["base_mb"] = environment.base_bytes / 1e6
    benchmark.extra_info["with_pillow_mb"] = environment.with_pillow_bytes / 1e6
    benchmark.extra_info["compiled_caches_mb"] = environment.compiled_bytes / 1e6
    out = benchmark.pedantic(environment.run, args=("-c", "import edgeml; print('ok')"), rounds=3)
    assert out.strip() == "ok"


def test_import_beyond_bare_python(
    benchmark,
    environment: BaseEnvironment,
) -> None:
    """Take turns with an interpreter that imports nothing."""

    def timed(code: str) -> float:
        started = perf_counter()
        environment.run("-c", code)
        return perf_counter() - started

    code = "import edgeml, sys; print('numpy' in sys.modules)"
    added = [timed(code) - timed("pass") for _ in range(_RUNS)]
    benchmark.extra_info["added_ms"] = 1e3 * median(added)
    out = benchmark.pedantic(environment.run, args=("-c", code), rounds=5)
    assert out.strip() == "False"


def test_first_answer_and_memory(
    benchmark,
    environment: BaseEnvironment,
    deploy: Deploy,
    tmp_path: Path,
) -> None:
    """Import, load and predict in a fresh process; then its memory after 200 answers."""
    script = tmp_path / "first.py"
    script.write_text(_FIRST_ANSWER)
    bundle = deploy(64).bundle
    picture = bundle.path / bundle.golden().inputs[0]
    arguments = (str(script), str(bundle.path), str(picture))
    runs = [json.loads(environment.run(*arguments)) for _ in range(_RUNS)]
    benchmark.extra_info["first_answer_s"] = median(run["first_s"] for run in runs)
    benchmark.extra_info["rss_mb"] = median(run["rss_kib"] for run in runs) * 1024 / 1e6
    benchmark.pedantic(environment.run, args=arguments, rounds=3)
    assert all(run["heavy"] == [] and run["label"] for run in runs)
