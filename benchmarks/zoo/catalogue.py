"""The fixed recipes, as rows: what a careful user does without a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.zoo.members import Member

FP32, OPENVINO_FP32, NNCF = "ort_fp32", "openvino_fp32", "nncf"
CALIBRATION_SAMPLES = 300


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to make a file from ``model.onnx``, and what runs it.

    Attributes:
        name: Its row in ``peers.json``, and its folder.
        about: What it is, for the report.
        module: Module of ``benchmarks.zoo.recipes`` that makes it; empty runs the model as it is.
        environment: Name of the peers' requirements file; None is the environment that runs this.
        engine: ``onnxruntime`` or ``openvino``.
        file: Name of the file that is made.
        optimum: Whether it is one of optimum's presets, made for vision and text only.
    """

    name: str
    about: str
    module: str = ""
    environment: str | None = None
    engine: str = "onnxruntime"
    file: str = "model.onnx"
    optimum: bool = False

    def applies(self, member: Member) -> bool:
        """Return whether it is meant for such a model."""
        return member.optimum or not self.optimum


RECIPES: Mapping[str, Recipe] = {
    row.name: row
    for row in (
        Recipe(name=FP32, about="the float32 file, ONNX Runtime"),
        Recipe(
            name="ort_static",
            about="quant_pre_process, quantize_static: QDQ, U8S8, per channel, MinMax",
            module="ort_static",
        ),
        Recipe(
            name="ort_dynamic",
            about="quant_pre_process, quantize_dynamic: QInt8 weights",
            module="ort_dynamic",
        ),
        Recipe(
            name="optimum_static",
            about="optimum's avx512_vnni preset, static, MinMax",
            module="optimum_static",
            environment="optimum",
            optimum=True,
        ),
        Recipe(
            name="optimum_dynamic",
            about="optimum's avx512_vnni preset, dynamic",
            module="optimum_dynamic",
            environment="optimum",
            optimum=True,
        ),
        Recipe(name=OPENVINO_FP32, about="the float32 file, OpenVINO, f32 hint", engine="openvino"),
        Recipe(
            name=NNCF,
            about="nncf.quantize, MIXED and the transformer scheme for transformers, else "
            "PERFORMANCE; OpenVINO, f32 hint",
            module="nncf_static",
            environment="openvino",
            engine="openvino",
            file="model.xml",
        ),
    )
}

# What our search on ONNX Runtime alone is compared with; NNCF stands in a column of its own.
FIXED = tuple(name for name, row in RECIPES.items() if row.engine == "onnxruntime")
