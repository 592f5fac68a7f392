"""One virtual environment for each requirements file, made once and named by its hash."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.peers.process import ROOT, PeerError

_REQUIREMENTS = Path(__file__).parent / "requirements"
_TIMEOUT_S = 1800.0
_DONE = ".complete"


def requirements(name: str) -> Path:
    """Return the requirements file of an environment."""
    return _REQUIREMENTS / f"{name}.txt"


def cache_folder() -> Path:
    """Return where environments are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "edgeml" / "peers"


def python_of(name: str | None, *, cache: Path) -> Path:
    """Return the interpreter of an environment, which is made if it is not there yet.

    Args:
        name: Name of its requirements file; None is the environment that runs this.
        cache: Folder of the environments.

    Raises:
        PeerError: It cannot be made.
    """
    if name is None:
        return Path(sys.executable)
    file = requirements(name)
    version = "{}.{}".format(*sys.version_info)
    digest = hashlib.sha256(file.read_bytes() + version.encode()).hexdigest()[:12]
    folder = cache / f"{name}-{digest}"
    python = folder / "bin" / "python"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / _DONE).is_file():
            shutil.rmtree(folder, ignore_errors=True)
            _run([str(ROOT / "tools" / "python-venv"), sys.executable, str(folder)])
            install = ["-m", "pip", "install", "--quiet", "--requirement", str(file)]
            _run([str(python), *install])
            (folder / _DONE).touch()
    return python


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise PeerError(f"the environment cannot be made: {type(exc).__name__}") from exc
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower()]
        raise PeerError(f"the environment cannot be made: {(errors or lines or ['no reason'])[-1]}")
