"""OpenVINO on optimum's fp32 ONNX: in fp32, or in bf16 where the processor has it."""

from __future__ import annotations

import openvino

from benchmarks.peers.engines.bare import best, open_tokenizer
from benchmarks.peers.opened import OpenPeer, Place

PACKAGES = ("openvino", "tokenizers", "numpy")

_PRECISIONS = {"fp32": "f32", "bf16": "bf16"}


def open_peer(place: Place) -> OpenPeer:
    """Compile for one thread in the variant's precision.

    Raises:
        ValueError: OpenVINO would compute in another precision than was asked for.
    """
    assert place.model is not None
    wanted = _PRECISIONS[place.variant or "fp32"]
    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": wanted,
    }
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if wanted == "bf16" and "BF16" not in able:
        raise ValueError(f"this processor has no bf16; OpenVINO names {', '.join(able)}")
    compiled = core.compile_model(core.read_model(place.model / "model.onnx"), "CPU", settings)
    got = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    if got != wanted:
        raise ValueError(f"{wanted} was asked for and OpenVINO took {got}")
    request = compiled.create_infer_request()
    feed = open_tokenizer(place.checkpoint, [node.any_name for node in compiled.inputs])
    labels = place.labels

    def answer(text: str) -> tuple[str, float]:
        request.infer(feed(text))
        return best(request.get_output_tensor(0).data, labels)

    return OpenPeer(answer=answer, facts={"inference_precision": got})
