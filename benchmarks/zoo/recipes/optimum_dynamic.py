"""optimum's dynamic preset."""

from __future__ import annotations

from optimum.onnxruntime import ORTQuantizer
from optimum.onnxruntime.configuration import AutoQuantizationConfig

from benchmarks.zoo.recipes.job import Job


def make(job: Job) -> dict[str, str]:
    """Quantize with ``avx512_vnni(is_static=False)`` and its defaults."""
    settings = AutoQuantizationConfig.avx512_vnni(is_static=False)
    ORTQuantizer(job.model).quantize(
        save_dir=job.out, quantization_config=settings, file_suffix=None
    )
    return {}
