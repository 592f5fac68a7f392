"""Files that are whole or absent: hashes, safe paths, folders that are staged and then renamed.

Anything that edgeml leaves on disk for others goes through :func:`staged_folder`, so a process
killed at any moment leaves the old folder or the new one, never half of either.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from edgeml.errors import InputError, IntegrityError

_CHUNK_BYTES = 1 << 20
# What this process stages now. A container gives its processes the same numbers again and again: a
# name with our own number that is not among these was left by one before us.
_OURS: set[str] = set()


def sha256_of(path: Path) -> str:
    """Return the hexadecimal sha256 of a file, read in constant memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as readable JSON, keys in their given order, NaN refused."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def inside(root: Path, relative: str) -> Path:
    """Resolve a relative path from a manifest, refusing any that leaves its folder.

    Args:
        root: The folder that the path must stay in.
        relative: A POSIX path from an untrusted file.

    Returns:
        The path below ``root``; it need not exist.

    Raises:
        IntegrityError: The path is absolute, climbs out, or reaches outside through a symbolic
            link.
    """
    pure = PurePosixPath(relative)
    path = root / pure
    if (
        not relative
        or pure.is_absolute()
        or ".." in pure.parts
        or "\\" in relative
        or not relative.isprintable()
        or not _resolves_inside(root, path)
    ):
        raise IntegrityError(
            path=str(root),
            reason=f"the path {relative!r} leaves the folder; only files inside it are opened; "
            "do not use this bundle",
        )
    return path


def _resolves_inside(root: Path, path: Path) -> bool:
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a loop of symbolic links; its type depends on the Python
        return False


def check_place(place: Path, *, marker: str, kind: str) -> None:
    """Refuse a place for a folder before the work that would fill it.

    Args:
        place: Where the folder shall stand.
        marker: File that a folder of this kind has, so that it may be replaced.
        kind: What the folder is, for messages.

    Raises:
        InputError: ``place`` is something else, or nothing can be written there.
    """
    if place.exists() and not (
        place.is_dir() and ((place / marker).is_file() or not any(place.iterdir()))
    ):
        raise InputError(
            f"this exists and is not a {kind}; a {kind} or a new place was expected; "
            "choose another --out or move it away",
            item=str(place),
        )
    above = place.absolute().parent
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise InputError(
            f"no folder can be written in '{above}'; a writable place was expected; "
            "choose another --out",
            item=str(place),
        )


@contextlib.contextmanager
def staged_folder(place: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``place`` that becomes ``place`` if the block succeeds.

    An existing folder at ``place`` is replaced only then. On an error the staged folder is
    removed; after a kill it remains under a dotted name that nothing loads, and the next staging
    beside it clears it.

    Args:
        place: Where the finished folder shall stand.
    """
    place = place.absolute()
    place.parent.mkdir(parents=True, exist_ok=True)
    recover_folder(place)
    token = _token()
    staged = place.parent / f".{place.name}.partial-{token}"
    _OURS.add(token)
    try:
        staged.mkdir()
        yield staged
        sync_tree(staged)
        _swap(staged, place, aside=place.parent / f".{place.name}.old-{token}")
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        _OURS.discard(token)


def remove_folder(place: Path) -> None:
    """Remove a folder: at any moment it is there whole or not there.

    Args:
        place: The folder; nothing happens where it is not there. A kill leaves a dotted name, which
            the next staging beside it clears.
    """
    place = place.absolute()
    if not place.exists():
        return
    aside = place.rename(place.parent / f".{place.name}.partial-{_token()}")
    shutil.rmtree(aside, ignore_errors=True)


def _token() -> str:
    return f"{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _swap(staged: Path, place: Path, *, aside: Path) -> None:
    if not place.exists():
        staged.rename(place)
    else:
        place.rename(aside)
        try:
            staged.rename(place)
        except OSError:
            aside.rename(place)
            raise
        if aside.is_symlink():  # the link is replaced; what it pointed to is somebody else's
            aside.unlink()
        else:
            shutil.rmtree(aside, ignore_errors=True)
    _sync(place.parent)


def recover_folder(place: Path) -> None:
    """Put back what a kill between two renames had set aside, and clear what killed ones staged.

    :func:`staged_folder` does so itself. Whoever looks for a folder that a killed process may have
    been replacing calls it first, or may find none.

    Args:
        place: Where the folder stands.
    """
    place = place.absolute()
    for left in place.parent.glob(f".{glob.escape(place.name)}.*-*-*"):
        kind, _, token = left.name.removeprefix(f".{place.name}.").partition("-")
        pid = token.partition("-")[0]
        if kind not in ("partial", "old") or not pid.isdigit() or _is_staging(int(pid), token):
            continue
        if kind == "old" and not place.exists():
            left.rename(place)
        else:
            shutil.rmtree(left, ignore_errors=True)


def _is_staging(pid: int, token: str) -> bool:
    if pid == os.getpid():
        return token in _OURS
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def write_whole(path: Path, contents: str | bytes) -> None:
    """Write a file beside its place, put it on disk, and put it in place in one step.

    Args:
        path: Its place; folders above it are made.
        contents: What it shall hold.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    pending = path.parent / f".{path.name}.partial"
    with pending.open("wb") as file:
        file.write(contents if isinstance(contents, bytes) else contents.encode())
        file.flush()
        os.fsync(file.fileno())
    pending.replace(path)
    _sync(path.parent)


def move(source: Path, target: Path) -> None:
    """Rename a file or folder to a place where nothing is, and put both names on disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
    for folder in {source.parent, target.parent}:
        _sync(folder)


def link_tree(source: Path, target: Path) -> None:
    """Make a folder with the same files as another: hard links, or copies where there are none."""
    for folder, _, names in os.walk(source):
        place = target / Path(folder).relative_to(source)
        place.mkdir(parents=True, exist_ok=True)
        for name in names:
            try:
                os.link(Path(folder) / name, place / name)
            except OSError:
                shutil.copyfile(Path(folder) / name, place / name)


def sync_tree(root: Path) -> None:
    """Put every file and folder below a folder on disk, itself included."""
    for folder, _, names in os.walk(root):
        for name in names:
            _sync(Path(folder) / name)
        _sync(Path(folder))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
