"""What a model takes and gives: names, dtypes and shapes, declared once.

ONNX axes, ONNX Runtime's checks and Triton's configuration all derive from a
:class:`ModelSignature`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.core.dtypes import BY_NUMPY
from edgeml.errors import SignatureError

Tensors = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One input or output: a name, a numpy dtype name, a shape whose symbolic axes are strings.

    Example:
        >>> TensorSpec(name="image", dtype="uint8", shape=("batch", 64, 64, 3)).describe()
        'uint8 (batch, 64, 64, 3)'
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"a tensor needs a name, got {self.name!r}")
        if self.dtype not in BY_NUMPY:
            raise ValueError(f"unknown dtype {self.dtype!r}; known: {', '.join(BY_NUMPY)}")
        for axis in self.shape:
            if isinstance(axis, bool) or not isinstance(axis, (int, str)) or axis == "":
                raise ValueError(f"axis {axis!r} of '{self.name}' is neither a size nor a name")
            if isinstance(axis, int) and axis < 0:
                raise ValueError(f"axis {axis} of '{self.name}' is negative; name a free axis")

    def describe(self) -> str:
        """Return dtype and shape in one readable string."""
        return f"{self.dtype} ({', '.join(str(axis) for axis in self.shape)})"

    def check(self, array: object) -> None:
        """Check one array against this spec.

        Args:
            array: Candidate; must be a numpy array of exactly this dtype and of a shape that fits.

        Raises:
            SignatureError: The dtype, the rank, a fixed axis or a NaN is wrong.
        """
        # The way of every good feed: a device's model may take less time than careful words would.
        if type(array) is np.ndarray and array.dtype == self._native and self._fits(array.shape):
            if array.dtype.kind == "f" and array.size and np.isnan(array.min()):
                self._refuse(f"{array.dtype.name} {_shape_text(array.shape)} and holds NaN")
            return
        if not isinstance(array, np.ndarray):
            self._refuse(f"a {type(array).__name__}")
        elif array.dtype.name != self.dtype:
            self._refuse(f"{array.dtype.name} {_shape_text(array.shape)}")
        elif not array.dtype.isnative:
            # ONNX Runtime reads such an array's bytes as if they were in this machine's order.
            self._refuse(f"{array.dtype.name} {_shape_text(array.shape)} in foreign byte order")
        elif not self._fits(array.shape):
            self._refuse(f"{array.dtype.name} {_shape_text(array.shape)}")
        elif array.dtype.kind == "f" and array.size and np.isnan(array.min()):
            self._refuse(f"{array.dtype.name} {_shape_text(array.shape)} and holds NaN")

    @cached_property
    def _native(self) -> np.dtype[Any]:
        return np.dtype(self.dtype)

    @cached_property
    def _fixed(self) -> tuple[tuple[int, int], ...]:
        return tuple((i, axis) for i, axis in enumerate(self.shape) if isinstance(axis, int))

    @cached_property
    def symbolic(self) -> tuple[tuple[int, str], ...]:
        """Positions and names of the axes without a fixed size."""
        return tuple((i, axis) for i, axis in enumerate(self.shape) if isinstance(axis, str))

    def _fits(self, shape: tuple[int, ...]) -> bool:
        if len(shape) != len(self.shape):
            return False
        return all(shape[position] == size for position, size in self._fixed)

    def _refuse(self, got: str) -> None:
        raise SignatureError(tensor=self.name, expected=self.describe(), got=got)


@dataclass(frozen=True, kw_only=True)
class ModelSignature:
    """Inputs and outputs of a model; the first axis of each is the batch."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def __post_init__(self) -> None:
        for side in (self.inputs, self.outputs):
            names = [spec.name for spec in side]
            if not names or len(set(names)) != len(names):
                raise ValueError(f"a signature needs tensors with distinct names, got {names}")
            for spec in side:
                if not spec.shape:
                    raise ValueError(f"'{spec.name}' has no axis; the first one must be the batch")

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(spec.name for spec in self.inputs)

    def check_inputs(self, tensors: Tensors) -> int:
        """Check a feed against the inputs.

        Args:
            tensors: Input name to array, batch first.

        Returns:
            The batch size.

        Raises:
            SignatureError: A tensor is missing, unknown, of a wrong dtype or shape, holds NaN, is
                empty, or two tensors disagree about a symbolic axis.
        """
        for name in tensors:
            if name not in self._names:
                expected = ", ".join(spec.name for spec in self.inputs)
                raise SignatureError(tensor=name, expected=f"only {expected}", got="not an input")
        axes: dict[str, int] = {}
        for spec in self.inputs:
            if spec.name not in tensors:
                raise SignatureError(tensor=spec.name, expected=spec.describe(), got="missing")
            array = tensors[spec.name]
            spec.check(array)
            for position, axis in spec.symbolic:
                size = array.shape[position]
                if axes.setdefault(axis, size) != size:
                    got = f"of size {size} on axis '{axis}'"
                    raise SignatureError(tensor=spec.name, expected=f"size {axes[axis]}", got=got)
        batch = int(tensors[self.inputs[0].name].shape[0])
        if batch == 0:
            spec = self.inputs[0]
            raise SignatureError(tensor=spec.name, expected=spec.describe(), got="an empty batch")
        return batch

    def to_json(self) -> dict[str, Any]:
        """Return this signature as JSON values."""
        return {
            side: [
                {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}
                for spec in getattr(self, side)
            ]
            for side in ("inputs", "outputs")
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ModelSignature:
        """Read what :meth:`to_json` wrote; KeyError, TypeError or ValueError if malformed."""

        def specs(side: str) -> tuple[TensorSpec, ...]:
            return tuple(
                TensorSpec(name=row["name"], dtype=row["dtype"], shape=_axes(row["shape"]))
                for row in value[side]
            )

        return cls(inputs=specs("inputs"), outputs=specs("outputs"))


def _axes(value: object) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise TypeError(f"a shape must be a list, got {type(value).__name__}")
    return tuple(value)


def _shape_text(shape: tuple[int, ...]) -> str:
    return f"({', '.join(str(size) for size in shape)})"
