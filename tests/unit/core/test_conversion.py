"""Which values become which dtypes, and which are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeml.core.conversion import as_declared
from edgeml.core.signature import TensorSpec
from edgeml.errors import InputError


def _spec(dtype: str) -> TensorSpec:
    return TensorSpec(name="x", dtype=dtype, shape=("batch", "n"))


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (np.array([0.5, -2], dtype=np.float64), "float32"),
        (np.array([0.5, -2], dtype=">f4"), "float32"),
        (np.array([0.5, -2], dtype=np.float16), "float32"),
        (np.array([1, -2]), "float32"),
        (np.array([1, 200]), "uint8"),
        (np.array([1, 2**31 - 1], dtype=np.uint64), "int32"),
        ([1, 2], "float16"),
        ([[1.5], [np.inf]], "float32"),
        (3, "int64"),
        ([True, False], "bool"),
        ([], "int64"),
    ],
    ids=str,
)
def test_nothing_is_lost(value: Any, dtype: str) -> None:
    array = as_declared(value, _spec(dtype))
    assert (array.dtype.name, array.dtype.isnative) == (dtype, True)
    assert array.shape == np.shape(value)
    assert np.array_equal(array, np.asarray(value))


def test_an_array_that_fits_is_itself() -> None:
    array = np.zeros((2, 3), dtype=np.float32)
    assert as_declared(array, _spec("float32")) is array


@pytest.mark.parametrize(
    ("value", "dtype", "says"),
    [
        ([1.0, 2.0], "int64", "from float to integer"),
        (np.zeros(0), "int64", "from float to integer"),
        ([True], "float32", "from bool to float"),
        ([True], "int64", "from bool to integer"),
        ([1, 0], "bool", "from integer to bool"),
        ([1.0], "bool", "from float to bool"),
        ([1j], "float32", "is complex128"),
        (["a"], "float32", "is str"),
        ([None], "float32", "is object"),
        ([2**70], "int64", "is object"),
        ([[1], [1, 2]], "float32", "is no array"),
        ([256], "uint8", "holds 256; the model expects uint8, 0 to 255"),
        ([-1, 3], "uint8", "holds -1"),
        (np.array([2**63], dtype=np.uint64), "int64", "holds 9223372036854775808"),
        ([1e300], "float32", "too large for float32"),
        ([70000], "float16", "too large for float16"),
        (np.ma.MaskedArray([1.0], mask=[True]), "float32", "masked"),
    ],
    ids=str,
)
def test_what_would_be_lost_is_refused(value: Any, dtype: str, says: str) -> None:
    with pytest.raises(InputError, match=r"tensor 'x'.*" + says):
        as_declared(value, _spec(dtype))
