"""The picture files of a folder to predict on, in an order that stays the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgeml.data.image_folder import SUFFIXES


def picture_files(folder: Path) -> list[Path]:
    """Return a folder's pictures and those of its sub-folders, sorted by path.

    Args:
        folder: Hidden files and folders are left out, as are files with other endings; links to
            folders are not followed, so that a loop of them ends.
    """
    return sorted(_walk(folder))


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if not path.is_symlink():
                yield from _walk(path)
        elif path.suffix.lower() in SUFFIXES:
            yield path
