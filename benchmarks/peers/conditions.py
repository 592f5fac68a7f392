"""What the figures depend on: the machine, its load, the files, the code; no paths of it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.process import ROOT
from edgeml.core.files import sha256_of
from edgeml.runtime.host import detect_host

_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def machine() -> dict[str, Any]:
    """Return processor, threads that we may use, and governor."""
    try:
        governor = _GOVERNOR.read_text(encoding="ascii").strip()
    except OSError:
        governor = "not reported"
    return {**detect_host().to_json(), "governor": governor}


def load() -> list[float]:
    """Return the load averages of 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


def commit() -> str:
    """Return the commit of the code, and whether there are changes beyond it."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(ROOT), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = " with changes" if git("status", "--porcelain") else ""
        return git("rev-parse", "--short=12", "HEAD") + changed
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def file_facts(path: Path) -> dict[str, str]:
    """Return how a file is called, with its folder, and its hash."""
    return {"file": f"{path.resolve().parent.name}/{path.name}", "sha256": sha256_of(path)}


def command(arguments: Sequence[str]) -> str:
    """Return the command as anybody could type it, data by its variable, else relative."""
    return " ".join(["python -m benchmarks.peers", *map(_portable, arguments)])


def _portable(argument: str) -> str:
    path = Path(argument)
    if not path.is_absolute():
        return argument
    data = os.environ.get("EDGEML_DATA_DIR")
    if data and path.is_relative_to(data):
        return f"$EDGEML_DATA_DIR/{path.relative_to(data)}"
    if path.is_relative_to(ROOT):
        return str(path.relative_to(ROOT))
    return path.name
