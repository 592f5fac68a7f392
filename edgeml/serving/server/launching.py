"""The command line of a Triton server, and a start after which it does not outlive us."""

from __future__ import annotations

import math
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeml.errors import HostError
from edgeml.serving.host.ports import LOOPBACK
from edgeml.serving.installation.finding import Installation
from edgeml.serving.repository.config import CPU_CONFIG_NAME

_CONTROL = ("model-repository", "shared-memory", "trace", "logging")

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


@dataclass(frozen=True, kw_only=True)
class Launch:
    """All that a server's start is made of, the same for each start of it.

    Attributes:
        found: The installation.
        repository: The model repository, as it was named.
        root: The repository at a path that a shell may read: itself, or a link to it.
        gpu: Whether it serves on a GPU; otherwise it reads the configurations for CPUs.
        ports: HTTP, gRPC and metrics ports that it listens on.
        token: Prefix of its shared memory segments.
        log_path: Where its output goes.
        drain_s: How long running requests may take after it was asked to stop.
        rate_limited: Whether some model's instances wait for resources before they run.
        inference_only: Whether gRPC controls nothing: a guard sees to that before HTTP.
    """

    found: Installation
    repository: Path
    root: Path
    gpu: bool
    ports: tuple[int, int, int]
    token: str
    log_path: Path
    drain_s: float
    rate_limited: bool = False
    inference_only: bool = False

    @property
    def link(self) -> Path | None:
        """The link to the repository that was made for this server, or None."""
        return None if self.root == self.repository else self.root


def command_for(plan: Launch, models: Sequence[str]) -> list[str]:
    """Return the command line of a server.

    Args:
        plan: How it is started.
        models: Models to load.
    """
    found = plan.found
    command = [str(found.tritonserver), f"--model-repository={plan.root}"]
    if found.backends.is_dir():
        command.append(f"--backend-directory={found.backends}")
    for kind, port in zip(("http", "grpc", "metrics"), plan.ports, strict=True):
        command += [f"--{kind}-address={LOOPBACK}", f"--{kind}-port={port}"]
    if plan.inference_only:
        # Triton lets through who sends the key as a header; nobody is told this one.
        key = secrets.token_hex(16)
        command.append(f"--grpc-restricted-protocol={','.join(_CONTROL)}:edgeml={key}")
    command += ["--model-control-mode=explicit", "--exit-on-error=false"]
    command += [f"--load-model={name}" for name in models]
    command.append(f"--exit-timeout-secs={max(1, math.ceil(plan.drain_s))}")
    command.append(f"--backend-config=python,shm-region-prefix-name={plan.token}")
    if plan.rate_limited:
        command.append("--rate-limit=execution_count")  # otherwise it ignores what models ask for
    if not plan.gpu:
        command.append(f"--model-config-name={CPU_CONFIG_NAME}")
    return command


def launch(
    command: Sequence[str], *, log_path: Path, stays: bool = False
) -> subprocess.Popen[bytes]:
    """Start a server that ends when this process ends, however it ends.

    The kernel ties that to the *thread* that starts it. So it holds for a server that the main
    thread starts, or one that stays; one that another thread starts outlives a killed process,
    because it would otherwise end with that thread.

    Args:
        command: What :func:`command_for` returned.
        log_path: Where its output goes.
        stays: Whether the calling thread stays as long as the server shall.

    Raises:
        HostError: The program or the log cannot be used.
    """
    if not os.access(command[0], os.X_OK):
        raise HostError(
            what=f"'{command[0]}' cannot be started (it is not there, or not a program)",
            needed="install Triton again: edgeml triton install",
        )
    words = list(command)
    if (stays or threading.current_thread() is threading.main_thread()) and sys.executable:
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
