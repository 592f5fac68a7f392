"""Pictures of smooth scenes, as photographs are, and data sets of them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgeml.data.dataset import ImageDataset
from edgeml.data.image_survey import Survey, survey_images

Picture = npt.NDArray[np.uint8]


def scene(seed: int, side: int = 64) -> Picture:
    """A smooth picture."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC))


def recompressed(image: Picture) -> Picture:
    """The same picture after a strong JPEG compression."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=40)
    return np.asarray(Image.open(buffer))


def look_alikes(count: int, *, seed: int = 0, side: int = 64) -> list[Picture]:
    """One scene so many times, with the noise of a camera."""
    rng, still = np.random.default_rng(seed), scene(seed, side).astype(np.int64)
    noisy = (still + rng.integers(-3, 4, still.shape) for _ in range(count))
    return [np.clip(image, 0, 255).astype(np.uint8) for image in noisy]


def dataset_of(images: list[Picture], **options: Any) -> ImageDataset:
    """A data set of pictures, by turns of the classes a and b."""
    values: dict[str, Any] = {
        "targets": np.arange(len(images)) % 2,
        "hashes": np.array([hash(image.tobytes()) & (2**63 - 1) for image in images], np.uint64),
        "labels": ("a", "b"),
        **options,
    }
    return ImageDataset(name="scenes", items=images, fingerprint="f", **values)


def survey_of(dataset: ImageDataset) -> Survey:
    """What is found in all pictures of a data set."""
    return survey_images(dataset, np.stack(dataset.items), np.arange(len(dataset.items)))
