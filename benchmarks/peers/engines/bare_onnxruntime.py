"""The least that runs optimum's file: a tokenizer and a session."""

from __future__ import annotations

import onnxruntime

from benchmarks.peers.engines.bare import best, open_tokenizer
from benchmarks.peers.opened import OpenPeer, Place

PACKAGES = ("onnxruntime", "tokenizers", "numpy")


def open_peer(place: Place) -> OpenPeer:
    """Open a session on one thread."""
    assert place.model is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    (file,) = place.model.glob("*.onnx")
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    feed = open_tokenizer(place.checkpoint, [node.name for node in session.get_inputs()])
    labels = place.labels

    def answer(text: str) -> tuple[str, float]:
        return best(session.run(["logits"], feed(text))[0], labels)

    return OpenPeer(answer=answer, facts={"file": file.name})
