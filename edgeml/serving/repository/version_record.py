"""What is kept with each version, so that it can be checked and served again later.

``published.json`` holds the configurations that the version was served with and the hash of every
file; beside it ``bundle/`` is the bundle without its variants: manifest and golden values.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeml.core.bundle import MANIFEST, Bundle
from edgeml.core.files import sha256_of, write_whole
from edgeml.errors import InputError, IntegrityError
from edgeml.serving.repository.samples import WARMUP

RECORD = "published.json"
BUNDLE = "bundle"
RETIRED = ".retired"
_FORMAT = 1
_SEAL = "sha256"


@dataclass(frozen=True, kw_only=True)
class VersionRecord:
    """One version of a model and of the parts around it.

    Attributes:
        model: The model's name.
        version: The version.
        replaces: The version that was served before it, or None: where a rollback leads.
        names: The model, then its parts; what runs others comes last.
        ensembles: Those among them that run the others.
        configs: Name to path below the model's folder to text: what is served, and how.
        files: Name to path to hash: of the version's folder and of its warm-up.
    """

    model: str
    version: int
    replaces: int | None
    names: tuple[str, ...]
    ensembles: tuple[str, ...]
    configs: Mapping[str, Mapping[str, str]]
    files: Mapping[str, Mapping[str, str]]

    @property
    def fronts(self) -> tuple[str, ...]:
        """The names that callers use: the model, and what takes strings or files."""
        return (self.model, *self.ensembles)


def keep_bundle(bundle: Bundle, folder: Path) -> None:
    """Copy what checks a version later into its folder: manifest and golden values."""
    for relative in (MANIFEST, *(path for path in bundle.manifest.files if is_golden(path))):
        source = bundle.path / MANIFEST if relative == MANIFEST else bundle.checked_path(relative)
        target = folder / BUNDLE / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def is_golden(relative: str) -> bool:
    """Return whether a file of a bundle belongs to its golden values."""
    return relative.startswith("golden/")


def hashes_below(folder: Path) -> dict[str, str]:
    """Return path to hash of every file in a version's folder but the record itself."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    found = {path.relative_to(folder).as_posix(): sha256_of(path) for path in paths}
    found.pop(RECORD, None)
    return found


def write_record(folder: Path, record: VersionRecord) -> None:
    """Write the record of a version into its folder.

    Args:
        folder: The version's folder of the model itself.
        record: What to write.
    """
    values = {"format": _FORMAT, **asdict(record)}
    text = json.dumps({**values, _SEAL: _seal(values)}, indent=2, ensure_ascii=False)
    write_whole(folder / RECORD, text + "\n")


def read_record(folder: Path) -> VersionRecord:
    """Read the record of a version.

    Args:
        folder: The version's folder of the model itself.

    Raises:
        InputError: There is none: an earlier edgeml, or somebody else, made this version.
        IntegrityError: It is damaged.
    """
    path = folder / RECORD
    try:
        values = json.loads(path.read_bytes())
        seal = values.pop(_SEAL)
        if seal != _seal(values) or values.pop("format") != _FORMAT:
            raise ValueError("it has changed since it was written")
        for key in ("names", "ensembles"):
            values[key] = tuple(values[key])
        return VersionRecord(**values)
    except FileNotFoundError as exc:
        raise InputError(
            f"version {folder.name} of '{folder.parent.name}' keeps no {RECORD}; one that this "
            "edgeml published was expected; publish its bundle again",
            item=str(folder),
        ) from exc
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise IntegrityError(
            path=str(path),
            reason=f"the record of this version is damaged ({exc}); publish its bundle again",
        ) from exc


def check_files(root: Path, record: VersionRecord) -> None:
    """Compare every file of a version with its record.

    Args:
        root: The repository.
        record: The record.

    Raises:
        IntegrityError: A file is missing or has changed.
    """
    for name in record.names:
        folder = place_of(root, record.model, name, record.version)
        for relative, expected in record.files[name].items():
            path = folder / relative
            if relative.startswith(f"{WARMUP}/"):
                path = folder.parent / relative
            found = sha256_of(path) if path.is_file() else ""
            if found != expected:
                what = f"has the sha256 {found[:12]}" if found else "is missing"
                raise IntegrityError(
                    path=str(path),
                    reason=f"this file of version {record.version} {what}; {expected[:12]} was "
                    "published; take another version, or publish its bundle again",
                )


def place_of(root: Path, model: str, name: str, version: int) -> Path:
    """Return where a version of a model or part lies: parts that retired lie in the model."""
    place = root / name / str(version)
    retired = root / model / RETIRED / name / str(version)
    return retired if not place.is_dir() and retired.is_dir() else place


def _seal(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
