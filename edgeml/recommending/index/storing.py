"""An index on disk: ``index.npz`` (plain arrays, FAISS's own bytes among them) and ``index.json``.

The JSON names the model that made the vectors and the hash of the arrays. An index of other
vectors than the model's would answer, wrongly and without a sign: it is refused here.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from edgeml.core.files import sha256_of, write_json
from edgeml.errors import BundleError, InputError, IntegrityError
from edgeml.recommending.index.item_index import ItemIndex
from edgeml.recommending.index.searcher import Searcher
from edgeml.recommending.index.spec import IndexKind, IndexSpec
from edgeml.recommending.index.store import VectorStore

_FORMAT = 1
_ARRAYS, _DESCRIPTION = "index.npz", "index.json"


def save_index(index: ItemIndex, folder: Path) -> None:
    """Write an index.

    Args:
        index: The index, in any state.
        folder: An existing folder; its ``index.npz`` and ``index.json`` are replaced.
    """
    arrays: dict[str, Any] = {
        "ids": index.ids,
        "alive": index.alive,
        "store": faiss.serialize_index(index.store.faiss_index),
    }
    if index.searcher is not None:
        arrays["searcher"] = faiss.serialize_index(index.searcher.faiss_index)
    with (folder / _ARRAYS).open("wb") as file:
        np.savez(file, **arrays)
    description = {
        "format": _FORMAT,
        "version": index.version,
        "size": index.size,
        "dimension": index.store.dimension,
        "spec": index.spec.to_json(),
        "sha256": sha256_of(folder / _ARRAYS),
    }
    write_json(folder / _DESCRIPTION, description)


def load_index(folder: Path, *, version: str, num_threads: int = 1) -> ItemIndex:
    """Read what ``save_index`` wrote.

    Args:
        folder: The folder.
        version: Name of the model whose user vectors will be searched with.
        num_threads: Threads of a search.

    Raises:
        IntegrityError: The index was made of another model's vectors, or its bytes have changed.
        BundleError: The files are missing, damaged, or of another format.
    """
    description = _description(folder)
    if description["version"] != version:
        raise IntegrityError(
            path=str(folder / _DESCRIPTION),
            reason=f"the index holds vectors of version '{description['version']}' and the model "
            f"is of version '{version}'; both from one export were expected: build the index again",
        )
    try:
        if sha256_of(folder / _ARRAYS) != description["sha256"]:
            raise IntegrityError(
                path=str(folder / _ARRAYS),
                reason="its bytes are not those that were saved; copy or export it again",
            )
        spec = IndexSpec.from_json(description["spec"])
        with np.load(folder / _ARRAYS, allow_pickle=False) as arrays:
            store = VectorStore(faiss.deserialize_index(arrays["store"]))
            searcher = None
            if spec.kind is not IndexKind.FLAT:
                searcher = Searcher(faiss.deserialize_index(arrays["searcher"]), store, spec)
            return ItemIndex(
                store,
                searcher,
                ids=arrays["ids"],
                alive=arrays["alive"],
                spec=spec,
                version=version,
                num_threads=num_threads,
            )
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile) as exc:
        if isinstance(exc, BundleError):
            raise
        raise BundleError(
            path=str(folder),
            reason=f"no index can be read from it ({exc}); export it again",
        ) from exc


def _description(folder: Path) -> dict[str, Any]:
    path = folder / _DESCRIPTION
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        found = description["format"]
        if found != _FORMAT:
            raise InputError(f"it is of format {found}; format {_FORMAT} is the one that is read")
        if not {"version", "spec", "sha256"} <= description.keys():
            raise InputError("a key is missing")
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise BundleError(
            path=str(path), reason=f"no description of an index ({exc}); export it again"
        ) from exc
    return dict(description)
