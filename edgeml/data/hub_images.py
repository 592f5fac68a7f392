"""Picture data sets of a hub: Parquet files with encoded pictures and labels, read without code.

Any folder of such files will do, in the layouts that hubs have (:mod:`edgeml.data.hub_layout`).
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np

from edgeml._optional import require
from edgeml.core.files import sha256_of
from edgeml.data.dataset import ImageDataset
from edgeml.data.hub_cache import fetch_hub_data
from edgeml.data.hub_columns import Columns, number_classes, read_columns
from edgeml.data.hub_layout import SUFFIX, Layout, layout_of_folder, parquet_files
from edgeml.errors import DataError

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(:[\w.-]+)?")


def looks_like_hub_data(data: str | Path) -> bool:
    """Return whether this is no path here and may be the id of a hub's data set."""
    path = Path(data)
    return _ID.fullmatch(str(data)) is not None and not path.exists() and not path.parent.exists()


def holds_parquet(path: Path) -> bool:
    """Return whether this is a Parquet file, or a folder with such files anywhere in it."""
    if path.is_file():
        return path.suffix == SUFFIX
    return path.is_dir() and any(True for _ in parquet_files(path))


def load_hub_images(data: str | Path) -> ImageDataset:
    """Load a data set of a hub, or a folder of Parquet files.

    Args:
        data: Such as ``zalando-datasets/fashion_mnist``, ``owner/name:configuration``, a Parquet
            file, or a folder with such files, whose names tell the part:
            ``train-00000-of-00001.parquet``.

    Returns:
        The data set; its items are encoded pictures, and its own test and validation parts are
        kept. A part without labels is left out and counted.

    Raises:
        DataError: The hub cannot be reached or has no such set, or it has no pictures with one
            label each, of at least two classes.
        MissingExtraError: pyarrow, or for an id huggingface_hub, is not installed.
    """
    require("pyarrow", extra="tables")
    source, published = str(data), not Path(data).exists()
    folder, layout = fetch_hub_data(source) if published else _local(Path(data))
    digest = hashlib.sha256()
    for name in layout.files():
        digest.update(sha256_of(folder / name).encode())
    parts = {
        part: [read_columns(folder / name, source=source, classes=layout.classes) for name in names]
        for part, names in layout.parts.items()
    }
    labelled = {part: files for part, files in parts.items() if _is_labelled(source, part, files)}
    labels, targets = number_classes([one for files in labelled.values() for one in files], source)
    items = [picture for files in labelled.values() for one in files for picture in one.pictures]
    ends = np.cumsum([sum(len(one.pictures) for one in files) for files in labelled.values()])
    rows = dict(zip(labelled, np.split(np.arange(len(items)), ends[:-1]), strict=True))
    hashes = [hashlib.blake2b(item, digest_size=8).digest() for item in items]
    odd = {
        "files_of_no_part": len(layout.left_out),
        "unlabelled": sum(one.unlabelled for files in parts.values() for one in files),
    }
    return ImageDataset(
        name=source if published else Path(data).absolute().name,
        labels=labels,
        items=items,
        targets=targets,
        fingerprint=digest.hexdigest(),
        source=_source(folder, layout, published=published),
        fixed_test=rows.get("test"),
        fixed_validation=rows.get("validation"),
        hashes=np.array([int.from_bytes(one, "big") for one in hashes], dtype=np.uint64),
        published=published and "test" in rows,
        odd={kind: count for kind, count in odd.items() if count},
    )


def _local(place: Path) -> tuple[Path, Layout]:
    """Return the folder of files on this machine, and which are what."""
    if place.is_file():
        return place.parent, Layout(configuration="", parts={"train": [place.name]})
    return place, layout_of_folder(place, source=str(place))


def _is_labelled(source: str, part: str, files: list[Columns]) -> bool:
    """Return whether a part has labels; a held-out part may have none, and none may have some."""
    lacking = sum(columns.unlabelled for columns in files)
    total = sum(len(columns.labels) for columns in files)
    if lacking == total and part != "train":
        return False
    if lacking or not total:
        reason = (
            f"{lacking} of the {total} pictures of its part '{part}' have no label (null, or below "
            "0); pictures with a label each were expected; label them or take them out"
        )
        raise DataError(source=source, reason=reason)
    return True


def _source(folder: Path, layout: Layout, *, published: bool) -> dict[str, str]:
    if not published:
        return {"kind": "Parquet files", "path": folder.name}
    named = {"configuration": layout.configuration} if layout.configuration else {}
    return {"kind": "data set of a hub", "revision": folder.name, **named}
