"""Picture data sets of a hub: Parquet files with encoded pictures and labels, read without code.

Any folder of such files will do, in the layouts that hubs have (:mod:`edgeml.data.hub_layout`).
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path, PurePosixPath

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
        The data set; its items are encoded pictures in the order of the files' names, and its own
        test and validation parts are kept. A part without labels is left out and counted.

    Raises:
        DataError: The hub cannot be reached or has no such set, or it has no pictures with one
            label each, of at least two classes.
        HostError: The disk cannot take a hub's files.
        MissingExtraError: pyarrow, or for an id huggingface_hub, is not installed.
    """
    require("pyarrow", extra="tables")
    source, published = str(data), not Path(data).exists()
    folder, layout = fetch_hub_data(source) if published else _local(Path(data))
    # By name, whatever their parts: checkpoints know this order, and the samples' numbers in it.
    files = {
        name: read_columns(folder / name, source=source, classes=layout.classes)
        for name in sorted(layout.files(), key=lambda name: PurePosixPath(name).parts)
    }
    digest = hashlib.sha256()
    for name in files:
        digest.update(sha256_of(folder / name).encode())
    part_of = {
        name: part
        for part, names in layout.parts.items()
        if _is_labelled(source, part, [files[name] for name in names])
        for name in names
    }
    labelled = {name: columns for name, columns in files.items() if name in part_of}
    labels, targets = number_classes(list(labelled.values()), source)
    items = [picture for columns in labelled.values() for picture in columns.pictures]
    sizes = [len(columns.pictures) for columns in labelled.values()]
    parts = np.repeat([part_of[name] for name in labelled], sizes)
    rows = {part: np.flatnonzero(parts == part) for part in set(part_of.values())}
    hashes = [hashlib.blake2b(item, digest_size=8).digest() for item in items]
    odd = {
        "files_of_no_part": len(layout.left_out),
        "unlabelled": sum(columns.unlabelled for columns in files.values()),
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
        published=published and len(rows) > 1,  # a part alone is split by us, as anybody's is
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
