"""One way in: a data set from its name or its folder, and its pictures as prepared tensors."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.core.progress import Progress, ProgressEvent, silent
from edgeml.data.dataset import ImageDataset
from edgeml.data.fashion_mnist import load_fashion_mnist
from edgeml.data.image_folder import load_image_folder
from edgeml.errors import DataError, InputError
from edgeml.tasks.image import ImagePreprocessing

NAMED: dict[str, Callable[[], ImageDataset]] = {"fashion-mnist": load_fashion_mnist}

_IN_MEMORY_BYTES = 1 << 30
_NAMED_FILES = 3


def open_image_data(data: str | Path) -> ImageDataset:
    """Open pictures by the name of a data set or by the path of a folder.

    Args:
        data: Such as ``fashion-mnist``, or a folder ``class/xxx.png``.

    Raises:
        DataError: There is no such set or folder, or it is unfit.
    """
    if isinstance(data, str) and data in NAMED:
        return NAMED[data]()
    folder = Path(data)
    if not folder.exists():
        reason = f"neither a data set ({', '.join(NAMED)}) nor a folder has this name; check it"
        raise DataError(source=str(data), reason=reason)
    return load_image_folder(folder)


def place_of(data: str | Path) -> dict[str, str]:
    """Return where data is, so that it is found again from any working directory."""
    if isinstance(data, str) and data in NAMED:
        return {"named": data}
    return {"folder": str(Path(data).absolute())}


def reopen(described: Mapping[str, Any]) -> ImageDataset:
    """Open the data that a checkpoint describes.

    Args:
        described: The checkpoint's ``data``, whose ``place`` :func:`place_of` made.

    Raises:
        DataError: It is not there any more.
    """
    place = described["place"]
    return open_image_data(place["named"] if "named" in place else Path(place["folder"]))


def picture_hashes(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """Return a 64-bit hash of each prepared picture, uint64 ``(samples,)``."""
    digests = (hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in images)
    return np.fromiter((int.from_bytes(one, "big") for one in digests), np.uint64, len(images))


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
    """
    shape = (len(indices), preprocessing.height, preprocessing.width, 3)
    images = _allocate(shape)
    bad: list[str] = []
    for row, index in enumerate(indices):
        try:
            images[row] = preprocessing.prepare(dataset.items[index])
        except InputError as exc:
            item, label = dataset.items[index], dataset.labels[dataset.targets[index]]
            bad.append(f"{label}/{exc}" if isinstance(item, Path) else str(exc))
        if row % 100 == 99 or row + 1 == len(indices):
            progress(ProgressEvent(stage="prepare images", done=row + 1, total=len(indices)))
    if bad:
        more = f" (and {len(bad) - _NAMED_FILES} more)" if len(bad) > _NAMED_FILES else ""
        reason = (
            f"{len(bad)} of {len(indices)} pictures cannot be used: "
            f"{' | '.join(bad[:_NAMED_FILES])}{more}; mend or remove them"
        )
        raise DataError(source=dataset.name, reason=reason)
    return images


def _allocate(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    if int(np.prod(shape)) <= _IN_MEMORY_BYTES:
        return np.empty(shape, dtype=np.uint8)
    # An unnamed file: the disk gives its space back when the array is dropped, or the process dies.
    with tempfile.TemporaryFile(prefix="edgeml-") as file:
        handle: Any = file  # the mapping outlives it
        return np.memmap(handle, dtype=np.uint8, mode="w+", shape=shape)
