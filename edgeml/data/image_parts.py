"""Parts that data defines itself: their names, and what a report says of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeml.data.dataset import ImageDataset, Split
from edgeml.data.picture_files import holds_pictures, is_folder, listed
from edgeml.errors import DataError

PARTS = ("train", "validation", "test")
_OTHER_NAMES = {
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "testing": "test",
}
_NAMED = 5


def part_named(name: str) -> str | None:
    """Return the part that a word stands for, in any case of letters, or None.

    >>> part_named("Val"), part_named("holdout")
    ('validation', None)
    """
    word = name.strip().casefold()
    word = _OTHER_NAMES.get(word, word)
    return word if word in PARTS else None


def sub_folders(folder: Path) -> list[Path]:
    """Return the folders in a folder that are not hidden, sorted.

    Raises:
        DataError: It cannot be listed.
    """
    return [path for path in listed(folder) if is_folder(path) and not path.name.startswith(".")]


def class_folders(folder: Path) -> list[Path]:
    """Return the sub-folders with pictures in them or below them.

    Raises:
        DataError: A folder cannot be listed.
    """
    return [path for path in sub_folders(folder) if holds_pictures(path)]


def part_folders(folder: Path) -> dict[str, Path]:
    """Return the folder of each part where the sub-folders are parts, not classes.

    They are where all of them have names of parts, ``train`` and another at least, and each holds
    class folders with pictures. A ``train`` of two or more class folders is never taken for a class
    beside another folder with a part's name.

    Returns:
        Part to its folder, ``train`` first; empty where the sub-folders are no parts.

    Raises:
        DataError: Two folders are for one part, or some folders are parts and others are not.
    """
    folders = sub_folders(folder)
    named = [path for path in folders if part_named(path.name)]
    if len(named) < 2 or "train" not in {part_named(path.name) for path in named}:
        return {}
    parts = [path for path in named if class_folders(path)]
    names = [part_named(path.name) for path in parts]
    if "train" not in names:
        return {}
    if len(parts) < 2 and len(named) < len(folders) and len(class_folders(parts[0])) < 2:
        return {}
    rest = [path.name for path in folders if path not in parts]
    if rest:
        held = ", ".join(path.name for path in parts)
        reason = (
            f"there are class folders in {held}, as in parts of a data set, and "
            f"{', '.join(rest[:_NAMED])} cannot be another part; class folders of pictures in each "
            "of train, validation and test, and nothing beside them, were expected; name one of "
            "them as --data, or move the others away"
        )
        raise DataError(source=str(folder), reason=reason)
    if len(set(names)) < len(names):
        reason = (
            f"two of its folders are for one part: {', '.join(path.name for path in parts)}; one "
            "each for train, validation and test was expected; put them together"
        )
        raise DataError(source=str(folder), reason=reason)
    found = dict(zip(names, parts, strict=True))
    return {part: found[part] for part in PARTS if part in found}


def own_parts(dataset: ImageDataset, split: Split) -> dict[str, Any]:
    """Say which parts are the data's own and which of its classes they lack, as JSON values.

    Args:
        dataset: What was split.
        split: Its parts.

    Returns:
        ``own_parts``; ``drawn_parts``, the others that were drawn from what the data left for them;
        ``lacking_classes``, part to names of classes; empty where the data defines no part.
    """
    fixed = {"validation": dataset.fixed_validation, "test": dataset.fixed_test}
    own = [name for name, part in fixed.items() if part is not None]
    if not own and dataset.fixed_train is None:
        return {}
    if dataset.fixed_train is not None or len(own) == len(fixed):
        own.insert(0, "train")
    lacking = {}
    for name in own:
        held = set(np.unique(dataset.targets[getattr(split, name)]).tolist())
        lacking[name] = [label for at, label in enumerate(dataset.labels) if at not in held]
    return {
        "own_parts": own,
        "drawn_parts": [name for name in fixed if name not in own],
        "lacking_classes": {name: labels for name, labels in lacking.items() if labels},
    }


def parts_words(findings: Mapping[str, Any]) -> list[str]:
    """Return what :func:`own_parts` found as words for people."""
    if not findings.get("own_parts"):
        return []
    words = [f"the data's own parts are used: {', '.join(findings['own_parts'])}"]
    if findings["drawn_parts"]:
        rest = "pictures of no part" if "train" in findings["own_parts"] else "training pictures"
        words[0] += f" ({', '.join(findings['drawn_parts'])} drawn from the {rest})"
    for part, labels in findings["lacking_classes"].items():
        more = f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
        words.append(f"its {part} part lacks the classes {', '.join(labels[:_NAMED])}{more}")
    return words
