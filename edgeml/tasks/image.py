"""The image contract: one function from any picture to the model's uint8 tensor.

Training, calibration, edge, Triton and HTTP all call :meth:`ImagePreprocessing.prepare`; what a
model does with the uint8 values (its normalisation) is inside its graph and only described here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from edgeml.core.predictor import Prediction
from edgeml.core.signature import ModelSignature, Tensors, TensorSpec
from edgeml.errors import InputError
from edgeml.tasks.classification import ClassLabels

if TYPE_CHECKING:
    from PIL import Image

INPUT = "image"
OUTPUT = "probabilities"

Fit = Literal["crop", "stretch"]
Resample = Literal["nearest", "bilinear", "bicubic", "lanczos"]


@dataclass(frozen=True, kw_only=True)
class ImagePreprocessing:
    """How a picture becomes a tensor.

    Attributes:
        height: Rows of the tensor.
        width: Columns of the tensor.
        fit: ``crop`` keeps the proportions and cuts the longer side; ``stretch`` keeps all of it.
        crop_fraction: Share of the fitted picture that is kept, around its centre.
        resize_edge: As other libraries do it: the whole picture is first resized to whole pixels,
            its shorter edge (``crop``) or both edges (``stretch``) to this many, and the tensor is
            cut from its centre at whole pixels. None scales what is kept alone.
        resample: Filter; all but ``nearest`` are antialiased when they shrink.
        mean: Subtracted inside the graph, on the 0..255 scale, one value a channel.
        std: Divided by inside the graph, likewise.
    """

    height: int
    width: int
    fit: Fit = "crop"
    crop_fraction: float = 1.0
    resize_edge: int | None = None
    resample: Resample = "bilinear"
    mean: tuple[float, float, float] = (127.0, 127.0, 127.0)
    std: tuple[float, float, float] = (128.0, 128.0, 128.0)

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"height and width are at least 1, got {self.height}x{self.width}")
        if self.fit not in get_args(Fit) or self.resample not in get_args(Resample):
            raise ValueError(f"unknown fit {self.fit!r} or resample {self.resample!r}")
        if not 0 < self.crop_fraction <= 1:
            raise ValueError(f"crop_fraction is in (0, 1], got {self.crop_fraction}")
        edge = self.resize_edge
        if edge is not None and (edge < max(self.height, self.width) or self.crop_fraction != 1):
            raise ValueError(f"resize_edge is at least height and width and excludes crop_fraction "
                             f"below 1, got {edge}")  # fmt: skip
        if len(self.mean) != 3 or len(self.std) != 3 or not all(0 < x < math.inf for x in self.std):
            raise ValueError("mean and std have three values each, and std is positive and finite")
        if not all(math.isfinite(value) for value in self.mean):
            raise ValueError(f"mean has finite values, got {self.mean}")

    def prepare(self, item: Any) -> npt.NDArray[np.uint8]:
        """Decode, turn upright, crop and resize.

        Args:
            item: Encoded bytes, a path, a PIL image, or a uint8 array ``(height, width[, 3])``.

        Returns:
            uint8 ``(height, width, 3)``, writable.

        Raises:
            InputError: It is not a picture, is damaged, or exceeds a limit.
            MissingExtraError: Pillow is not installed.
        """
        from edgeml._optional import require

        # Pillow stands behind the extra [image]: a server's client that sends tensors needs none.
        require("PIL", extra="image")
        from PIL import Image

        from edgeml.tasks.decoding import ImageLimits, decode_image

        picture = decode_image(item, ImageLimits())
        if self.resize_edge is not None:
            return np.array(self._cut_from_resized(picture, self.resize_edge), dtype=np.uint8)
        filter_ = Image.Resampling[self.resample.upper()]
        box = self._box(*picture.size)
        resized = picture.resize((self.width, self.height), filter_, box=box)
        return np.array(resized, dtype=np.uint8)  # a copy: Pillow's own memory is read-only

    def normalise(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Do in numpy what the graph does first: for calibration and for parity.

        Args:
            images: uint8 ``(batch, height, width, 3)``.

        Returns:
            float32 ``(batch, 3, height, width)``.
        """
        mean = np.asarray(self.mean, dtype=np.float32)
        scale = np.float32(1) / np.asarray(self.std, dtype=np.float32)
        scaled = (images.astype(np.float32) - mean) * scale
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))

    def to_json(self) -> dict[str, Any]:
        """Return the contract as JSON values."""
        return {
            "kind": "image",
            "height": self.height,
            "width": self.width,
            "fit": self.fit,
            "crop_fraction": self.crop_fraction,
            **({} if self.resize_edge is None else {"resize_edge": self.resize_edge}),
            "resample": self.resample,
            "normalisation": {"inside_graph": True, "mean": list(self.mean), "std": list(self.std)},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ImagePreprocessing:
        """Read what :meth:`to_json` wrote.

        Raises:
            InputError: The value is of another kind or malformed.
        """
        try:
            if value["kind"] != "image":
                raise ValueError(f"kind is {value['kind']!r}, expected 'image'")
            inside = value["normalisation"]
            return cls(
                height=int(value["height"]),
                width=int(value["width"]),
                fit=value["fit"],
                crop_fraction=float(value["crop_fraction"]),
                resize_edge=_optional_int(value.get("resize_edge")),
                resample=value["resample"],
                mean=_three(inside["mean"]),
                std=_three(inside["std"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as exc:
            raise InputError(
                f"the preprocessing contract is malformed ({exc}); export again"
            ) from exc

    def _box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return the part of the source that is kept: left, top, right, bottom."""
        kept_width, kept_height = float(width), float(height)
        if self.fit == "crop":
            scale = min(width / self.width, height / self.height)
            kept_width, kept_height = self.width * scale, self.height * scale
        kept_width *= self.crop_fraction
        kept_height *= self.crop_fraction
        # Rounding may put an edge a hair outside the picture, which Pillow refuses.
        left, top = max((width - kept_width) / 2, 0.0), max((height - kept_height) / 2, 0.0)
        return left, top, min(left + kept_width, width), min(top + kept_height, height)

    def _cut_from_resized(self, picture: Image.Image, edge: int) -> Image.Image:
        """Resize the whole picture, and cut its centre.

        Pillow rounds between its two passes, and chooses their order by the size: scaling the
        centre alone would give other pixels.
        """
        from PIL import Image

        from edgeml.tasks.decoding import ImageLimits

        width, height = picture.size
        across = down = edge
        if self.fit == "crop" and width <= height:
            down = int(edge * height / width)
        elif self.fit == "crop":
            across = int(edge * width / height)
        limit = ImageLimits().max_pixels
        if across * down > limit:
            raise InputError(
                f"the image has {width}x{height} pixels, and would have {across}x{down} with the "
                f"shorter side that the model needs; the limit max_pixels is {limit}; send an "
                "image of less extreme proportions",
                limit="max_pixels",
                got=f"{across}x{down} pixels",
            )
        whole = picture.resize((across, down), Image.Resampling[self.resample.upper()])
        left, top = (across - self.width) // 2, (down - self.height) // 2
        return whole.crop((left, top, left + self.width, top + self.height))


@dataclass(frozen=True, kw_only=True)
class ImageTask:
    """Image classification: pictures in, labelled probabilities out."""

    preprocessing: ImagePreprocessing
    labels: ClassLabels = field(default_factory=lambda: ClassLabels(names=()))
    window = 32

    @property
    def signature(self) -> ModelSignature:
        """The signature that every variant of such a bundle has."""
        shape = ("batch", self.preprocessing.height, self.preprocessing.width, 3)
        classes = len(self.labels.names)
        return ModelSignature(
            inputs=(TensorSpec(name=INPUT, dtype="uint8", shape=shape),),
            outputs=(TensorSpec(name=OUTPUT, dtype="float32", shape=("batch", classes)),),
        )

    def prepare(self, item: Any) -> npt.NDArray[np.uint8]:
        """Turn one picture into uint8 ``(height, width, 3)``."""
        return self.preprocessing.prepare(item)

    def decode_golden(self, contents: bytes) -> bytes:
        """Return a picture's file as it is: its contents are an item."""
        return contents

    def collate(self, prepared: Sequence[npt.NDArray[np.uint8]]) -> Tensors:
        """Stack prepared pictures into one feed."""
        return {INPUT: np.stack(prepared)}

    def batches(self, prepared: Sequence[npt.NDArray[np.uint8]]) -> list[list[int]]:
        """Put all prepared pictures into one feed: they have one size."""
        return [list(range(len(prepared)))] if prepared else []

    def is_truncated(self, prepared: npt.NDArray[np.uint8]) -> bool:
        """Return False: a picture is scaled, never cut short."""
        return False

    def interpret(
        self, outputs: Mapping[str, npt.NDArray[Any]], *, served_by: str
    ) -> list[Prediction]:
        """Turn the model's probabilities into predictions."""
        return self.labels.interpret(outputs[OUTPUT], served_by=served_by)


def _optional_int(value: Any) -> int | None:
    return None if value is None else int(value)


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
    return first, second, third
