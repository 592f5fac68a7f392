"""NNCF's post-training quantization for OpenVINO."""

from __future__ import annotations

import nncf
import openvino

from benchmarks.zoo.recipes.job import Job


def make(job: Job) -> dict[str, str]:
    """Quantize as its documentation says for the kind of model; shapes stay dynamic."""
    model = openvino.Core().read_model(job.model)
    preset = (
        nncf.QuantizationPreset.MIXED if job.transformer else nncf.QuantizationPreset.PERFORMANCE
    )
    quantized = nncf.quantize(
        model,
        nncf.Dataset(list(job.feeds())),
        preset=preset,
        model_type=nncf.ModelType.TRANSFORMER if job.transformer else None,
        subset_size=job.count,
    )
    openvino.save_model(quantized, job.target, compress_to_fp16=False)
    quantizers = sum(node.get_type_name() == "FakeQuantize" for node in quantized.get_ops())
    return {"preset": str(preset.value), "fake_quantize_nodes": str(quantizers)}
