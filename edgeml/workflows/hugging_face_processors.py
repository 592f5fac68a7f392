"""A processor of transformers as this library's image contract, and the proof that they agree.

What a processor does is read from its settings, with a row for each kind that has arithmetic of its
own. Whether the reading was right is not believed but measured, on the pictures at hand: a kind
that nobody foresaw is refused by the difference that it makes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import transformers
from PIL import Image

from edgeml.data.dataset import ImageDataset
from edgeml.data.opening import prepare_usable
from edgeml.errors import InputError
from edgeml.exporting.declared import first_line
from edgeml.tasks.decoding import ImageLimits, decode_image
from edgeml.tasks.image import Fit, ImagePreprocessing, Resample
from edgeml.training.text_architectures import quiet

_KNOWN_STEPS = frozenset(
    {"do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"}
)
_COMPARED_PICTURES = 16
# A resized value may be rounded to its neighbour; float32 normalisation adds a little.
_TOLERANCE_LEVELS = 1.01
# Beside the data's own pictures: shapes that the data may not have, and edges everywhere.
_NOISE_SHAPES = ((97, 61), (130, 401))
# From this size on ConvNeXt keeps the whole picture.
_UNCROPPED_FROM = 384


@dataclass(frozen=True, kw_only=True)
class _Geometry:
    """Size of the tensor, and how a picture comes to it."""

    height: int
    width: int
    fit: Fit
    edge: int | None = None


def load_processor(folder: Path, name: str) -> Any:
    """Load a model's processor as it works on Pillow's pictures.

    Args:
        folder: The model's folder.
        name: What the user called it.

    Raises:
        InputError: There is none, or none for Pillow.
    """
    auto: Any = transformers.AutoImageProcessor
    try:
        with quiet():
            processor = auto.from_pretrained(
                folder, use_fast=False, local_files_only=True, trust_remote_code=False
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as exc:
        raise InputError(
            f"the image processor cannot be loaded ({first_line(exc)}); a preprocessor_config.json "
            "of a processor that transformers runs with Pillow was expected; save it with "
            "processor.save_pretrained(folder)",
            item=name,
        ) from exc
    if type(processor).__name__.endswith("Fast"):
        raise InputError(
            f"the processor {type(processor).__name__} does not work on Pillow's pictures; one "
            "with a slow form was expected, since a device has Pillow alone",
            item=name,
        )
    return processor


def contract_of(processor: Any, name: str) -> ImagePreprocessing:
    """Read a processor's settings as an image contract.

    Args:
        processor: What :func:`load_processor` gave.
        name: What the user called the model.

    Raises:
        InputError: It does something that the contract has no words for.
    """
    kind = type(processor).__name__
    extra = sorted(
        key
        for key, value in vars(processor).items()
        if key.startswith("do_") and value and key not in _KNOWN_STEPS
    )
    if extra or not getattr(processor, "do_resize", False):
        what = f"has the step {', '.join(extra)}" if extra else "does not resize"
        raise _refused(kind, what, name)
    try:
        geometry = _GEOMETRIES.get(kind, _plain_geometry)(processor)
        resample = Image.Resampling(processor.resample).name.lower()
        if resample not in get_args(Resample):
            raise ValueError(f"the filter {resample}")
        mean, std = _normalisation(processor)
        return ImagePreprocessing(
            height=geometry.height,
            width=geometry.width,
            fit=geometry.fit,
            resize_edge=geometry.edge,
            resample=resample,  # type: ignore[arg-type]
            mean=mean,
            std=std,
        )
    except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError) as exc:
        raise _refused(
            kind, f"has settings without a counterpart ({first_line(exc)})", name
        ) from exc


def prove_contract(
    contract: ImagePreprocessing, processor: Any, dataset: ImageDataset, name: str
) -> float:
    """Compare a contract with its processor, on the data's pictures and on noise.

    Args:
        contract: What a device will do.
        processor: What the model was made with.
        dataset: Sixteen pictures are compared, spread over all of it, but for unreadable ones:
            what becomes of those is decided by whoever prepares them all.
        name: What the user called the model.

    Returns:
        The largest difference in grey levels, 0..255.

    Raises:
        InputError: The difference is above one grey level.
    """
    count = min(_COMPARED_PICTURES, len(dataset.items))
    indices = np.unique(np.linspace(0, len(dataset.items) - 1, count).astype(np.int64))
    prepared, bad = prepare_usable(dataset, indices, contract)
    usable = [row for row, index in enumerate(indices.tolist()) if index not in bad]
    tensors = [prepared[row] for row in usable]
    pictures = [decode_image(dataset.items[indices[row]], ImageLimits()) for row in usable]
    rng = np.random.default_rng(0)
    for height, width in _NOISE_SHAPES:
        noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        tensors.append(contract.prepare(noise))
        pictures.append(Image.fromarray(noise))
    worst = 0.0
    for tensor, picture in zip(tensors, pictures, strict=True):
        ours = contract.normalise(tensor[None])[0]
        worst = max(worst, _levels(ours, _processed(processor, picture, name), contract))
    if not worst <= _TOLERANCE_LEVELS:
        kind = type(processor).__name__
        raise _refused(kind, f"gives values that differ by {worst:.3g} grey levels", name)
    return worst


def _processed(processor: Any, picture: Image.Image, name: str) -> npt.NDArray[Any]:
    try:
        with quiet():
            return np.asarray(processor(images=picture, return_tensors="np")["pixel_values"][0])
    except Exception as exc:  # processors raise anything
        raise _refused(type(processor).__name__, f"fails ({first_line(exc)})", name) from exc


def _levels(
    ours: npt.NDArray[np.float32], theirs: npt.NDArray[Any], contract: ImagePreprocessing
) -> float:
    """Return the largest difference on the 0..255 scale; infinity for other shapes."""
    if ours.shape != theirs.shape:
        return float("inf")
    std = np.asarray(contract.std).reshape(3, 1, 1)
    return float((np.abs(ours - theirs.astype(np.float64)) * std).max())


def _refused(kind: str, what: str, name: str) -> InputError:
    return InputError(
        f"the processor {kind} {what}; one was expected that resizes, cuts the centre, scales and "
        "normalises as edgeml can do on a device; use a model with such a processor, or fine-tune "
        "one with 'edgeml finetune'",
        item=name,
    )


def _plain_geometry(processor: Any) -> _Geometry:
    """Resize, and cut the centre where the settings say so."""
    size = dict(processor.size)
    if not getattr(processor, "do_center_crop", False):
        if set(size) != {"height", "width"}:
            raise ValueError(f"the size {size} without a crop")
        return _Geometry(height=int(size["height"]), width=int(size["width"]), fit="stretch")
    height, width = _crop(processor)
    if set(size) == {"shortest_edge"}:
        return _Geometry(height=height, width=width, fit="crop", edge=int(size["shortest_edge"]))
    if set(size) != {"height", "width"} or size["height"] != size["width"]:
        raise ValueError(f"the size {size} before a crop")
    return _Geometry(height=height, width=width, fit="stretch", edge=int(size["height"]))


def _convnext(processor: Any) -> _Geometry:
    side = int(processor.size["shortest_edge"])
    if side >= _UNCROPPED_FROM:
        return _Geometry(height=side, width=side, fit="stretch")
    return _Geometry(height=side, width=side, fit="crop", edge=int(side / processor.crop_pct))


def _poolformer(processor: Any) -> _Geometry:
    if processor.crop_pct is None or not processor.do_center_crop:
        return _plain_geometry(processor)
    size: Mapping[str, int] = processor.size
    if "shortest_edge" not in size and size["height"] != size["width"]:
        raise ValueError(f"the size {dict(size)} before a crop")
    side = size["shortest_edge"] if "shortest_edge" in size else size["height"]
    height, width = _crop(processor)
    return _Geometry(height=height, width=width, fit="crop", edge=int(side / processor.crop_pct))


def _levit(processor: Any) -> _Geometry:
    plain = _plain_geometry(processor)
    if "shortest_edge" not in processor.size or plain.edge is None:
        return plain
    edge = int((256 / 224) * plain.edge)
    return _Geometry(height=plain.height, width=plain.width, fit="crop", edge=edge)


_GEOMETRIES: Mapping[str, Callable[[Any], _Geometry]] = {
    "ConvNextImageProcessor": _convnext,
    "LevitImageProcessor": _levit,
    "PoolFormerImageProcessor": _poolformer,
}


def _crop(processor: Any) -> tuple[int, int]:
    size = processor.crop_size
    return int(size["height"]), int(size["width"])


def _normalisation(
    processor: Any,
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return mean and deviation on the 0..255 scale, one value a channel.

    A processor gives ``(value * factor - offset - mean) / std``; EfficientNet's divides twice.
    """
    factor = float(processor.rescale_factor) if processor.do_rescale else 1.0
    mean, std = np.zeros(3), np.ones(3)
    if processor.do_normalize:
        mean = np.broadcast_to(np.asarray(processor.image_mean, dtype=np.float64), 3)
        std = np.broadcast_to(np.asarray(processor.image_std, dtype=np.float64), 3)
    divisor = std * std if getattr(processor, "include_top", False) else std
    offset = 1.0 if processor.do_rescale and getattr(processor, "rescale_offset", False) else 0.0
    means, deviations = (mean + offset) / factor, divisor / factor
    return _three(means), _three(deviations)


def _three(values: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
    return first, second, third
