"""ONNX Runtime's own preparation of a file before it is quantized, as its documentation asks."""

from __future__ import annotations

import contextlib
from pathlib import Path

from onnxruntime.quantization.shape_inference import quant_pre_process

from benchmarks.zoo.recipes.job import Job


def preprocess(job: Job) -> tuple[Path, str]:
    """Prepare the model beside the target, and say how.

    Where symbolic shapes cannot be inferred, that step is left out, as the tool itself proposes.
    """
    prepared = job.out.resolve() / "prepared.onnx"
    model = str(job.model.resolve())
    with contextlib.chdir(job.out):  # where it fails it leaves files in the current folder
        try:
            quant_pre_process(model, str(prepared))
        except Exception as exc:  # the tool raises bare exceptions
            quant_pre_process(model, str(prepared), skip_symbolic_shape=True)
            return prepared, f"without symbolic shapes ({type(exc).__name__})"
    return prepared, "whole"
