"""What ``edgeml tune`` found on this machine, kept beside a bundle: ``x.bundle.host.json``.

Beside it and not inside, because a bundle travels and is sealed, and a profile is true of one
machine. It is used only where bundle, machine and runtimes are those that it was measured with.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgeml.core.bundle import MANIFEST, SEAL, Bundle
from edgeml.core.files import write_json
from edgeml.errors import HostError
from edgeml.runtime.host import Host, detect_host
from edgeml.runtime.opening import ENGINES, installed_engines

SCHEMA_VERSION = 1
_MAX_BYTES = 4 << 20
_MAX_THREADS = 256


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How a bundle is run.

    Attributes:
        variant: Name of the variant.
        engine: What runs its file.
        threads: Threads of one call.
        spinning: Whether idle threads keep a processor busy.
        arena: Whether ONNX Runtime keeps freed memory for its next call.
    """

    variant: str
    engine: str
    threads: int
    spinning: bool = False
    arena: bool = True

    def __post_init__(self) -> None:
        kinds = {"variant": str, "engine": str, "threads": int, "spinning": bool, "arena": bool}
        for name, kind in kinds.items():
            if type(getattr(self, name)) is not kind:
                raise TypeError(f"'{name}' is {getattr(self, name)!r}")
        if not 1 <= self.threads <= _MAX_THREADS:
            raise ValueError(f"threads are 1 to {_MAX_THREADS}, got {self.threads}")
        if self.engine != "onnxruntime" and (self.spinning or not self.arena):
            raise ValueError("spinning and arena are settings of ONNX Runtime")

    def describe(self) -> str:
        """Return the setup in words."""
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        spinning = ", spinning" if self.spinning else ""
        arena = "" if self.arena else ", no arena"
        return f"{self.variant} on {self.engine}, {threads}{spinning}{arena}"

    def to_json(self) -> dict[str, Any]:
        """Return the setup as JSON values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class FoundProfile:
    """What stands beside a bundle.

    Attributes:
        place: The file.
        setup: How to run the bundle here; None where the profile is of no use.
        problem: Why it is of no use, in words; empty where it is.
    """

    place: Path
    setup: Setup | None = None
    problem: str = ""


def profile_place(bundle: Bundle) -> Path:
    """Return where a bundle's profile stands; a link's target has its own."""
    folder = bundle.path.resolve()
    return folder.with_name(f"{folder.name}.host.json")


def find_profile(bundle: Bundle) -> FoundProfile | None:
    """Read the profile beside a bundle and compare it with bundle, machine and runtimes.

    Args:
        bundle: The bundle.

    Returns:
        None where there is no profile. One that is damaged or of another bundle or machine is
        returned with its problem, for the caller to tell.
    """
    place = profile_place(bundle)
    if not place.is_file():
        return None
    try:
        if place.stat().st_size > _MAX_BYTES:
            return FoundProfile(place=place, problem="is damaged: it is too large")
        value = json.loads(place.read_bytes())
        setup = Setup(**{name: value["chosen"][name] for name in Setup.__dataclass_fields__})
        problem = _mismatch(value, bundle, setup)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        text = " ".join(str(exc).split())[:80]
        return FoundProfile(place=place, problem=f"is damaged ({type(exc).__name__}: {text})")
    return FoundProfile(place=place, setup=None if problem else setup, problem=problem)


def write_profile(bundle: Bundle, setup: Setup, rows: list[dict[str, Any]]) -> Path:
    """Write a bundle's profile for this machine; a reader sees the old one or the new one.

    Args:
        bundle: The bundle.
        setup: How to run it here.
        rows: What was measured, as JSON values.

    Returns:
        The file.

    Raises:
        HostError: It cannot be written.
    """
    place = profile_place(bundle)
    staged = place.with_name(f".{place.name}.partial-{os.getpid()}")
    value = {
        "schema_version": SCHEMA_VERSION,
        SEAL: _seal(bundle),
        "host": _here(detect_host()),
        "chosen": setup.to_json(),
        "rows": rows,
    }
    try:
        write_json(staged, value)
        with staged.open("rb") as file:
            os.fsync(file.fileno())
        staged.replace(place)
    except OSError as exc:
        staged.unlink(missing_ok=True)
        raise HostError(
            what=f"the profile '{place}' cannot be written ({exc.strerror})",
            needed="a writable folder around the bundle was expected; copy the bundle to one",
        ) from exc
    return place


def _mismatch(value: Mapping[str, Any], bundle: Bundle, setup: Setup) -> str:
    """Return why a profile is not for this bundle on this machine; empty where it is."""
    if value["schema_version"] != SCHEMA_VERSION:
        return f"has the schema version {value['schema_version']!r}, not {SCHEMA_VERSION}"
    if value[SEAL] != _seal(bundle) or bundle.manifest.variant(setup.variant) is None:
        return "was made for another state of the bundle"
    theirs = value["host"]
    for key, mine in _here(detect_host()).items():
        # Another engine's version matters only where that engine was chosen.
        if key in ENGINES and key not in ("onnxruntime", setup.engine):
            continue
        if theirs.get(key) != mine:
            return f"was made where {key} was {theirs.get(key)} and here it is {mine}"
    if setup.engine not in installed_engines():
        return f"wants {setup.engine}, which is not installed"
    return ""


def _here(host: Host) -> dict[str, str | int]:
    return {**host.to_json(), **{name: _version(name) for name in installed_engines()}}


def _version(engine: str) -> str:
    if engine == "onnxruntime":  # its package has other names for other devices
        import onnxruntime

        return str(onnxruntime.__version__)
    return version(engine)


def _seal(bundle: Bundle) -> str:
    return str(json.loads((bundle.path / MANIFEST).read_bytes())[SEAL])
