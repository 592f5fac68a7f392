"""A folder of class folders of pictures: ``class/xxx.png``."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgeml.core.files import sha256_of
from edgeml.data.dataset import ImageDataset
from edgeml.data.image_tables import GROUPS, read_groups
from edgeml.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff"})
_NAMED = 5


def load_image_folder(folder: Path, *, groups: Path | None = None) -> ImageDataset:
    """List the pictures of a folder; nothing is decoded yet.

    Args:
        folder: Its sub-folders are the classes, in alphabetical order; hidden files and folders are
            ignored, files with other endings too, and both are counted.
        groups: Table with the columns ``file`` and ``group``; None takes ``groups.csv`` of the
            folder, where there is one.

    Returns:
        The data set; its items are paths.

    Raises:
        DataError: The folder is missing, has fewer than two classes, a class without pictures, a
            link into itself, or files that cannot be read; the message counts them and names the
            first. Or the groups do not fit the pictures.
    """
    classes = _classes(folder)
    items: list[Path] = []
    targets: list[int] = []
    hashes: list[int] = []
    odd = _Odd()
    unreadable: list[str] = []
    digest = hashlib.sha256()
    for index, path in enumerate(classes):
        pictures = sorted(p for p in path.rglob("*") if odd.is_picture(p, folder))
        if not pictures:
            reason = f"the class '{path.name}' has no pictures; add some or remove its folder"
            raise DataError(source=str(folder), reason=reason)
        for picture in pictures:
            digest.update(os.fsencode(picture.relative_to(folder).as_posix()) + b"\0")
            try:
                if not picture.is_file():  # a broken link; or a pipe, which would never end
                    raise OSError(f"{picture} is not a regular file")
                contents = sha256_of(picture)
                digest.update(contents.encode())
                hashes.append(int(contents[:16], 16))
            except OSError as exc:
                unreadable.append(str(exc))
        items.extend(pictures)
        targets.extend([index] * len(pictures))
    if unreadable:
        reason = (
            f"{len(unreadable)} of {len(items)} pictures cannot be read, first: {unreadable[0]}; "
            "mend or remove them"
        )
        raise DataError(source=str(folder), reason=reason)
    table = groups or (folder / GROUPS if (folder / GROUPS).is_file() else None)
    numbers, foreign = (None, 0) if table is None else read_groups(table, folder, items)
    return ImageDataset(
        name=folder.name,
        labels=tuple(path.name for path in classes),
        items=items,
        targets=np.asarray(targets, dtype=np.int64),
        fingerprint=digest.hexdigest(),
        source={"kind": "folder", "path": folder.name},
        groups=numbers,
        hashes=np.array(hashes, dtype=np.uint64),
        odd=odd.to_json() | ({"group_rows_of_no_picture": foreign} if foreign else {}),
    )


@dataclass(kw_only=True)
class _Odd:
    """Files that were left out, by kind, and the first few of them."""

    hidden: int = 0
    other: list[str] = field(default_factory=list)

    def is_picture(self, path: Path, folder: Path) -> bool:
        """Tell by the name; what cannot be opened, as a broken link, is reported, not left out."""
        if path.is_dir():
            return False
        inner = path.relative_to(folder)
        if any(part.startswith(".") for part in inner.parts):
            self.hidden += 1
            return False
        if path.suffix.lower() not in SUFFIXES:
            self.other.append(inner.as_posix())
            return False
        return True

    def to_json(self) -> dict[str, Any]:
        """Return the counts as JSON values; only those that are not nothing."""
        found: dict[str, Any] = {"hidden_files": self.hidden} if self.hidden else {}
        if self.other:
            found |= {"other_files": len(self.other), "first_other_files": self.other[:_NAMED]}
        return found


def _is_plain(name: str) -> bool:
    """Return whether a name can be a label: one line, and valid Unicode."""
    return name.isprintable()


def _classes(folder: Path) -> list[Path]:
    """Return the class folders, or say why these cannot be classes."""
    if not folder.is_dir():
        reason = (
            "this folder does not exist; a folder of class folders was expected; check the path"
        )
        raise DataError(source=str(folder), reason=reason)
    classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(classes) < 2:
        names = ", ".join(path.name for path in classes) or "none"
        reason = (
            f"a classifier needs at least two classes, each a folder of pictures; found {names}; "
            "arrange the pictures as class/xxx.png"
        )
        raise DataError(source=str(folder), reason=reason)
    root = folder.resolve()
    for path in classes:
        if root.is_relative_to(path.resolve()):
            reason = (
                f"the class folder '{path.name}' is a link to a folder that holds this one; class "
                "folders of pictures were expected; remove the link"
            )
            raise DataError(source=str(folder), reason=reason)
        if not _is_plain(path.name):
            reason = (
                f"the class folder {path.name!r} has a name that cannot be written into a label; "
                "printable Unicode was expected; rename it"
            )
            raise DataError(source=str(folder), reason=reason)
    return classes
