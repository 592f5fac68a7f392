"""The one table of element types: numpy, ONNX, ONNX Runtime and Triton names of the same thing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DType:
    """One element type under each of its names.

    Attributes:
        numpy: numpy's name, the one that signatures and manifests use.
        onnx: Number in ``onnx.TensorProto.DataType``.
        runtime: ONNX Runtime's type string.
        triton: Name in ``config.pbtxt``; its wire name is this without ``TYPE_``.
    """

    numpy: str
    onnx: int
    runtime: str
    triton: str

    @property
    def wire(self) -> str:
        """Name in the inference protocol, which differs from the configuration's."""
        return self.triton.removeprefix("TYPE_")


DTYPES: tuple[DType, ...] = (
    DType(numpy="float32", onnx=1, runtime="tensor(float)", triton="TYPE_FP32"),
    DType(numpy="uint8", onnx=2, runtime="tensor(uint8)", triton="TYPE_UINT8"),
    DType(numpy="int8", onnx=3, runtime="tensor(int8)", triton="TYPE_INT8"),
    DType(numpy="uint16", onnx=4, runtime="tensor(uint16)", triton="TYPE_UINT16"),
    DType(numpy="int16", onnx=5, runtime="tensor(int16)", triton="TYPE_INT16"),
    DType(numpy="int32", onnx=6, runtime="tensor(int32)", triton="TYPE_INT32"),
    DType(numpy="int64", onnx=7, runtime="tensor(int64)", triton="TYPE_INT64"),
    DType(numpy="bool", onnx=9, runtime="tensor(bool)", triton="TYPE_BOOL"),
    DType(numpy="float16", onnx=10, runtime="tensor(float16)", triton="TYPE_FP16"),
    DType(numpy="float64", onnx=11, runtime="tensor(double)", triton="TYPE_FP64"),
    DType(numpy="uint32", onnx=12, runtime="tensor(uint32)", triton="TYPE_UINT32"),
    DType(numpy="uint64", onnx=13, runtime="tensor(uint64)", triton="TYPE_UINT64"),
)

BY_NUMPY = {row.numpy: row for row in DTYPES}
BY_RUNTIME = {row.runtime: row for row in DTYPES}
BY_WIRE = {row.wire: row for row in DTYPES}
