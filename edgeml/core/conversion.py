"""Values of users as arrays of the dtype that a model declares, where nothing is lost in kind.

A float never becomes an integer and a truth value never a number: what would be rounded, wrapped
around or reinterpreted is refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.core.signature import TensorSpec
from edgeml.errors import InputError

_KINDS = {"b": "bool", "i": "integer", "u": "integer", "f": "float"}


def as_declared(value: Any, spec: TensorSpec) -> npt.NDArray[Any]:
    """Return a value as an array of the dtype that a tensor declares.

    float64 becomes float32, integers become floats, and integers other integers that hold them.

    Args:
        value: An array, or numbers in lists; of any shape.
        spec: The tensor; its shape is not looked at.

    Returns:
        An array of this dtype; the value itself where it is one already.

    Raises:
        InputError: The value is no array of numbers, or its dtype or a number in it does not fit.

    Example:
        >>> as_declared([1, 2], TensorSpec(name="x", dtype="float32", shape=("batch", 2))).dtype
        dtype('float32')
    """
    array = _as_array(value, spec)
    wanted = np.dtype(spec.dtype)
    if array.dtype == wanted and array.dtype.isnative:
        return array
    given, asked = _KINDS.get(array.dtype.kind), _KINDS[wanted.kind]
    # An empty list has no kind of its own: numpy calls it float64.
    if array.size == 0 and not isinstance(value, np.ndarray):
        return array.astype(wanted)
    if given != asked and (given, asked) != ("integer", "float"):
        raise InputError(
            f"the tensor '{spec.name}' is {array.dtype.name}; the model expects {spec.describe()}, "
            f"and a conversion from {given or 'this'} to {asked} may lose what is meant; convert "
            "the array"
        )
    if asked == "integer":
        _refuse_unfit(array, wanted, spec)
        return array.astype(wanted)
    with np.errstate(over="ignore"):
        converted = array.astype(wanted)
    if array.size and not np.array_equal(np.isinf(converted), np.isinf(array)):
        raise InputError(
            f"the tensor '{spec.name}' holds a number too large for {spec.dtype}; finite ones were "
            "expected; scale or clip the array"
        )
    return converted


def _as_array(value: Any, spec: TensorSpec) -> npt.NDArray[Any]:
    if isinstance(value, np.ma.MaskedArray):
        raise InputError(
            f"the tensor '{spec.name}' is a masked array, whose mask no model sees; a plain array "
            "was expected; fill it"
        )
    try:
        return np.asarray(value)
    except Exception as exc:  # ragged lists, and whatever a stranger's __array__ raises
        raise InputError(
            f"the tensor '{spec.name}' is no array ({exc}); {spec.describe()} was expected; pass "
            "an array, or lists of one length"
        ) from exc


def _refuse_unfit(array: npt.NDArray[Any], wanted: np.dtype[Any], spec: TensorSpec) -> None:
    if not array.size:
        return
    limits = np.iinfo(wanted)
    lowest, highest = int(array.min()), int(array.max())
    if lowest < limits.min or highest > limits.max:
        raise InputError(
            f"the tensor '{spec.name}' holds {lowest if lowest < limits.min else highest}; the "
            f"model expects {spec.dtype}, {limits.min} to {limits.max}; check the values"
        )
