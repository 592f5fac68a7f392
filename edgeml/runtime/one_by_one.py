"""An engine that runs each sample of a feed alone and joins the answers.

For models whose answers depend on their neighbours, and for those that take one sample at a time:
slower than a batch, and right.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.core.batching import with_free_batch
from edgeml.core.predictor import Engine
from edgeml.core.signature import ModelSignature, Tensors
from edgeml.errors import InferenceError


class OneByOne:
    """Runs one sample at a time.

    Args:
        engine: What runs each sample; it is closed with this one.

    Raises:
        InputError: The engine wants several samples at once.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._signature = with_free_batch(engine.signature)

    @property
    def signature(self) -> ModelSignature:
        """Inputs and outputs of the engine, with a free first axis."""
        return self._signature

    @property
    def served_by(self) -> str:
        """Engine, device, precision and version of what runs each sample."""
        return self._engine.served_by

    def run(self, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
        """Run every sample of a feed alone.

        Args:
            tensors: Input name to array, batch first, of any number of samples.

        Returns:
            Output name to array, batch first.

        Raises:
            SignatureError: The feed does not fit.
            ClosedError: The engine was closed.
            InferenceError: A sample could not be computed, or the answers cannot be joined because
                their shapes differ.
        """
        batch = self._signature.check_inputs(tensors)
        if batch == 1:
            return self._engine.run(tensors)
        answers = [
            self._engine.run({name: array[row : row + 1] for name, array in tensors.items()})
            for row in range(batch)
        ]
        return {name: _joined(name, [answer[name] for answer in answers]) for name in answers[0]}

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()


def _joined(name: str, arrays: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1 or arrays[0].shape[:1] != (1,):
        found = " and ".join(str(shape) for shape in sorted(shapes)[:3])
        raise InferenceError(
            reason=f"the samples' answers '{name}' have the shapes {found} and cannot be joined"
        )
    return np.concatenate(arrays)
