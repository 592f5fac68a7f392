"""Static quantization with ONNX Runtime's tools alone."""

from __future__ import annotations

from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from benchmarks.zoo.recipes.job import Feed, Job
from benchmarks.zoo.recipes.preprocessed import preprocess


class Reader(CalibrationDataReader):
    """The calibration samples, one a feed."""

    def __init__(self, job: Job) -> None:
        self._feeds = job.feeds()

    def get_next(self) -> Feed | None:
        """Return the next feed, or None at the end."""
        return next(self._feeds, None)


def make(job: Job) -> dict[str, str]:
    """Quantize to QDQ: activations uint8, weights int8 per channel, ranges by MinMax."""
    prepared, how = preprocess(job)
    quantize_static(
        str(prepared),
        str(job.target),
        Reader(job),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
    )
    prepared.unlink()
    return {"preprocessing": how}
