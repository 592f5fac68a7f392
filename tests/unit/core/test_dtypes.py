"""The one table of element types agrees with numpy and with ONNX."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgeml.core.dtypes import BY_NUMPY, BY_RUNTIME, BY_WIRE, DTYPES, DType


@pytest.mark.parametrize("row", DTYPES, ids=lambda row: row.numpy)
def test_a_row_names_one_type_five_times(row: DType) -> None:
    assert np.dtype(row.numpy).name == row.numpy
    assert onnx.helper.tensor_dtype_to_np_dtype(row.onnx) == np.dtype(row.numpy)
    assert row.triton == f"TYPE_{row.wire}"
    assert BY_NUMPY[row.numpy] is BY_RUNTIME[row.runtime] is BY_WIRE[row.wire] is row


def test_no_name_occurs_twice() -> None:
    for names in ("numpy", "onnx", "runtime", "triton"):
        assert len({getattr(row, names) for row in DTYPES}) == len(DTYPES)
