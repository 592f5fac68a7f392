"""A folder of class folders of pictures, ``class/xxx.png``, or of parts that hold such folders."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeml.data.class_names import is_plain
from edgeml.data.dataset import ImageDataset
from edgeml.data.image_parts import class_folders, part_folders, sub_folders
from edgeml.data.image_tables import GROUPS, read_groups
from edgeml.data.picture_files import (
    SUFFIXES,
    PassedOver,
    contents_hash,
    find_pictures,
    hidden_files,
    is_folder,
    is_picture,
    listed,
)
from edgeml.errors import DataError

_NAMED = 5


def load_image_folder(folder: Path, *, groups: Path | None = None) -> ImageDataset:
    """List the pictures of a folder; nothing is decoded yet.

    Args:
        folder: Its sub-folders are the classes, in alphabetical order; or they are parts (train,
            validation, test, and words for them), and theirs are the classes. Hidden files, files
            with other endings and linked sub-folders are left out, and counted.
        groups: Table with the columns ``file`` and ``group``; None takes ``groups.csv`` of the
            folder, where there is one.

    Returns:
        The data set; its items are paths. A file that cannot be opened is one too: what is wrong
        with it is told where the pictures are prepared.

    Raises:
        DataError: The folder is missing, has fewer than two classes, a class without pictures, a
            class that the training part lacks, or a link into itself. Or the groups do not fit the
            pictures.
    """
    _check_folder(folder)
    parts = part_folders(folder)
    roots = parts or {"train": folder}
    names = _class_names(roots["train"])
    for part, root in parts.items():
        if part != "train":
            _check_known(part, root, names)
    odd = PassedOver()
    items: list[Path] = []
    targets: list[int] = []
    of_part: dict[str, list[int]] = {part: [] for part in roots}
    for part, root in roots.items():
        for index, name in enumerate(names):
            pictures = _pictures_of(root / name, folder, odd, required=part == "train")
            of_part[part].extend(range(len(items), len(items) + len(pictures)))
            items.extend(pictures)
            targets.extend([index] * len(pictures))
    fingerprint, hashes = _hashed(items, folder)
    table = groups or (folder / GROUPS if (folder / GROUPS).is_file() else None)
    numbers, foreign = (None, 0) if table is None else read_groups(table, folder, items)
    loose = _count_loose(folder, [folder, *parts.values()], odd)
    counts = {"loose_pictures": loose, "group_rows_of_no_picture": foreign}
    fixed = {part: np.array(found, dtype=np.int64) for part, found in of_part.items()}
    return ImageDataset(
        name=folder.name,
        labels=tuple(names),
        items=items,
        targets=np.asarray(targets, dtype=np.int64),
        fingerprint=fingerprint,
        source={"kind": "folder", "path": folder.name},
        fixed_validation=fixed.get("validation"),
        fixed_test=fixed.get("test"),
        groups=numbers,
        hashes=hashes,
        odd=odd.to_json() | {name: count for name, count in counts.items() if count},
    )


def _check_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    what = "is no folder" if folder.exists() else "does not exist"
    reason = f"this {what}; a folder of class folders was expected; check the path"
    raise DataError(source=str(folder), reason=reason)


def _class_names(root: Path) -> list[str]:
    """Return the names of the class folders, or say why these cannot be classes."""
    classes = sub_folders(root)
    if len(classes) < 2:
        names = ", ".join(path.name for path in classes) or "none"
        advice = "arrange the pictures as class/xxx.png"
        if classes and len(class_folders(classes[0])) > 1:
            advice = f"it holds class folders itself: name '{classes[0]}' as --data"
        reason = (
            f"a classifier needs at least two classes, each a folder of pictures; found {names}; "
            f"{advice}"
        )
        raise DataError(source=str(root), reason=reason)
    for path in classes:
        _check_link(root, path)
        if not is_plain(path.name):
            reason = (
                f"the class folder {path.name!r} has a name that cannot be written into a label; "
                "Unicode without control characters was expected; rename it"
            )
            raise DataError(source=str(root), reason=reason)
    return [path.name for path in classes]


def _check_link(root: Path, path: Path) -> None:
    if path.is_symlink() and root.resolve().is_relative_to(path.resolve()):
        reason = (
            f"the class folder '{path.name}' is a link to a folder that holds this one; class "
            "folders of pictures were expected; remove the link"
        )
        raise DataError(source=str(root), reason=reason)


def _check_known(part: str, root: Path, names: Sequence[str]) -> None:
    """Refuse a part with classes that the training part does not have."""
    classes = class_folders(root)
    for path in classes:
        _check_link(root, path)
    foreign = [path.name for path in classes if path.name not in names]
    if foreign:
        more = f" and {len(foreign) - _NAMED} more" if len(foreign) > _NAMED else ""
        reason = (
            f"the {part} part has classes that the training part lacks: "
            f"{', '.join(foreign[:_NAMED])}{more}; pictures of each class to train on were "
            "expected; add some, or remove these folders"
        )
        raise DataError(source=str(root), reason=reason)


def _pictures_of(path: Path, folder: Path, odd: PassedOver, *, required: bool) -> list[Path]:
    """Return the pictures of a class, and add what was passed over to ``odd``."""
    if not required and not is_folder(path):
        return []
    pictures, over = find_pictures(path, root=folder)
    odd.add(over)
    if required and not pictures:
        holds = over.words() or "nothing at all"
        reason = (
            f"the class '{path.name}' has no pictures: its folder holds {holds}; files ending in "
            f"{', '.join(sorted(SUFFIXES))} were expected; add some or remove its folder"
        )
        raise DataError(source=str(folder), reason=reason)
    return pictures


def _hashed(items: Sequence[Path], folder: Path) -> tuple[str, npt.NDArray[np.uint64]]:
    """Return the fingerprint of names and contents, and uint64 ``(samples,)`` of the contents."""
    digest = hashlib.sha256()
    hashes = np.empty(len(items), dtype=np.uint64)
    for index, item in enumerate(items):
        name = item.relative_to(folder).as_posix()
        contents = contents_hash(item, name)
        digest.update(os.fsencode(name) + b"\0" + contents.encode())
        hashes[index] = int(contents[:16], 16)
    return digest.hexdigest(), hashes


def _count_loose(folder: Path, roots: Iterable[Path], odd: PassedOver) -> int:
    """Count the pictures beside class folders, and add the other files there to ``odd``."""
    loose = 0
    for root in roots:
        for path in listed(root):
            name = path.relative_to(folder).as_posix()
            if path.name.startswith("."):
                odd.hidden += hidden_files(path)
            elif is_folder(path) or name == GROUPS:
                continue
            elif is_picture(path):
                loose += 1
            else:
                odd.note_other(path, name)
    return loose
