"""A torch module as an engine: the yardstick beside the variants, never what is deployed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from edgeml.core.signature import ModelSignature, Tensors
from edgeml.errors import ClosedError
from edgeml.training.image_history import Normalisation


class TorchEngine:
    """An eager torch classifier over uint8 images, behind the bundle's signature.

    Args:
        model: Normalised float images to logits.
        normalisation: The contract's scaling.
        signature: The bundle's signature.
        num_threads: Threads of torch, set for the whole process: torch has no other way.
        channels_last: Whether to use torch's faster memory layout instead of its default one.
        temperature: Divides the logits.
    """

    def __init__(
        self,
        model: nn.Module,
        normalisation: Normalisation,
        signature: ModelSignature,
        *,
        num_threads: int,
        channels_last: bool = False,
        temperature: float = 1.0,
    ) -> None:
        torch.set_num_threads(num_threads)
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self._model: nn.Module | None = model.eval().to(memory_format=self._layout)  # type: ignore[call-overload]
        self._normalisation = normalisation
        self._signature = signature
        self._temperature = temperature

    @property
    def signature(self) -> ModelSignature:
        """Inputs and outputs."""
        return self._signature

    @property
    def served_by(self) -> str:
        """Engine, device and precision."""
        layout = "-channels-last" if self._layout is torch.channels_last else ""
        return f"torch{layout}/cpu/fp32"

    def run(self, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
        """Run a feed in inference mode.

        Raises:
            SignatureError: The feed does not fit.
            ClosedError: The engine was closed.
        """
        model = self._model
        if model is None:
            raise ClosedError
        self._signature.check_inputs(tensors)
        with torch.inference_mode():
            # A copy: torch takes neither read-only nor flipped arrays, and runs batches, not sets.
            images = torch.from_numpy(np.array(tensors[self._signature.inputs[0].name]))
            pixels = self._normalisation.apply(images).contiguous(memory_format=self._layout)
            probabilities = (model(pixels) / self._temperature).softmax(dim=1)
        return {self._signature.outputs[0].name: probabilities.numpy()}

    def close(self) -> None:
        """Release the module."""
        self._model = None
