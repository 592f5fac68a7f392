"""The task ``tensor``: named arrays in, named arrays out; what they mean is the caller's business.

Any graph can be run as this task. Nothing is normalised, padded or cut here: dtypes are converted
where nothing is lost, a batch axis is added, and whatever does not fit is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.core.archives import read_archive, write_archive
from edgeml.core.batching import takes_one
from edgeml.core.conversion import as_declared
from edgeml.core.predictor import Prediction
from edgeml.core.signature import ModelSignature, Tensors, TensorSpec
from edgeml.errors import InferenceError, InputError, ModelOutputError, SignatureError

_BATCH = 32

GOLDEN_SUFFIX = ".npz"


@dataclass(frozen=True, kw_only=True)
class TensorTask:
    """Named arrays of one sample in, named arrays of one sample out.

    Attributes:
        signature: Inputs and outputs of the model.
    """

    signature: ModelSignature
    window = _BATCH

    def prepare(self, item: Any) -> dict[str, npt.NDArray[Any]]:
        """Turn one sample into a feed of one.

        Args:
            item: Input name to array, list or number; each without the batch axis, or with one of
                size 1.

        Returns:
            Input name to array with a batch axis of 1, of the dtypes that the model declares.

        Raises:
            InputError: It is no mapping, or a value cannot be converted without loss.
            SignatureError: An input is missing, unknown or of a wrong shape, two disagree about a
                shared axis, or one holds NaN.
        """
        if not isinstance(item, Mapping):
            names = ", ".join(f"'{spec.name}'" for spec in self.signature.inputs)
            raise InputError(
                f"the item is a {type(item).__name__}; a mapping from input name to array was "
                f"expected, with {names}; name the arrays"
            )
        feed = {str(name): value for name, value in item.items()}
        for spec in self.signature.inputs:
            if spec.name in feed:
                feed[spec.name] = _one_sample(feed[spec.name], spec)
        # Said here, where it costs this item alone, and not by the engine in a feed of many.
        self.signature.check_inputs(feed)
        return feed

    def decode_golden(self, contents: bytes) -> dict[str, npt.NDArray[Any]]:
        """Return a golden sample from its ``.npz`` file.

        Raises:
            InputError: It is no such file.
        """
        return read_archive(contents)

    def encode_golden(self, item: Any) -> bytes:
        """Return one sample as the contents of the ``.npz`` file that :meth:`decode_golden` reads.

        Raises:
            InputError: The sample does not fit, as for :meth:`prepare`.
        """
        return write_archive(self.prepare(item))

    def collate(self, prepared: Sequence[Tensors]) -> Tensors:
        """Join prepared samples of equal shapes into one feed."""
        if len(prepared) == 1:
            return prepared[0]
        names = [spec.name for spec in self.signature.inputs]
        return {name: np.concatenate([feed[name] for feed in prepared]) for name in names}

    def batches(self, prepared: Sequence[Tensors]) -> list[list[int]]:
        """Group prepared samples by their shapes: at most 32, one where the model takes one."""
        groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
        for index, feed in enumerate(prepared):
            shapes = tuple(feed[spec.name].shape for spec in self.signature.inputs)
            groups.setdefault(shapes, []).append(index)
        size = 1 if takes_one(self.signature) else _BATCH
        return [
            group[start : start + size]
            for group in groups.values()
            for start in range(0, len(group), size)
        ]

    def is_truncated(self, prepared: Tensors) -> bool:
        """Return False: arrays are never cut."""
        return False

    def interpret(
        self, outputs: Mapping[str, npt.NDArray[Any]], *, served_by: str
    ) -> list[Prediction]:
        """Give each sample its outputs, without the batch axis.

        Args:
            outputs: Output name to array, batch first.
            served_by: Who answered.

        Raises:
            ModelOutputError: A float output holds NaN or infinity.
            InferenceError: The outputs disagree about the number of samples.
        """
        for name, array in outputs.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise ModelOutputError(tensor=name)
        sizes = {name: array.shape[0] if array.ndim else 0 for name, array in outputs.items()}
        if len(set(sizes.values())) != 1:
            found = ", ".join(f"'{name}' {size}" for name, size in sizes.items())
            raise InferenceError(reason=f"its outputs have different numbers of rows: {found}")
        return [
            # The dots keep a number an array without axes.
            Prediction(
                outputs={name: array[row, ...] for name, array in outputs.items()},
                served_by=served_by,
            )
            for row in range(next(iter(sizes.values())))
        ]


def _one_sample(value: Any, spec: TensorSpec) -> npt.NDArray[Any]:
    """Return one sample of an input with a batch axis of 1."""
    array = as_declared(value, spec)
    if array.ndim == len(spec.shape) - 1:
        return array[np.newaxis]
    if array.ndim == len(spec.shape) and array.shape[0] == 1:
        return array
    sizes = ", ".join(str(size) for size in array.shape)
    raise SignatureError(
        tensor=spec.name,
        expected=f"one sample of {spec.describe()}, without its first axis or with one of size 1",
        got=f"{array.dtype.name} ({sizes})",
    )
