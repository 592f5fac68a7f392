"""optimum-onnx: its export, its dynamic INT8, and its model in a transformers pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnxruntime
import torch
from optimum.onnxruntime import ORTModelForSequenceClassification, ORTQuantizer
from optimum.onnxruntime.configuration import AutoQuantizationConfig
from transformers import AutoTokenizer, pipeline

from benchmarks.peers.opened import OpenPeer, Place

PACKAGES = ("optimum-onnx", "optimum", "transformers", "onnxruntime", "torch", "tokenizers")

_BATCH = 32


def prepare(artefact: str, place: Place, texts: Sequence[str], out: Path) -> None:
    """Export the checkpoint, or quantize the export, as optimum's documentation does."""
    del texts
    if artefact == "onnx-fp32":
        model = ORTModelForSequenceClassification.from_pretrained(place.checkpoint, export=True)
        model.save_pretrained(out)
    else:
        assert place.model is not None
        quantizer = ORTQuantizer.from_pretrained(place.model, file_name="model.onnx")
        settings = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=False)
        quantizer.quantize(save_dir=out, quantization_config=settings)
    AutoTokenizer.from_pretrained(place.checkpoint).save_pretrained(out)


def open_peer(place: Place) -> OpenPeer:
    """Open the pipeline on one thread."""
    assert place.model is not None
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    files = sorted(path.name for path in place.model.glob("*.onnx"))
    if len(files) != 1:
        raise ValueError(f"one ONNX file was expected, found {files}")
    model = ORTModelForSequenceClassification.from_pretrained(
        place.model, file_name=files[0], session_options=options, provider="CPUExecutionProvider"
    )
    tokenizer = AutoTokenizer.from_pretrained(place.model)
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer)

    def answer(text: str) -> tuple[str, float]:
        row = classify(text, truncation=True)[0]
        return row["label"], row["score"]

    def answer_all(texts: Sequence[str]) -> list[str]:
        rows = classify(list(texts), batch_size=_BATCH, truncation=True)
        return [row["label"] for row in rows]

    return OpenPeer(answer=answer, answer_all=answer_all, facts={"file": files[0]})
