"""One way in: a data set from its name or its place, and its pictures as prepared tensors."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.core.progress import Progress, ProgressEvent, silent
from edgeml.data.dataset import ImageDataset, TextDataset
from edgeml.data.davidson import load_davidson
from edgeml.data.fashion_mnist import load_fashion_mnist
from edgeml.data.hub_images import holds_parquet, load_hub_images, looks_like_hub_data
from edgeml.data.image_folder import load_image_folder
from edgeml.data.image_parts import class_folders
from edgeml.data.image_tables import TABLE_SUFFIXES, load_image_manifest
from edgeml.data.neu_det import load_neu_det
from edgeml.data.picture_files import is_picture
from edgeml.data.product_reviews import load_product_reviews
from edgeml.data.sst2 import load_sst2, load_sst2_phrase_dev, load_sst2_phrases
from edgeml.data.text_table import load_text_folder, load_text_table
from edgeml.errors import DataError, HostError, InputError
from edgeml.tasks.image import ImagePreprocessing

NAMED: dict[str, Callable[[], ImageDataset]] = {
    "fashion-mnist": load_fashion_mnist,
    "neu-det": load_neu_det,
}
NAMED_TEXT: dict[str, Callable[[], TextDataset]] = {
    "hate-speech-davidson": load_davidson,
    "product-reviews": load_product_reviews,
    "sst2": load_sst2,
    "sst2-phrase-dev": load_sst2_phrase_dev,
    "sst2-phrases": load_sst2_phrases,
}

_IN_MEMORY_BYTES = 1 << 30
_NAMED_FILES = 3


def open_image_data(data: str | Path, *, groups: str | Path | None = None) -> ImageDataset:
    """Open pictures by the name of a data set, the path of a folder, or a manifest.

    Args:
        data: Such as ``fashion-mnist``; a folder ``class/xxx.png`` or ``part/class/xxx.png``; a
            ``.csv`` or ``.tsv`` file with the columns ``file`` and ``label``; the id of a hub's
            data set, or a folder of its Parquet files.
        groups: Table with the columns ``file`` and ``group`` of a folder's pictures; None takes the
            folder's own ``groups.csv``, where there is one.

    Raises:
        DataError: There is no such set, folder or table, or it is unfit.
        InputError: Groups were given for a named set, for Parquet files, or for a manifest, which
            has a column for them.
    """
    named = isinstance(data, str) and data in NAMED
    path = _looked_up(data)
    table = path.is_file() and path.suffix.lower() in TABLE_SUFFIXES
    parquet = not named and (
        looks_like_hub_data(data) or (not _holds_classes(path) and holds_parquet(path))
    )
    if groups is not None and (named or table or parquet):
        raise InputError(
            "groups are for a folder of pictures; a manifest has a column 'group', and a named set "
            "or one in Parquet files has parts of its own; leave them out",
            item="--groups",
        )
    if named:
        return NAMED[str(data)]()
    if parquet:
        return load_hub_images(data)
    if not path.exists():
        reason = (
            f"neither a data set ({', '.join(NAMED)}) nor a folder or manifest has this name; "
            "check it"
        )
        raise DataError(source=str(data), reason=reason)
    if table:
        return load_image_manifest(path)
    if path.is_file():
        what = "one picture" if is_picture(path) else f"a file with the ending '{path.suffix}'"
        reason = (
            f"this is {what}; a folder of class folders (class/xxx.png), or a table in "
            f"{' or '.join(sorted(TABLE_SUFFIXES))} with the columns file and label, was expected; "
            "name the folder, or save the table as such"
        )
        raise DataError(source=str(data), reason=reason)
    return load_image_folder(path, groups=None if groups is None else Path(groups))


def _looked_up(data: str | Path) -> Path:
    try:
        Path(data).exists()
    except OSError as exc:  # longer than a name may be, or in a folder that is closed to us
        reason = (
            f"it cannot be looked up ({exc.strerror or exc}); the name of a data set or the path "
            "of a folder or manifest was expected; check it"
        )
        raise DataError(source=str(data), reason=reason) from exc
    return Path(data)


def _holds_classes(path: Path) -> bool:
    """Return whether this is a folder of class folders, whatever other files it holds."""
    return path.is_dir() and len(class_folders(path)) > 1


def place_of(data: str | Path, *, groups: str | Path | None = None) -> dict[str, str]:
    """Return where data is, so that it is found again from any working directory."""
    if isinstance(data, str) and data in NAMED:
        return {"named": data}
    if looks_like_hub_data(data):
        return {"hub": str(data)}
    place = {"folder": str(Path(data).absolute())}
    return place if groups is None else place | {"groups": str(Path(groups).absolute())}


def reopen(described: Mapping[str, Any]) -> ImageDataset:
    """Open the data that a checkpoint describes.

    Args:
        described: The checkpoint's ``data``, whose ``place`` :func:`place_of` made.

    Raises:
        DataError: It is not there any more.
    """
    place = described["place"]
    if "named" in place or "hub" in place:
        return open_image_data(place.get("named") or place["hub"])
    return open_image_data(Path(place["folder"]), groups=place.get("groups"))


def open_text_data(
    data: str | Path,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    multi_label_separator: str | None = None,
    encoding: str | None = None,
) -> TextDataset:
    """Open texts by the name of a data set, by a table, or by a folder with ``train.csv``.

    Args:
        data: Such as ``product-reviews``; a ``.csv``, ``.tsv``, ``.parquet`` or ``.jsonl`` file; or
            a folder with such a file named ``train``.
        text_column: The table's column of texts; None looks for one.
        label_column: The table's column of labels; None looks for one.
        multi_label_separator: What separates the labels of a text that may have several or none.
        encoding: The encoding of the table.

    Raises:
        DataError: There is no such set or table, or it is unfit.
        InputError: A named set was given columns, or the separator is empty.
        MissingExtraError: A Parquet file, and pyarrow is not installed.
    """
    place = text_place_of(
        data,
        text_column=text_column,
        label_column=label_column,
        multi_label_separator=multi_label_separator,
        encoding=encoding,
    )
    if "named" in place:
        return NAMED_TEXT[place["named"]]()
    path = Path(data)
    if not path.exists():
        reason = (
            f"neither a data set ({', '.join(NAMED_TEXT)}) nor a table or folder has this name; "
            "check it"
        )
        raise DataError(source=str(data), reason=reason)
    load = load_text_folder if path.is_dir() else load_text_table
    return load(
        path,
        text_column=text_column,
        label_column=label_column,
        multi_label_separator=multi_label_separator,
        encoding=encoding,
    )


def text_place_of(
    data: str | Path,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    multi_label_separator: str | None = None,
    encoding: str | None = None,
) -> dict[str, str]:
    """Return where texts are and how they are read, so that they are found again from anywhere.

    Args:
        data: See :func:`open_text_data`.
        text_column: See :func:`open_text_data`.
        label_column: See :func:`open_text_data`.
        multi_label_separator: See :func:`open_text_data`.
        encoding: See :func:`open_text_data`.

    Raises:
        InputError: A named set was given columns, which it has of its own.
    """
    options = {
        "text_column": text_column,
        "label_column": label_column,
        "multi_label_separator": multi_label_separator,
        "encoding": encoding,
    }
    given = {name: value for name, value in options.items() if value is not None}
    if not (isinstance(data, str) and data in NAMED_TEXT):
        return {"table": str(Path(data).absolute()), **given}
    if given:
        message = (
            f"a named data set is read in its own way and takes no {', '.join(given)}; a table was "
            "expected with it; leave it out"
        )
        raise InputError(message, item=data)
    return {"named": data}


def reopen_text(described: Mapping[str, Any]) -> TextDataset:
    """Open the texts that a checkpoint describes.

    Args:
        described: The checkpoint's ``data``, whose ``place`` :func:`text_place_of` made.

    Raises:
        DataError: They are not there any more.
    """
    place = described["place"]
    if "named" in place:
        return open_text_data(place["named"])
    options = {name: value for name, value in place.items() if name != "table"}
    return open_text_data(Path(place["table"]), **options)


def picture_hashes(
    images: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.uint64]:
    """Return a 64-bit hash of each prepared picture, uint64 ``(samples,)``.

    Args:
        images: uint8 ``(pictures, height, width, 3)``.
        rows: int64 ``(samples,)``, which pictures; None takes all.
    """
    picks = np.arange(len(images)) if rows is None else rows
    # One picture at a time: all of them may be more than memory should hold.
    digests = (hashlib.blake2b(images[row].tobytes(), digest_size=8).digest() for row in picks)
    return np.fromiter((int.from_bytes(one, "big") for one in digests), np.uint64, len(picks))


def prepare_images(
    dataset: ImageDataset,
    indices: npt.NDArray[np.int64],
    preprocessing: ImagePreprocessing,
    *,
    progress: Progress = silent,
) -> npt.NDArray[np.uint8]:
    """Run the image contract over part of a data set.

    Args:
        dataset: Where the pictures are.
        indices: int64 ``(samples,)``, which ones, in which order.
        preprocessing: The contract.
        progress: Told every hundred pictures.

    Returns:
        uint8 ``(samples, height, width, 3)``; over 1 GiB it lies in a temporary file, not in
        memory.

    Raises:
        DataError: Some pictures cannot be read; the message counts them and names the first.
        HostError: The disk has no room for them.
    """
    images, bad = prepare_usable(dataset, indices, preprocessing, progress=progress)
    if bad:
        first = list(bad.values())[:_NAMED_FILES]
        more = f" (and {len(bad) - _NAMED_FILES} more)" if len(bad) > _NAMED_FILES else ""
        reason = (
            f"{len(bad)} of {len(indices)} pictures cannot be used: {' | '.join(first)}{more}; "
            "mend or remove them"
        )
        raise DataError(source=dataset.name, reason=reason)
    return images


def prepare_usable(
    dataset: ImageDataset,
    indices: npt.NDArray[np.int64],
    preprocessing: ImagePreprocessing,
    *,
    progress: Progress = silent,
) -> tuple[npt.NDArray[np.uint8], dict[int, str]]:
    """Run the image contract over part of a data set, whatever single pictures are like.

    Args:
        dataset: Where the pictures are.
        indices: int64 ``(samples,)``, which ones, in which order.
        preprocessing: The contract.
        progress: Told every hundred pictures.

    Returns:
        uint8 ``(samples, height, width, 3)`` as of :func:`prepare_images`, zeros in the place of
        unusable ones; and the index of each unusable one with what is wrong with it.

    Raises:
        HostError: The disk has no room for them.
    """
    shape = (len(indices), preprocessing.height, preprocessing.width, 3)
    images = _allocate(shape)
    bad: dict[int, str] = {}
    for row, index in enumerate(indices.tolist()):
        try:
            images[row] = preprocessing.prepare(dataset.items[index])
        except InputError as exc:
            images[row] = 0
            item, label = dataset.items[index], dataset.labels[dataset.targets[index]]
            # A file that cannot be opened is named by its path, the others by their names.
            named = isinstance(item, Path) and exc.item == item.name
            bad[index] = f"{label}/{exc}" if named else str(exc)
        if row % 100 == 99 or row + 1 == len(indices):
            progress(ProgressEvent(stage="prepare images", done=row + 1, total=len(indices)))
    return images, bad


def _allocate(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    if int(np.prod(shape)) <= _IN_MEMORY_BYTES:
        return np.empty(shape, dtype=np.uint8)
    # An unnamed file: the disk gives its space back when the array is dropped, or the process dies.
    with tempfile.TemporaryFile(prefix="edgeml-") as file:
        try:
            # Reserved now: a mapping whose disk is full later ends the process without a word.
            os.posix_fallocate(file.fileno(), 0, int(np.prod(shape)))
        except OSError as exc:
            size = int(np.prod(shape)) / 1e9
            raise HostError(
                what=f"prepared pictures need {size:.1f} GB in '{tempfile.gettempdir()}' "
                f"({exc.strerror or exc})",
                needed="free some space, name another folder in TMPDIR, or take smaller pictures",
            ) from exc
        handle: Any = file  # the mapping outlives it
        return np.memmap(handle, dtype=np.uint8, mode="w+", shape=shape)
