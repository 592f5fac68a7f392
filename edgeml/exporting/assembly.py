"""What a bundle's model has around its traced core, as data that a child process can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import onnx

from edgeml.core.signature import ModelSignature, Tensors
from edgeml.exporting.assembling import (
    IR_VERSION,
    assemble_image_classifier,
    scalar_normalisation,
    strip_notes,
)
from edgeml.exporting.assembling_text import assemble_text_classifier
from edgeml.tasks.image import ImagePreprocessing

Frame = Literal["image", "text", "none"]


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """How a core becomes the model that a bundle holds.

    Attributes:
        frame: ``image`` puts normalisation, temperature and softmax around it; ``text`` temperature
            and softmax or sigmoid; ``none`` leaves the graph as its source gave it.
        signature: What the assembled model takes and gives.
        preprocessing: The image contract, for ``image``.
        temperature: Divides the logits.
        multi_label: Whether a text model's classes do not exclude each other.
    """

    frame: Frame
    signature: ModelSignature
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    temperature: float = 1.0
    multi_label: bool = False

    def assemble(self, core: onnx.ModelProto, *, integer_input: bool = False) -> onnx.ModelProto:
        """Return the whole model.

        Args:
            core: Float, or quantized.
            integer_input: For ``image``: feed the uint8 values past the core's first quantizer.

        Raises:
            ExportError: The core has not the form that the frame needs.
        """
        if self.frame == "image":
            return assemble_image_classifier(
                core,
                self.signature,
                self._contract(),
                integer_input=integer_input,
                temperature=self.temperature,
            )
        if self.frame == "text":
            return assemble_text_classifier(
                core, self.signature, temperature=self.temperature, multi_label=self.multi_label
            )
        model = onnx.ModelProto()
        model.CopyFrom(core)
        model.ir_version = min(model.ir_version, IR_VERSION)
        strip_notes(model)
        return model

    def core_feed(self, feed: Tensors, core: onnx.ModelProto) -> Tensors:
        """Turn a feed of the whole model into one of its core."""
        if self.frame != "image":
            return feed
        image = feed[self.signature.inputs[0].name]
        return {core.graph.input[0].name: self._contract().normalise(image)}

    def input_scale(self) -> tuple[float, int] | None:
        """Return scale and zero point of an exact integer input, where the contract has one."""
        return scalar_normalisation(self._contract()) if self.frame == "image" else None

    def to_json(self) -> dict[str, Any]:
        """Return the assembly as JSON values."""
        return {
            "frame": self.frame,
            "signature": self.signature.to_json(),
            "preprocessing": dict(self.preprocessing),
            "temperature": self.temperature,
            "multi_label": self.multi_label,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Assembly:
        """Read what :meth:`to_json` wrote."""
        return cls(**{**value, "signature": ModelSignature.from_json(value["signature"])})

    def _contract(self) -> ImagePreprocessing:
        return ImagePreprocessing.from_json(self.preprocessing)
