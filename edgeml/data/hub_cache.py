"""A hub's data set on this machine: a copy that is known to be whole, else the hub's, at once.

Only Parquet files and ``README.md`` are fetched; no loading script is ever run. A set that is not
kept as Parquet is taken from the branch where the hub keeps its own conversion.

A download may be killed after any file, and the hub's client does not know what a copy lacks. So
the names of all files that the set has are noted beside its copies, for each revision, before any
of them is fetched; a copy without such a record is used only where the hub cannot be asked, with a
warning.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import importlib
import json
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from edgeml._optional import require
from edgeml.core.answering import answer_within
from edgeml.core.files import write_whole
from edgeml.data.hub_layout import CARD, SUFFIX, Layout, find_layout, layout_of_folder, read_card
from edgeml.errors import DataError, HostError

# The hub is asked for this long at most; a download that has begun may take its time.
_ANSWER_TIMEOUT_S = 3.5
_BRANCHES = ("main", "refs/convert/parquet")
_NOT_SHOWN = ("RepositoryNotFoundError", "GatedRepoError")
# What the system says of disks and folders; a broken connection has other numbers, or none.
_OF_THE_DISK = frozenset({
    errno.EACCES, errno.EDQUOT, errno.EEXIST, errno.EFBIG, errno.EIO, errno.EISDIR, errno.EMFILE,
    errno.ENAMETOOLONG, errno.ENOENT, errno.ENOSPC, errno.ENOTDIR, errno.EPERM, errno.EROFS,
})  # fmt: skip


def fetch_hub_data(data: str) -> tuple[Path, Layout]:
    """Return a data set's folder in the local cache, and which files are what.

    Args:
        data: Such as ``owner/name``, or ``owner/name:configuration``.

    Raises:
        DataError: The hub cannot be reached or has no such set, the download broke off, or its
            files are unfit.
        HostError: The disk cannot take its files.
        MissingExtraError: huggingface_hub is not installed.
    """
    require("huggingface_hub", extra="hf")
    hub: Any = importlib.import_module("huggingface_hub")
    name, _, configuration = data.partition(":")
    unfit = ""
    unchecked: tuple[Path, Layout] | None = None
    for folder in _copies(hub, name):
        files = _recorded(folder)
        try:
            if files is not None:
                return folder, _whole_layout(folder, files, data, configuration)
            layout = layout_of_folder(folder, source=data, configuration=configuration)
            unchecked = unchecked or (folder, layout)
        except DataError as exc:  # perhaps only part of it was fetched
            unfit = unfit or exc.reason
    try:
        branch, info = answer_within(_ANSWER_TIMEOUT_S, lambda: _branch_with_files(hub, data, name))
    except DataError:
        raise
    except Exception as exc:  # sockets, proxies, TLS and two HTTP libraries each have their own
        why = f"the hub cannot be reached ({type(exc).__name__})"
        if type(exc).__name__ in _NOT_SHOWN:
            why = "the hub has no such data set, or shows it only to members"
        if unchecked is None:
            raise _nowhere(data, why, unfit) from exc
        _warn(data, why, unchecked[1])
        return unchecked
    try:
        return _fetched(hub, data, branch, info)
    except (DataError, HostError):
        raise
    except Exception as exc:
        raise _broken_off(hub, data, exc) from exc


def _copies(hub: Any, name: str) -> Iterable[Path]:
    """Iterate over the newest copy of each branch in the cache."""
    for branch in _BRANCHES:
        try:
            folder = hub.snapshot_download(name, repo_type="dataset", revision=branch,
                                           local_files_only=True)  # fmt: skip
        except (OSError, ValueError):  # there is none, or this is no name of a set
            continue
        yield Path(folder)


def _branch_with_files(hub: Any, data: str, name: str) -> tuple[str, Any]:
    """Return the first branch that has Parquet files, and what the hub says of it."""
    for branch in _BRANCHES:
        try:
            info = hub.HfApi().dataset_info(name, revision=branch, timeout=_ANSWER_TIMEOUT_S)
        except hub.errors.RevisionNotFoundError:
            continue
        if any(row.rfilename.endswith(SUFFIX) for row in info.siblings or ()):
            return branch, info
    reason = (
        "it has no Parquet files, and the hub has not converted it; download it, and save it as a "
        "folder class/xxx.png"
    )
    raise DataError(source=data, reason=reason)


def _fetched(hub: Any, data: str, branch: str, info: Any) -> tuple[Path, Layout]:
    name, _, configuration = data.partition(":")
    where = {"repo_id": name, "repo_type": "dataset"}
    files = [row.rfilename for row in info.siblings]
    card = ""
    if CARD in files:
        place = hub.hf_hub_download(filename=CARD, revision=info.sha, **where)
        card = read_card(Path(place), source=data)
    layout = find_layout(files, card, source=data, configuration=configuration)
    kept = hub.file_download.repo_folder_name(repo_id=name, repo_type="dataset")
    # Before the download: one that is killed leaves behind what it lacks.
    _record(Path(hub.constants.HF_HUB_CACHE, kept, "snapshots", info.sha), files)
    # By branch, not by commit: only then does the cache note what the branch's newest copy is.
    wanted = [glob.escape(file) for file in (*layout.files(), CARD)]
    folder = Path(hub.snapshot_download(revision=branch, allow_patterns=wanted, **where))
    if folder.name != info.sha:  # its client takes what is there when the hub goes away
        reason = (
            "the set has changed while it was fetched, or the hub went away; one revision of it "
            "was expected; run it again"
        )
        raise DataError(source=data, reason=reason)
    return folder, _whole_layout(folder, files, data, configuration)


def _whole_layout(folder: Path, files: Sequence[str], source: str, configuration: str) -> Layout:
    """Return the layout of a copy of a set that has these files; refuse one that lacks some."""
    card = read_card(folder / CARD, source=source)
    layout = find_layout(files, card, source=source, configuration=configuration)
    needed = layout.files() + [CARD] * (CARD in files)
    lacking = [file for file in needed if not (folder / file).is_file()]
    if lacking:
        reason = (
            f"{len(lacking)} of its {len(needed)} files are not there, first {lacking[0]}; all "
            "were expected; fetch them again"
        )
        raise DataError(source=source, reason=reason)
    return layout


def _place_of_record(folder: Path) -> Path:
    """Return where the files of a copy's revision are noted: beside the copies of the set."""
    return folder.parents[1] / "edgeml" / f"{folder.name}.json"


def _recorded(folder: Path) -> list[str] | None:
    """Return the files of the whole set in a copy's revision, None where nobody noted them."""
    try:
        files = json.loads(_place_of_record(folder).read_bytes())["files"]
    except (OSError, ValueError, KeyError, TypeError):  # none, or a damaged one: the hub is asked
        return None
    return files if isinstance(files, list) and all(isinstance(one, str) for one in files) else None


def _record(folder: Path, files: Sequence[str]) -> None:
    known = {"files": [file for file in files if file.endswith(SUFFIX) or file == CARD]}
    with contextlib.suppress(OSError):  # a cache that others fill: the hub is asked every time
        write_whole(_place_of_record(folder), json.dumps(known, indent=2) + "\n")


def _nowhere(data: str, why: str, unfit: str) -> DataError:
    cached = f"the copy in the cache is unfit: {unfit}" if unfit else "no copy is in the cache"
    reason = (
        f"there is no such folder, and {why}, and {cached}; give a folder class/xxx.png, a table "
        "file,label, a folder with the set's Parquet files, or 'fashion-mnist', which a Debian "
        "package carries"
    )
    return DataError(source=data, reason=reason)


def _warn(data: str, why: str, layout: Layout) -> None:
    named = f" of the configuration '{layout.configuration}'" if layout.configuration else ""
    files = ", ".join(f"{part} in {len(names)}" for part, names in layout.parts.items())
    text = (
        f"{data}: {why}; the copy in the cache is used, and whether it is complete could not be "
        f"checked: its parts{named}, in so many files, are {files}; run it again where the hub "
        "answers to have it checked"
    )
    warnings.warn(text, RuntimeWarning, stacklevel=3)


def _broken_off(hub: Any, data: str, exc: Exception) -> DataError | HostError:
    """Say what kept the files from being fetched, after the hub had answered."""
    if isinstance(exc, OSError) and exc.errno in _OF_THE_DISK:
        return HostError(
            what=f"{data}: its files cannot be put into the hub's cache, "
            f"'{hub.constants.HF_HUB_CACHE}' ({exc.strerror or exc})",
            needed="free some space or mend its rights, or name another folder in HF_HUB_CACHE",
        )
    reason = (
        f"the download broke off ({type(exc).__name__}); all files of the set were expected; run "
        "it again: what was fetched is kept"
    )
    if type(exc).__name__ in _NOT_SHOWN:
        reason = (
            "the hub shows its files only to members; files for everybody were expected; ask for "
            "access there, and log in with the hub's own client"
        )
    return DataError(source=data, reason=reason)
