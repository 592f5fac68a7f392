"""Which Parquet files of a data set are its training, validation and test parts, told from names.

Only file names and the head of ``README.md`` are looked at, so that no more of a hub's set than one
configuration need be fetched. What the head declares under ``configs`` goes first; else a folder
that holds files is a configuration. A part is told by a whole word of a file's name, or of the
folders that it lies in: ``mine-test-2024.parquet``, ``plain_text/train-00000-of-00001.parquet``,
``default/validation/0000.parquet``.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from edgeml._optional import require
from edgeml.data.image_parts import PARTS, part_named
from edgeml.errors import DataError

Read = TypeVar("Read")

CARD = "README.md"
SUFFIX = ".parquet"
# Words for the test part that hubs take beside the usual ones.
_EVALUATION = {"eval": "test", "evaluation": "test"}
_BETWEEN_WORDS = re.compile(r"[-._ 0-9]+")
_SHARD = re.compile(r"(.*)-(\d+)-of-(\d+)")
_HEAD = re.compile(r"\ufeff?---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The files of one configuration of a data set, relative to the set's folder.

    Attributes:
        configuration: Its name, empty where nothing has one.
        parts: Files by part; ``train`` is always there.
        left_out: Files that fit no part, or lie beside the configuration.
        classes: Names of classes in index order by column, as the set's card gives them.
    """

    configuration: str
    parts: Mapping[str, Sequence[str]]
    left_out: Sequence[str] = ()
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def files(self) -> list[str]:
        """Return the files of all parts."""
        return [file for files in self.parts.values() for file in files]


def parquet_files(folder: Path) -> Iterable[str]:
    """Iterate over the Parquet files below a folder, relative to it; hidden ones are left out."""
    for path in folder.rglob(f"*{SUFFIX}"):
        inner = path.relative_to(folder)
        if not any(name.startswith(".") for name in inner.parts) and path.is_file():
            yield inner.as_posix()


def layout_of_folder(folder: Path, *, source: str, configuration: str = "") -> Layout:
    """Return the layout of a set on this machine.

    Args:
        folder: The set's folder.
        source: What a message calls it.
        configuration: Which one; empty takes the default.

    Raises:
        DataError: See :func:`find_layout`; or its card cannot be read.
        MissingExtraError: It has a card, and PyYAML is not installed.
    """
    card = read_card(folder / CARD, source=source)
    return find_layout(parquet_files(folder), card, source=source, configuration=configuration)


def read_card(place: Path, *, source: str) -> str:
    """Return the text of a set's card, nothing where it has none.

    Args:
        place: Its ``README.md``.
        source: What a message calls the set.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return place.read_text(encoding="utf-8") if place.is_file() else ""
    except (OSError, UnicodeError) as exc:
        reason = (
            f"{CARD} cannot be read as UTF-8 ({exc}); mend or remove it; of a hub's set, do so in "
            "a copy of it in a folder"
        )
        raise DataError(source=source, reason=reason) from exc


def find_layout(files: Iterable[str], card: str, *, source: str, configuration: str = "") -> Layout:
    """Tell the parts of a data set.

    Args:
        files: All that it has, relative to its folder; those that are not Parquet are ignored.
        card: The text of its ``README.md``, or nothing.
        source: What a message calls it.
        configuration: Which one; empty takes the default.

    Raises:
        DataError: It has no Parquet files, several configurations and no default, or files that
            are missing or fit two parts.
        MissingExtraError: It has a card, and PyYAML is not installed.
    """
    there = sorted(file for file in files if file.endswith(SUFFIX))
    if not there:
        reason = (
            "it has no Parquet files; pictures in such files were expected; save them as a folder "
            "class/xxx.png"
        )
        raise DataError(source=source, reason=reason)
    head = _head(card, source)
    declared, default = _understood(source, lambda: _declared(head.get("configs") or [], there))
    if declared:
        name = _choose(source, list(declared), configuration, default)
        parts, left_out = _declared_parts(source, declared[name])
    else:
        folders = _folders(there)
        name = _choose(source, list(folders), configuration, "")
        parts, left_out = _told_parts(source, {file: _part_of(file) for file in folders[name]})
        if not name:
            left_out += [file for file in there if file not in folders[""]]
    _check_shards(source, [file for part in parts.values() for file in part])
    classes = _understood(source, lambda: _card_classes(head, name))
    return Layout(configuration=name, parts=parts, left_out=left_out, classes=classes)


def _head(card: str, source: str) -> dict[str, Any]:
    """Return the YAML head of a card; nothing where it has none."""
    found = _HEAD.match(card)
    if found is None:
        return {}
    require("yaml", extra="tables")
    yaml: Any = importlib.import_module("yaml")
    try:
        head = yaml.safe_load(found.group(1))
    except yaml.YAMLError as exc:
        reason = f"the head of {CARD} is no YAML ({exc}); mend or remove it"
        raise DataError(source=source, reason=" ".join(reason.split())) from exc
    return head if isinstance(head, dict) else {}


def _understood(source: str, read: Callable[[], Read]) -> Read:
    """Return what is read from a card's head, whatever somebody has written into it."""
    try:
        return read()
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        reason = (
            f"the head of {CARD} is not understood ({exc!r}); 'configs' with config_name and "
            "data_files, and 'dataset_info', as hubs have them, were expected; mend or remove it"
        )
        raise DataError(source=source, reason=reason) from exc


def _choose(source: str, names: Sequence[str], wanted: str, default: str) -> str:
    if wanted in names and wanted:
        return wanted
    if not wanted and len(names) == 1:
        return names[0]
    for name in (default, "default") if default else ("", "default"):
        if not wanted and name in names:
            return name
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    told = (", ".join(name for name in names[:_NAMED] if name) or "none has a name") + more
    what = f"no configuration '{wanted}'" if wanted else "several configurations and no default"
    reason = (
        f"it has {what}: {told}; one was expected; choose it as NAME:CONFIGURATION of a hub's set, "
        "or give the folder with the files of one"
    )
    raise DataError(source=source, reason=reason)


def _declared(
    configs: Sequence[Any], there: Sequence[str]
) -> tuple[dict[str, dict[str, list[str]]], str]:
    """Return the files of each split of each configuration of a card, and the default one's name.

    A split whose name is empty has files that tell their parts themselves.
    """
    declared = {}
    default = ""
    for config in configs:
        base = PurePosixPath(config.get("data_dir") or "")
        splits: dict[str, list[str]] = {}
        for split, patterns in _patterns(config.get("data_files")):
            wanted = [(base / pattern).parts for pattern in patterns]
            splits[split] = [
                file for file in there
                if any(_fits(PurePosixPath(file).parts, pattern) for pattern in wanted)
            ]  # fmt: skip
        name = str(config.get("config_name", "default"))
        declared[name] = splits
        default = name if config.get("default") else default
    return declared, default


def _patterns(given: Any) -> list[tuple[str, list[str]]]:
    """Return the patterns of each split, in the forms that a card may have them in."""
    if given is None:
        return [("", ["**"])]
    if isinstance(given, str):
        given = [given]
    if isinstance(given, list) and all(isinstance(one, str) for one in given):
        return [("train", given)]
    pairs = given.items() if isinstance(given, dict) else [(o["split"], o["path"]) for o in given]
    return [(str(name), [one] if isinstance(one, str) else list(one)) for name, one in pairs]


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether a path fits a pattern; ``*`` stays within a folder, ``**`` does not."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_fits(parts[start:], pattern[1:]) for start in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


def _declared_parts(
    source: str, splits: Mapping[str, Sequence[str]]
) -> tuple[dict[str, list[str]], list[str]]:
    part_of: dict[str, str | None] = {}
    for split, files in splits.items():
        if not files and _part_in(split):
            reason = (
                f"{CARD} names a part '{split}' that has no Parquet files here; all were expected; "
                f"fetch them, or take the part out of {CARD}"
            )
            raise DataError(source=source, reason=reason)
        for file in files:
            part = _part_in(split) if split else _part_of(file)
            if part_of.setdefault(file, part) != part:
                reason = f"{CARD} puts {file} into two parts; one was expected; mend it"
                raise DataError(source=source, reason=reason)
    if not part_of:
        reason = (
            f"the files that {CARD} names are not here, or not Parquet; pictures in such files "
            "were expected; fetch them, or save the pictures as a folder class/xxx.png"
        )
        raise DataError(source=source, reason=reason)
    return _told_parts(source, part_of)


def _folders(files: Sequence[str]) -> dict[str, list[str]]:
    """Return the files of each folder that is a configuration: above ``data`` and the parts."""
    found: dict[str, list[str]] = {}
    for file in files:
        names: list[str] = []
        for name in PurePosixPath(file).parent.parts:
            if _words_of(name):
                break
            names.append(name)
        found.setdefault("/".join(name for name in names if name != "data"), []).append(file)
    return found


def _part_of(file: str) -> str | None:
    """Return the part that a file's name tells, or the innermost folder whose name does."""
    path = PurePosixPath(file)
    for name in (path.stem, *reversed(path.parent.parts)):
        if _words_of(name):
            return _part_in(name)
    return None


def _part_in(name: str) -> str | None:
    """Return the part that a name tells; None where it tells none, or several."""
    told = _words_of(name)
    return told.pop() if len(told) == 1 else None


def _words_of(name: str) -> set[str]:
    words = _BETWEEN_WORDS.split(name.lower())
    return {part for word in words if (part := part_named(word) or _EVALUATION.get(word))}


def _told_parts(
    source: str, part_of: Mapping[str, str | None]
) -> tuple[dict[str, list[str]], list[str]]:
    """Return the files by part, and those of none; where no file tells one, all are one part."""
    parts = {part: [file for file in part_of if part_of[file] == part] for part in PARTS}
    parts = {part: sorted(files) for part, files in parts.items() if files}
    loose = sorted(file for file in part_of if part_of[file] is None)
    if not parts:
        parts, loose = {"train": loose}, []
    if "train" in parts:
        return parts, loose
    if len(parts) == 1 and not loose:
        return {"train": next(iter(parts.values()))}, []  # a part alone is a set of its own
    reason = (
        f"it has files for {' and '.join(parts)} and none whose name has the word 'train'"
        f"{', as ' + loose[0] if loose else ''}; a training part was expected; name its files "
        "train-....parquet"
    )
    raise DataError(source=source, reason=reason)


def _check_shards(source: str, files: Sequence[str]) -> None:
    """Refuse a part of which not all numbered files are there, as after a broken download."""
    numbers: dict[tuple[str, int], set[int]] = {}
    for file in files:
        found = _SHARD.match(file)
        if found:
            name, number, total = found.groups()
            numbers.setdefault((name, int(total)), set()).add(int(number))
    for (name, total), there in numbers.items():
        if len(there) < total:
            reason = (
                f"{total - len(there)} of the {total} files {name}-...-of-{total:05}{SUFFIX} are "
                "not there; all were expected; fetch them again"
            )
            raise DataError(source=source, reason=reason)


def _card_classes(head: Mapping[str, Any], configuration: str) -> dict[str, tuple[str, ...]]:
    """Return the names of classes that a card gives, by column."""
    infos = head.get("dataset_info") or []
    infos = [infos] if isinstance(infos, dict) else infos
    fitting = [
        info for info in infos if len(infos) == 1 or info.get("config_name") == configuration
    ]
    found = {}
    for feature in fitting[0].get("features") or [] if fitting else []:
        kind = feature.get("dtype")
        if isinstance(kind, dict) and isinstance(kind.get("class_label"), dict):
            found[str(feature.get("name"))] = named_classes(kind["class_label"].get("names"))
    return found


def named_classes(given: Any) -> tuple[str, ...]:
    """Return names of classes in index order, from a list or from a mapping of numbers."""
    if isinstance(given, dict):
        return tuple(str(given[key]) for key in sorted(given, key=int))
    return tuple(str(name) for name in given or ())
