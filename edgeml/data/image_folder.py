"""A folder of class folders of pictures: ``class/xxx.png``."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from edgeml.core.files import sha256_of
from edgeml.data.dataset import ImageDataset
from edgeml.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff"})


def load_image_folder(folder: Path) -> ImageDataset:
    """List the pictures of a folder; nothing is decoded yet.

    Args:
        folder: Its sub-folders are the classes, in alphabetical order; hidden files and folders are
            ignored.

    Returns:
        The data set; its items are paths.

    Raises:
        DataError: The folder is missing, has fewer than two classes, a class without pictures, or
            files that cannot be read; the message counts them and names the first.
    """
    classes = _classes(folder)
    items: list[Path] = []
    targets: list[int] = []
    unreadable: list[str] = []
    digest = hashlib.sha256()
    for index, path in enumerate(classes):
        pictures = sorted(p for p in path.rglob("*") if _is_picture(p, folder))
        if not pictures:
            reason = f"the class '{path.name}' has no pictures; add some or remove its folder"
            raise DataError(source=str(folder), reason=reason)
        for picture in pictures:
            digest.update(os.fsencode(picture.relative_to(folder).as_posix()) + b"\0")
            try:
                if not picture.is_file():  # a broken link; or a pipe, which would never end
                    raise OSError(f"{picture} is not a regular file")
                digest.update(sha256_of(picture).encode())
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
    return ImageDataset(
        name=folder.name,
        labels=tuple(path.name for path in classes),
        items=items,
        targets=np.asarray(targets, dtype=np.int64),
        fingerprint=digest.hexdigest(),
        source={"kind": "folder", "path": folder.name},
    )


def _is_picture(path: Path, folder: Path) -> bool:
    """Tell by the name; what cannot be opened, such as a broken link, is reported, not left out."""
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.suffix.lower() in SUFFIXES and not hidden and not path.is_dir()


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
    for path in classes:
        if not _is_plain(path.name):
            reason = (
                f"the class folder {path.name!r} has a name that cannot be written into a label; "
                "printable Unicode was expected; rename it"
            )
            raise DataError(source=str(folder), reason=reason)
    return classes
