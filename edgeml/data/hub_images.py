"""Picture data sets of a hub: Parquet files with encoded pictures and labels, read without code.

The local cache is tried first; a hub that does not answer is an error within five seconds. No
loading script of a data set is ever run.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml._optional import require
from edgeml.core.answering import answer_within
from edgeml.core.files import sha256_of
from edgeml.data.dataset import ImageDataset
from edgeml.errors import DataError

_ANSWER_TIMEOUT_S = 4.0
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PART = re.compile(r"(train|validation|valid|val|dev|test)(?=[^a-z]|$)")
_LABELS = ("label", "labels", "fine_label", "class", "target")


def looks_like_hub_data(data: str | Path) -> bool:
    """Return whether this is no path here and may be the id of a hub's data set."""
    path = Path(data)
    return _ID.fullmatch(str(data)) is not None and not path.exists() and not path.parent.exists()


def holds_parquet(folder: Path) -> bool:
    """Return whether a folder is a data set in the hub's layout."""
    return folder.is_dir() and any(_parquet_files(folder))


def load_hub_images(data: str | Path) -> ImageDataset:
    """Load a data set of a hub, or a folder in its layout.

    Args:
        data: Such as ``zalando-datasets/fashion_mnist``, or a folder with Parquet files whose names
            tell the part: ``train-00000-of-00001.parquet``.

    Returns:
        The data set; its items are encoded pictures, and its own test and validation parts are
        kept.

    Raises:
        DataError: The hub cannot be reached or has no such set, or it has no pictures with labels.
        MissingExtraError: pyarrow, or for an id huggingface_hub, is not installed.
    """
    require("pyarrow", extra="tables")
    folder = Path(data) if Path(data).is_dir() else _fetched(str(data))
    files = _parquet_files(folder)
    if not files:
        raise DataError(source=str(data), reason="it has no Parquet files; pictures in such files "
                        "were expected; save them as a folder class/xxx.png")  # fmt: skip
    items: list[bytes] = []
    targets: list[npt.NDArray[np.int64]] = []
    parts: dict[str, list[npt.NDArray[np.int64]]] = {}
    names: tuple[str, ...] = ()
    digest = hashlib.sha256()
    for file in files:
        digest.update(sha256_of(file).encode())
        pictures, labels, found = _read(file, str(data), names)
        names = found
        rows = np.arange(len(items), len(items) + len(pictures))
        parts.setdefault(_part_of(file), []).append(rows)
        items.extend(pictures)
        targets.append(labels)
    joined = {name: np.concatenate(rows) for name, rows in parts.items()}
    hashes = [hashlib.blake2b(item, digest_size=8).digest() for item in items]
    return ImageDataset(
        name=str(data) if not Path(data).is_dir() else Path(data).name,
        labels=names,
        items=items,
        targets=np.concatenate(targets),
        fingerprint=digest.hexdigest(),
        source={"kind": "data set of a hub", "revision": folder.name},
        fixed_test=joined.get("test") if "train" in joined else None,
        fixed_validation=joined.get("validation") if "train" in joined else None,
        hashes=np.array([int.from_bytes(one, "big") for one in hashes], dtype=np.uint64),
        published=not Path(data).is_dir() and "test" in joined,
    )


def _parquet_files(folder: Path) -> list[Path]:
    places = (folder, folder / "data")
    return sorted(file for place in places if place.is_dir() for file in place.glob("*.parquet"))


def _part_of(file: Path) -> str:
    found = _PART.match(file.stem)
    part = found.group(1) if found else "train"
    return {"valid": "validation", "val": "validation", "dev": "validation"}.get(part, part)


def _read(
    file: Path, source: str, known: tuple[str, ...]
) -> tuple[list[bytes], npt.NDArray[np.int64], tuple[str, ...]]:
    """Return one file's encoded pictures, int64 ``(samples,)`` classes, and the classes' names."""
    parquet: Any = importlib.import_module("pyarrow.parquet")
    try:
        schema = parquet.read_schema(file)
        metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = metadata.get("info", {}).get("features", {})
        picture = next((name for name in schema.names if _is_picture(schema.field(name))), None)
        label = next((name for name in _LABELS if name in schema.names), None)
        if picture is None or label is None:
            raise ValueError(f"its columns are {', '.join(schema.names)}")
        table = parquet.read_table(file, columns=[picture, label])
        cells = table.column(picture).to_pylist()
        pictures = [cell["bytes"] if isinstance(cell, dict) else cell for cell in cells]
        values = table.column(label).to_pylist()
        names = known or _names(features.get(label, {}), values)
        if all(isinstance(value, str) for value in values):
            targets = np.array([names.index(value) for value in values], dtype=np.int64)
        else:
            targets = np.array(values, dtype=np.int64)
        if not all(isinstance(picture, bytes) for picture in pictures):
            raise ValueError("a picture has no bytes")
        if targets.min() < 0 or targets.max() >= len(names):
            raise ValueError(f"a label is outside its {len(names)} classes")
    except (ValueError, KeyError, TypeError, OSError) as exc:
        reason = (
            f"{file.name} cannot be used ({exc}); a column of encoded pictures and one of "
            f"{', '.join(_LABELS)} were expected; save the pictures as a folder class/xxx.png"
        )
        raise DataError(source=source, reason=reason.replace("\n", " ")) from exc
    return pictures, targets, names


def _is_picture(field: Any) -> bool:
    """Return whether a column holds encoded pictures: bytes, or a structure with bytes."""
    kind = str(field.type)
    return kind in ("binary", "large_binary") or kind.startswith("struct<bytes:")


def _names(feature: Any, values: Sequence[Any]) -> tuple[str, ...]:
    given = feature.get("names") if isinstance(feature, dict) else None
    if isinstance(given, dict):  # as another writer keeps them: number to name
        given = [given[key] for key in sorted(given, key=int)]
    if given:
        return tuple(str(name) for name in given)
    return tuple(str(value) for value in sorted(set(values)))


def _fetched(name: str) -> Path:
    """Return a data set's folder in the local cache, from the hub where it is not there."""
    require("huggingface_hub", extra="hf")
    hub: Any = importlib.import_module("huggingface_hub")
    options = {"repo_type": "dataset", "allow_patterns": ["*.parquet", "README.md"]}
    try:
        folder = Path(hub.snapshot_download(name, local_files_only=True, **options))
        if holds_parquet(folder):
            return folder
    except (OSError, ValueError):
        pass
    try:
        api = hub.HfApi()
        info = answer_within(
            _ANSWER_TIMEOUT_S, lambda: api.dataset_info(name, timeout=_ANSWER_TIMEOUT_S)
        )
        return Path(hub.snapshot_download(name, revision=info.sha, **options))
    except Exception as exc:  # sockets, proxies, TLS and two HTTP libraries each have their own
        if type(exc).__name__ in ("RepositoryNotFoundError", "GatedRepoError"):
            what = "the hub has no such data set, or shows it only to members"
        else:
            what = f"the hub cannot be reached ({type(exc).__name__}), and no copy is in the cache"
        reason = (
            f"there is no such folder, and {what}; give a folder class/xxx.png, a table "
            "file,label, a folder with the set's Parquet files, or 'fashion-mnist', which a Debian "
            "package carries"
        )
        raise DataError(source=name, reason=reason) from exc
