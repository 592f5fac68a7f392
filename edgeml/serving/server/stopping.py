"""End a server in order: requests that run are answered, then it goes."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

# What Triton's log says once nothing runs any more; only models are left to be unloaded.
_DRAINED = b"All models are stopped"
_UNLOAD_S = 5.0
_LOOK_S = 0.05
_TAIL_BYTES = 64 << 10


def end_server(process: subprocess.Popen[bytes], *, log_path: Path, drain_s: float) -> None:
    """Ask a server to stop, and kill it when its time is over.

    Triton takes no new requests from then on. Now and then it waits for a model that nobody uses
    any more: it gets a few seconds for that, not all of its time.

    Args:
        process: The server.
        log_path: Its log, which says how far it is.
        drain_s: Time that running requests are given.
    """
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)  # a stopped process hears nothing until it goes on
    deadline = time.monotonic() + drain_s + _UNLOAD_S
    drained = False
    while time.monotonic() < deadline:
        try:
            process.wait(timeout=_LOOK_S)
            return
        except subprocess.TimeoutExpired:
            if not drained and _DRAINED in _tail(log_path):
                drained = True
                deadline = min(deadline, time.monotonic() + _UNLOAD_S)
    process.kill()
    process.wait()


def _tail(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            return file.read()
    except OSError:
        return b""
