"""The command line of a Triton server, and a start after which it does not outlive us."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from edgeml.errors import HostError
from edgeml.serving.config import CPU_CONFIG_NAME
from edgeml.serving.installation import Installation
from edgeml.serving.ports import LOOPBACK

# Replaces itself by the server after asking the kernel for SIGTERM at its parent's death (1 is
# PR_SET_PDEATHSIG, 15 is SIGTERM). A program of its own, because code between fork and exec may
# hang in a process with threads. A parent that has died before that is seen by its id.
_LAUNCHER = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit("error: the process that started Triton has ended")
try:
    os.execv(sys.argv[2], sys.argv[2:])
except OSError as exc:
    sys.exit(f"error: {sys.argv[2]} cannot be started: {exc}")
"""


def command_for(
    found: Installation,
    root: Path,
    *,
    models: Sequence[str],
    gpu: bool,
    ports: tuple[int, int, int],
    token: str,
) -> list[str]:
    """Return the command line of a server.

    Args:
        found: The installation.
        root: The repository, at a path that a shell may read.
        models: Models to load.
        gpu: Whether it serves on a GPU; otherwise it reads the configurations for CPUs.
        ports: HTTP, gRPC and metrics ports.
        token: Prefix of its shared memory segments.
    """
    command = [str(found.tritonserver), f"--model-repository={root}"]
    if found.backends.is_dir():
        command.append(f"--backend-directory={found.backends}")
    for kind, port in zip(("http", "grpc", "metrics"), ports, strict=True):
        command += [f"--{kind}-address={LOOPBACK}", f"--{kind}-port={port}"]
    command += ["--model-control-mode=explicit", "--exit-on-error=false"]
    command += [f"--load-model={name}" for name in models]
    command.append(f"--backend-config=python,shm-region-prefix-name={token}")
    if not gpu:
        command.append(f"--model-config-name={CPU_CONFIG_NAME}")
    return command


def launch(command: Sequence[str], *, log_path: Path) -> subprocess.Popen[bytes]:
    """Start a server that ends when this process ends, however it ends.

    The kernel ties that to the *thread* that starts it. So it holds for a server that the main
    thread starts; one that another thread starts outlives a killed process, because it would
    otherwise end with that thread.

    Args:
        command: What :func:`command_for` returned.
        log_path: Where its output goes.

    Raises:
        HostError: The program or the log cannot be used.
    """
    if not os.access(command[0], os.X_OK):
        raise HostError(
            what=f"'{command[0]}' cannot be started (it is not there, or not a program)",
            needed="install Triton again: edgeml triton install",
        )
    words = list(command)
    if threading.current_thread() is threading.main_thread() and sys.executable:
        words = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *command]
    try:
        with log_path.open("wb") as log:
            return subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C reaches us alone; we end the server in order.
                start_new_session=True,
            )
    except OSError as exc:
        raise HostError(
            what=f"'{command[0]}' cannot be started with its log in '{log_path}' ({exc})",
            needed="free the place, or install Triton again: edgeml triton install",
        ) from exc
