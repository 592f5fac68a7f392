"""Dynamic quantization with ONNX Runtime's tools alone."""

from __future__ import annotations

from onnxruntime.quantization import QuantType, quantize_dynamic

from benchmarks.zoo.recipes.job import Job
from benchmarks.zoo.recipes.preprocessed import preprocess


def make(job: Job) -> dict[str, str]:
    """Quantize the operators that it takes by default, weights int8."""
    prepared, how = preprocess(job)
    quantize_dynamic(str(prepared), str(job.target), weight_type=QuantType.QInt8)
    prepared.unlink()
    return {"preprocessing": how}
