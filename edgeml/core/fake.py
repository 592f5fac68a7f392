"""A fake engine for tests of code that uses edgeml: deterministic, scriptable, without a model."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.core.signature import ModelSignature, Tensors
from edgeml.errors import ClosedError

Answer = Callable[[Tensors], dict[str, npt.NDArray[Any]]]


class FakeEngine:
    """An engine whose answers come from a function.

    Args:
        signature: What the fake model takes and gives.
        answer: Feed to outputs; without it every class is equally probable, except that the sum of
            the sample's values decides which one gets the larger share, so that answers depend on
            inputs.
        served_by: What predictions shall say.
    """

    def __init__(
        self,
        signature: ModelSignature,
        *,
        answer: Answer | None = None,
        served_by: str = "fake/cpu/fp32/1",
    ) -> None:
        self._signature = signature
        self._answer = answer or self._by_sum
        self._served_by = served_by
        self._closed = threading.Event()

    @property
    def signature(self) -> ModelSignature:
        """Inputs and outputs."""
        return self._signature

    @property
    def served_by(self) -> str:
        """The name given at construction."""
        return self._served_by

    def run(self, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
        """Check the feed as a real engine does and return the function's answer.

        Raises:
            ClosedError: The engine was closed.
            SignatureError: The feed does not fit.
        """
        if self._closed.is_set():
            raise ClosedError
        self._signature.check_inputs(tensors)
        return self._answer(tensors)

    def close(self) -> None:
        """Refuse further calls."""
        self._closed.set()

    def _by_sum(self, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
        spec = self._signature.outputs[0]
        classes = int(spec.shape[-1])
        batch = len(next(iter(tensors.values())))
        totals = np.zeros(batch, dtype=np.int64)
        for array in tensors.values():
            totals += array.reshape(batch, -1).astype(np.float64).sum(axis=1).astype(np.int64)
        scores = np.full((batch, classes), 0.5 / classes, dtype=np.float32)
        scores[np.arange(batch), totals % classes] += 0.5
        return {spec.name: scores}
