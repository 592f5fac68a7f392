"""optimum's static preset."""

from __future__ import annotations

from onnxruntime.quantization import CalibrationMethod
from optimum.onnxruntime import ORTQuantizer
from optimum.onnxruntime.configuration import AutoQuantizationConfig, CalibrationConfig

from benchmarks.zoo.recipes.job import Job


def make(job: Job) -> dict[str, str]:
    """Quantize with ``avx512_vnni(is_static=True)`` and its defaults, ranges by MinMax."""
    settings = AutoQuantizationConfig.avx512_vnni(is_static=True)
    # What AutoCalibrationConfig.minmax returns for a data set of the datasets library.
    calibration = CalibrationConfig(
        dataset_name="data",
        dataset_config_name="data",
        dataset_split="calibration",
        dataset_num_samples=job.count,
        method=CalibrationMethod.MinMax,
        moving_average=False,
        averaging_constant=0.01,
    )
    quantizer = ORTQuantizer(job.model)
    # Its reader wraps each value in a list, as the batch axis of one sample.
    samples = [{name: array[0] for name, array in feed.items()} for feed in job.feeds()]
    augmented = job.out / "augmented.onnx"
    ranges = quantizer.fit(
        dataset=samples,
        calibration_config=calibration,
        onnx_augmented_model_name=augmented,
        operators_to_quantize=settings.operators_to_quantize,
    )
    quantizer.quantize(
        save_dir=job.out,
        quantization_config=settings,
        calibration_tensors_range=ranges,
        file_suffix=None,
    )
    augmented.unlink(missing_ok=True)
    return {}
