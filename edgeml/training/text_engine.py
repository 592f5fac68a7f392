"""A transformers classifier as an engine: the yardstick beside the variants."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from edgeml.core.signature import ModelSignature, Tensors
from edgeml.errors import ClosedError


class TextTorchEngine:
    """An eager torch text classifier, behind the bundle's signature.

    Args:
        model: Takes ids by name; its answer has ``logits``.
        signature: The bundle's signature.
        temperature: What the logits are divided by.
        multi_label: Whether several labels may hold at once.
        num_threads: Threads of torch, set for the whole process: torch has no other way.
    """

    def __init__(
        self,
        model: nn.Module,
        signature: ModelSignature,
        *,
        temperature: float,
        multi_label: bool,
        num_threads: int,
    ) -> None:
        torch.set_num_threads(num_threads)
        self._model: nn.Module | None = model.eval()
        self._signature = signature
        self._temperature = temperature
        self._multi_label = multi_label

    @property
    def signature(self) -> ModelSignature:
        """Inputs and outputs."""
        return self._signature

    @property
    def served_by(self) -> str:
        """Engine, device and precision."""
        return "torch/cpu/fp32"

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
            # Copies: torch takes neither read-only nor flipped arrays.
            feed = {name: torch.from_numpy(np.array(array)) for name, array in tensors.items()}
            logits = model(**feed).logits.float() / self._temperature
            chances = logits.sigmoid() if self._multi_label else logits.softmax(dim=1)
        return {self._signature.outputs[0].name: chances.numpy()}

    def close(self) -> None:
        """Release the module."""
        self._model = None
