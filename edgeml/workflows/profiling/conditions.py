"""What the figures depend on: machine, load, versions, artefact; and the history they go into."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeml.core.bundle import Bundle
from edgeml.runtime.host import detect_host

_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_MEMORY = Path("/proc/meminfo")
_PACKAGES = ("edgeml", "numpy", "onnxruntime", "tritonclient", "grpcio", "fastapi", "uvicorn")


def host_facts() -> dict[str, Any]:
    """Return the machine: processor, threads that we may use, memory, governor, kernel."""
    return {
        **detect_host().to_json(),
        "governor": _read(_GOVERNOR) or "not reported",
        "memory_gb": _memory_gb(),
        "kernel": platform.release(),
        "system": platform.system(),
    }


def fingerprint(host: Mapping[str, Any]) -> str:
    """Return twelve characters that stay the same on one kind of machine."""
    names = ("architecture", "cpu", "instruction_set", "threads", "memory_gb")
    text = json.dumps([host[name] for name in names])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def conditions_of(bundle: Bundle, *, variant: str) -> dict[str, Any]:
    """Return what a profile's figures depend on, as JSON values."""
    host = host_facts()
    row = bundle.manifest.variant(variant)
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "host": host,
        "host_fingerprint": fingerprint(host),
        "load_average_before": [round(value, 2) for value in os.getloadavg()],
        "versions": {"python": sys.version.split()[0], **_versions()},
        "artefact": {
            "bundle": bundle.manifest.name,
            "version": bundle.manifest.version,
            "task": bundle.manifest.task,
            "variant": variant,
            "sha256": row.sha256 if row else "",
        },
        "energy": "not measured",
    }


def append_history(place: Path, entry: Mapping[str, Any]) -> None:
    """Add one line to a history; what stands there is never changed."""
    line = json.dumps(entry, allow_nan=False, separators=(",", ":")) + "\n"
    with place.open("a", encoding="utf-8") as file:
        file.write(line)


def history_entry(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a history keeps of a report: no samples, no stages."""
    kept = (
        *("target", "scenario", "placement", "threads", "batch", "p50_ms", "p90_ms", "p99_ms"),
        *("throughput_per_s", "errors", "accuracy", "valid", "reason", "stable", "variant"),
    )
    conditions = report["conditions"]
    return {
        "date": conditions["date"],
        "host_fingerprint": conditions["host_fingerprint"],
        "artefact": conditions["artefact"],
        "versions": conditions["versions"],
        "settings": report["settings"],
        "rows": [{name: row[name] for name in kept} for row in report["rows"]],
        "recommendation": {
            name: report["recommendation"][name] for name in ("target", "reason", "margin")
        },
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _memory_gb() -> float | None:
    for line in (_read(_MEMORY) or "").splitlines():
        if line.startswith("MemTotal:"):
            return round(int(line.split()[1]) * 1024 / 1e9, 1)
    return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
