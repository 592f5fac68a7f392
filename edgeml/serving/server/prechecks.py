"""What is refused before a server starts: Triton would crash of it, hang, or answer wrongly."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from edgeml.errors import HostError, InputError
from edgeml.serving.installation.finding import Installation
from edgeml.serving.repository.config import (
    CPU_CONFIG,
    DEFAULT_CONFIG,
    ENSEMBLE,
    parse_config,
    read_config,
)
from edgeml.serving.server.status import ModelStatus

SHARED_MEMORY = Path("/dev/shm")
# A stub's segment starts with one MiB and grows by one when a request does not fit.
_EACH_BYTES = 2 << 20
_NUMPY = re.compile(r"numpy-(\d+)\.[^-]*\.dist-info")


def check_stub_numpy(found: Installation) -> None:
    """Refuse our own installation if its stubs would find NumPy 2, which they misread.

    Args:
        found: The installation; one of another origin is not looked at.

    Raises:
        HostError: Its packages hold NumPy 2 or later, or none.
    """
    if found.origin != "own":
        return
    settings = found.backends / "python" / "edgeml.json"
    needed = (
        f"NumPy below 2 is needed there; remove '{found.root}', then run: edgeml triton install"
    )
    try:
        site = Path(json.loads(settings.read_bytes())["site"])
        names = [path.name for path in site.iterdir()]
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise HostError(
            what=f"the packages of Triton's stubs are not found ({exc})", needed=needed
        ) from exc
    majors = sorted(int(match[1]) for name in names if (match := _NUMPY.fullmatch(name)))
    if not majors or majors[-1] >= 2:
        there = f"NumPy {majors[-1]}" if majors else "no NumPy"
        raise HostError(
            what=f"the packages of Triton's stubs in '{site}' hold {there}, and the stubs read the "
            "arrays of NumPy 2 wrongly: every element becomes the first one",
            needed=needed,
        )


def check_shared_memory(found: Installation, root: Path, models: Sequence[str]) -> None:
    """Refuse to start where the stubs' shared memory would not fit: Triton dies of it later.

    Args:
        found: The installation.
        root: The model repository.
        models: Models that will be loaded.

    Raises:
        HostError: It has less room than they need.
    """
    stubs = sum(_stubs_of(found, root / name) for name in models)
    if not stubs:
        return
    try:
        room = os.statvfs(SHARED_MEMORY)
    except OSError as exc:
        raise HostError(
            what=f"{SHARED_MEMORY} cannot be looked at ({exc})", needed="mount a tmpfs there"
        ) from exc
    free, needed = room.f_bavail * room.f_frsize, stubs * _EACH_BYTES
    if free < needed:
        raise HostError(
            what=f"{SHARED_MEMORY} has {free / 2**20:.1f} MiB free of "
            f"{room.f_blocks * room.f_frsize / 2**20:.1f}, and {stubs} instances need "
            f"{needed / 2**20:.0f} MiB",
            needed="free it, load fewer models with --model, or make it larger (docker run "
            f"--shm-size=1g, or mount -o remount,size=1g {SHARED_MEMORY})",
        )


def _stubs_of(found: Installation, folder: Path) -> int:
    """Return how many processes Triton will start for a model."""
    path = folder / CPU_CONFIG
    path = path if not found.serves_gpu and path.is_file() else folder / DEFAULT_CONFIG
    try:
        values = parse_config(path.read_text(encoding="utf-8"), item=str(path))
    except (OSError, UnicodeDecodeError, InputError):
        return 0
    backend = values.get("backend") or values.get("platform") or "onnxruntime"
    if backend == ENSEMBLE or (backend == "onnxruntime" and found.serves_gpu):
        return 0
    return sum(int(group.get("count", 1)) for group in values.get("instance_group") or [{}])


def check_gpu_there(found: Installation, *, gpu: bool) -> None:
    """Refuse a machine or a server that has no GPU.

    Args:
        found: The installation.
        gpu: Whether the machine has one that this server can use.

    Raises:
        HostError: A GPU was asked for, and there is none.
    """
    if gpu:
        return
    why = (
        "no NVIDIA GPU answers on this machine"
        if found.serves_gpu
        else (f"the server '{found.tritonserver}' has no ONNX Runtime for GPUs")
    )
    raise HostError(
        what=f"a GPU was required, and {why}",
        needed="check nvidia-smi and use NVIDIA's container or its tritonserver on PATH, or start "
        "without --require-gpu",
    )


def check_on_gpu(root: Path, rows: Sequence[ModelStatus]) -> None:
    """Refuse a server on which a model that may use a GPU was placed on the CPU.

    Args:
        root: The model repository, whose default configurations say who may.
        rows: The models of the running server.

    Raises:
        HostError: One was.
    """
    for row in rows:
        if row.state != "ready" or row.device != "cpu":
            continue
        if read_config(root / row.name / DEFAULT_CONFIG).kind != "KIND_CPU":
            raise HostError(
                what=f"a GPU was required, and the model '{row.name}' was placed on the CPU",
                needed="check that the GPU has compute capability 6.0 or more and that its "
                "configuration lists no GPU that is missing, or publish it with --fallback "
                "forbidden",
            )
