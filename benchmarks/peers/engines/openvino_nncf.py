"""OpenVINO with NNCF's post-training quantization, from optimum's fp32 ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import openvino

from benchmarks.peers.engines.bare import best, open_tokenizer
from benchmarks.peers.opened import OpenPeer, Place

PACKAGES = ("openvino", "nncf", "tokenizers", "numpy")

_FILE = "model.xml"


def prepare(artefact: str, place: Place, texts: Sequence[str], out: Path) -> None:
    """Quantize with the transformer preset; shapes stay dynamic."""
    import nncf

    del artefact
    assert place.model is not None
    model = openvino.Core().read_model(place.model / "model.onnx")
    feed = open_tokenizer(place.checkpoint, [node.any_name for node in model.inputs])
    quantized = nncf.quantize(
        model,
        nncf.Dataset(list(texts), feed),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(texts),
    )
    openvino.save_model(quantized, out / _FILE, compress_to_fp16=False)


def open_peer(place: Place) -> OpenPeer:
    """Compile for one thread."""
    assert place.model is not None
    core = openvino.Core()
    model = core.read_model(place.model / _FILE)
    # Pinning would hold the peer to one processor while a neighbour keeps it busy.
    settings = {
        "INFERENCE_NUM_THREADS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
    }
    compiled = core.compile_model(model, "CPU", settings)
    request = compiled.create_infer_request()
    feed = open_tokenizer(place.checkpoint, [node.any_name for node in compiled.inputs])
    labels = place.labels

    def answer(text: str) -> tuple[str, float]:
        request.infer(feed(text))
        return best(request.get_output_tensor(0).data, labels)

    quantizers = sum(node.get_type_name() == "FakeQuantize" for node in model.get_ops())
    return OpenPeer(
        answer=answer,
        facts={
            "fake_quantize_nodes": str(quantizers),
            "inference_precision": compiled.get_property("INFERENCE_PRECISION_HINT").to_string(),
        },
    )
