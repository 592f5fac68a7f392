"""Fashion-MNIST from verified files: a folder of the user's, or the Debian package."""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeml.core.files import sha256_of
from edgeml.data.dataset import ImageDataset
from edgeml.errors import DataError

LABELS = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

_PARTS = ("train", "t10k")
_DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
_FILES = {
    "train-images-idx3-ubyte.gz": (
        "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7"
    ),
    "train-labels-idx1-ubyte.gz": (
        "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056"
    ),
    "t10k-images-idx3-ubyte.gz": (
        "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa"
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05"
    ),
}


def load_fashion_mnist(folder: Path | None = None) -> ImageDataset:
    """Load the 60,000 training and 10,000 test pictures.

    Args:
        folder: Folder with the four ``*-ubyte.gz`` files; None searches
            ``$EDGEML_DATA_DIR/fashion-mnist`` and then the Debian package
            ``dataset-fashion-mnist``.

    Returns:
        70,000 uint8 pictures ``(28, 28)``; the last 10,000 are the set's own test split.

    Raises:
        DataError: No source is there, or a file is not the published one.
    """
    root = _find(folder)
    for name, digest in _FILES.items():
        path = root / name
        if not path.is_file() or sha256_of(path) != digest:
            state = "is not the published file" if path.exists() else "is missing"
            reason = f"{name} {state}; sha256 {digest[:12]}… was expected; fetch the file again"
            raise DataError(source=str(root), reason=reason)
    images = np.concatenate([_images(root / f"{part}-images-idx3-ubyte.gz") for part in _PARTS])
    targets = np.concatenate([_labels(root / f"{part}-labels-idx1-ubyte.gz") for part in _PARTS])
    return ImageDataset(
        name="fashion-mnist",
        labels=LABELS,
        items=images,
        targets=targets,
        fingerprint=hashlib.sha256("".join(_FILES.values()).encode()).hexdigest(),
        source={"kind": "files verified by sha256", "path": root.name, "licence": "MIT"},
        fixed_test=np.arange(60_000, 70_000, dtype=np.int64),
        published=True,
    )


def _find(folder: Path | None) -> Path:
    if folder is not None:
        return folder
    places = [_DEBIAN_FOLDER]
    if own := os.environ.get("EDGEML_DATA_DIR"):
        places.insert(0, Path(own) / "fashion-mnist")
    for place in places:
        if place.is_dir():
            return place
    raise DataError(
        source="fashion-mnist",
        reason="no source is on this machine; the four *-ubyte.gz files were expected; run "
        "'apt-get install dataset-fashion-mnist' (Debian, Ubuntu) or put them into "
        "$EDGEML_DATA_DIR/fashion-mnist",
    )


def _images(path: Path) -> npt.NDArray[np.uint8]:
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), dtype=np.uint8, offset=16).reshape(-1, 28, 28)


def _labels(path: Path) -> npt.NDArray[np.int64]:
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), dtype=np.uint8, offset=8).astype(np.int64)
