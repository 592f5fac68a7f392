"""Which Triton is started: one on PATH that can use a GPU, our own, any on PATH, or a container."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from edgeml.errors import HostError
from edgeml.serving.host.ports import LOOPBACK
from edgeml.serving.installation.finding import Installation, find_installation
from edgeml.serving.repository.config import CPU_CONFIG_NAME

IMAGE = "nvcr.io/nvidia/tritonserver:24.10-py3"
_PORTS = (8000, 8001, 8002)


def choose_installation() -> Installation:
    """Return the server to start.

    NVIDIA's server, on PATH with the C++ backends beside it, comes first: it is the one that serves
    on a GPU. Then comes our own, then whatever else is on PATH.

    Raises:
        HostError: There is none.
    """
    program = shutil.which("tritonserver")
    if program is not None:
        server = Path(program).resolve()
        root = server.parent.parent
        found = Installation(
            root=root, tritonserver=server, backends=root / "backends", origin="path"
        )
        if found.serves_gpu:
            return found
    return find_installation()


def container_command(
    repository: Path, *, models: Sequence[str], ports: tuple[int, int, int], gpu: bool
) -> str:
    """Return the command that serves the same in NVIDIA's container, on this machine alone.

    Args:
        repository: The model repository.
        models: Models to load.
        ports: HTTP, gRPC and metrics ports; 0 stands for Triton's own.
        gpu: Whether this machine has a GPU.
    """
    words = ["docker run --rm --shm-size=1g"]
    if gpu:
        words.append("--gpus=all")
    for port, inside in zip(ports, _PORTS, strict=True):
        words.append(f"-p {LOOPBACK}:{port or inside}:{inside}")
    words.append(f"-v {str(repository)!r}:/models:ro {IMAGE} tritonserver")
    words.append("--model-repository=/models --model-control-mode=explicit --exit-on-error=false")
    words += [f"--load-model={name}" for name in models]
    if not gpu:
        words.append(f"--model-config-name={CPU_CONFIG_NAME}")
    return " ".join(words)


def with_container(error: HostError, command: str) -> HostError:
    """Return the error for a machine without a server, with the container's command in it."""
    return HostError(what=error.what, needed=f"{error.needed}; or, where Docker is: {command}")
