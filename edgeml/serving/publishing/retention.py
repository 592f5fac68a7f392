"""Which versions stay: so many, and always the served one and the one it can be rolled back to."""

from __future__ import annotations

import shutil
from pathlib import Path

from edgeml.serving.repository.publish import versions_in
from edgeml.serving.repository.samples import WARMUP
from edgeml.serving.repository.version_record import RETIRED, VersionRecord


def remove_versions(root: Path, served: VersionRecord, *, keep: int | None) -> tuple[int, ...]:
    """Remove the oldest versions of a model and of its parts.

    Args:
        root: The repository.
        served: The version that is served.
        keep: How many stay; None keeps all.

    Returns:
        The versions that were removed, rising.
    """
    if keep is None:
        return ()
    model = root / served.model
    retired = [path for path in (model / RETIRED).glob("*") if path.is_dir()]
    folders = [*(root / name for name in reversed(served.names)), *retired]
    for left in (path for folder in folders for path in folder.glob(".*.removed")):
        shutil.rmtree(left, ignore_errors=True)  # of a process that was killed amid this
    there = sorted(set[int]().union(*(versions_in(folder) for folder in folders)))
    may_go = [version for version in there if version not in (served.version, served.replaces)]
    gone = tuple(may_go[: max(0, len(there) - keep)])
    for version in gone:
        for folder in folders:
            _remove(folder / str(version))
            _remove(folder / WARMUP / str(version))
    return gone


def _remove(folder: Path) -> None:
    """Take a folder away in one step, so that a kill leaves no half of it under its number."""
    if folder.is_dir():
        aside = folder.parent / f".{folder.name}.removed"
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
