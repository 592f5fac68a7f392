"""A hub's data set on this machine: the local cache first, then the hub, and no long wait for it.

Only Parquet files and ``README.md`` are fetched; no loading script is ever run. A set that is not
kept as Parquet is taken from the branch where the hub keeps its own conversion.
"""

from __future__ import annotations

import glob
import importlib
from pathlib import Path
from typing import Any

from edgeml._optional import require
from edgeml.core.answering import answer_within
from edgeml.data.hub_layout import CARD, SUFFIX, Layout, find_layout, layout_of_folder
from edgeml.errors import DataError

# The hub is asked for this long at most; a download that has begun may take its time.
_ANSWER_TIMEOUT_S = 3.5
_BRANCHES = ("main", "refs/convert/parquet")
_NOT_SHOWN = ("RepositoryNotFoundError", "GatedRepoError")


def fetch_hub_data(data: str) -> tuple[Path, Layout]:
    """Return a data set's folder in the local cache, and which files are what.

    Args:
        data: Such as ``owner/name``, or ``owner/name:configuration``.

    Raises:
        DataError: The hub cannot be reached or has no such set, or its files are unfit.
        MissingExtraError: huggingface_hub is not installed.
    """
    require("huggingface_hub", extra="hf")
    hub: Any = importlib.import_module("huggingface_hub")
    name, _, configuration = data.partition(":")
    unfit = ""
    for branch in _BRANCHES:
        try:
            folder = Path(hub.snapshot_download(name, repo_type="dataset", revision=branch,
                                                local_files_only=True))  # fmt: skip
            return folder, layout_of_folder(folder, source=data, configuration=configuration)
        except DataError as exc:  # perhaps only part of it was fetched
            unfit = unfit or exc.reason
        except (OSError, ValueError):
            pass
    try:
        return _from_hub(hub, data, name, configuration)
    except DataError:
        raise
    except Exception as exc:  # sockets, proxies, TLS and two HTTP libraries each have their own
        if type(exc).__name__ in _NOT_SHOWN:
            what = "the hub has no such data set, or shows it only to members"
        else:
            cached = f"the copy in the cache is unfit: {unfit}" if unfit else (
                "no copy is in the cache"
            )  # fmt: skip
            what = f"the hub cannot be reached ({type(exc).__name__}), and {cached}"
        reason = (
            f"there is no such folder, and {what}; give a folder class/xxx.png, a table "
            "file,label, a folder with the set's Parquet files, or 'fashion-mnist', which a Debian "
            "package carries"
        )
        raise DataError(source=data, reason=reason) from exc


def _from_hub(hub: Any, data: str, name: str, configuration: str) -> tuple[Path, Layout]:
    branch, files = answer_within(_ANSWER_TIMEOUT_S, lambda: _branch_with_files(hub, data, name))
    where = {"repo_id": name, "repo_type": "dataset", "revision": branch}
    card = ""
    if CARD in files:
        card = Path(hub.hf_hub_download(filename=CARD, **where)).read_text(encoding="utf-8")
    layout = find_layout(files, card, source=data, configuration=configuration)
    # By branch, not by commit: only then does the cache note what the branch's newest copy is.
    wanted = [glob.escape(file) for file in (*layout.files(), CARD)]
    return Path(hub.snapshot_download(allow_patterns=wanted, **where)), layout


def _branch_with_files(hub: Any, data: str, name: str) -> tuple[str, list[str]]:
    """Return the first branch that has Parquet files, and all that it has."""
    for branch in _BRANCHES:
        try:
            info = hub.HfApi().dataset_info(name, revision=branch, timeout=_ANSWER_TIMEOUT_S)
        except hub.errors.RevisionNotFoundError:
            continue
        files = [row.rfilename for row in info.siblings or ()]
        if any(file.endswith(SUFFIX) for file in files):
            return branch, files
    reason = (
        "it has no Parquet files, and the hub has not converted it; download it, and save it as a "
        "folder class/xxx.png"
    )
    raise DataError(source=data, reason=reason)
