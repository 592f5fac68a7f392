"""The picture files of a folder, in an order that stays the same, and what is passed over.

Names alone decide what a picture is. Links to folders are not followed, so that a loop of them
ends; links to files are files.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeml.core.files import sha256_of
from edgeml.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff"})
_NAMED = 5


@dataclass(kw_only=True)
class PassedOver:
    """What is in a folder and is no picture to use.

    Attributes:
        hidden: Hidden files, and files of hidden folders.
        endings: Files with other endings than a picture's, counted by ending.
        others: The paths of those files.
        links: The paths of linked folders.
    """

    hidden: int = 0
    endings: Counter[str] = field(default_factory=Counter)
    others: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)

    def add(self, other: PassedOver) -> None:
        """Add what was passed over elsewhere."""
        self.hidden += other.hidden
        self.endings += other.endings
        self.others += other.others
        self.links += other.links

    def note_other(self, path: Path, name: str) -> None:
        """Add a file with another ending."""
        self.endings[path.suffix.lower() or "no ending"] += 1
        self.others.append(name)

    def words(self) -> str:
        """Return it as words for people; nothing where nothing was passed over."""
        words = []
        if self.others:
            common = [ending for ending, _ in self.endings.most_common(_NAMED)]
            more = ", …" if len(self.endings) > _NAMED else ""
            files = _counted(len(self.others), "file")
            words.append(f"{files} with another ending ({', '.join(common)}{more})")
        if self.hidden:
            words.append(_counted(self.hidden, "hidden file"))
        if self.links:
            words.append(f"{_counted(len(self.links), 'linked folder')} (links are not followed)")
        return ", ".join(words)

    def to_json(self) -> dict[str, Any]:
        """Return the counts as JSON values; only those that are not nothing."""
        found: dict[str, Any] = {"hidden_files": self.hidden} if self.hidden else {}
        if self.others:
            found |= {"other_files": len(self.others), "first_other_files": self.others[:_NAMED]}
        if self.links:
            found |= {"linked_folders": len(self.links), "first_linked": self.links[:_NAMED]}
        return found


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def picture_files(folder: Path) -> list[Path]:
    """Return a folder's pictures and those of its sub-folders, sorted by path.

    Args:
        folder: Hidden files and folders are left out, as are files with other endings.

    Raises:
        DataError: A folder cannot be listed.
    """
    return find_pictures(folder)[0]


def find_pictures(folder: Path, *, root: Path | None = None) -> tuple[list[Path], PassedOver]:
    """Return a folder's pictures, sorted by path, and what was passed over.

    Args:
        folder: See :func:`picture_files`.
        root: What names of passed-over files start from; None takes the folder.

    Raises:
        DataError: A folder cannot be listed.
    """
    root = folder if root is None else root
    found: list[Path] = []
    over = PassedOver()
    for path in _walked(folder):
        name = path.relative_to(root).as_posix()
        if path.name.startswith("."):
            over.hidden += hidden_files(path)
        elif is_folder(path):
            over.links.append(name)
        elif is_picture(path):
            found.append(path)
        else:
            over.note_other(path, name)
    return sorted(found), over


def holds_pictures(folder: Path) -> bool:
    """Return whether a folder or one of its sub-folders has a picture.

    Raises:
        DataError: A folder cannot be listed.
    """
    return any(
        is_picture(path) and not path.name.startswith(".") and not is_folder(path)
        for path in _walked(folder)
    )


def _walked(folder: Path) -> Iterator[Path]:
    """Yield all that is in a folder and its sub-folders but what is in hidden or linked ones."""
    waiting = [folder]
    while waiting:
        for path in listed(waiting.pop()):
            if is_folder(path) and not path.is_symlink() and not path.name.startswith("."):
                waiting.append(path)
            else:
                yield path


def is_picture(path: Path) -> bool:
    """Return whether a file's ending is a picture's."""
    return path.suffix.lower() in SUFFIXES


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder's, whatever its name; one that is closed to us is none."""
    try:
        return path.is_dir()
    except OSError:  # too long a name, or a folder above it that is closed
        return False


def hidden_files(path: Path) -> int:
    """Return how many files a hidden file or folder is."""
    if path.is_symlink() or not is_folder(path):
        return 1
    return sum(len(names) for _, _, names in os.walk(path))


def contents_hash(path: Path, name: str) -> str:
    """Return the sha256 of a file; one of its name where it cannot be read, as a copy of none."""
    try:
        if path.is_file():  # a pipe would never end
            return sha256_of(path)
    except OSError:
        pass
    return hashlib.sha256(b"unreadable\0" + os.fsencode(name)).hexdigest()


def listed(folder: Path) -> list[Path]:
    """Return what is in a folder, sorted.

    Raises:
        DataError: It cannot be listed.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as exc:
        reason = (
            f"this folder cannot be listed ({exc.strerror or exc}); one that may be read was "
            "expected; mend its permissions or move it away"
        )
        raise DataError(source=str(folder), reason=reason) from exc
