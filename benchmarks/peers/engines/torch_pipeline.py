"""transformers' own pipeline on torch, fp32."""

from __future__ import annotations

import torch
from transformers import pipeline

from benchmarks.peers.opened import OpenPeer, Place

PACKAGES = ("transformers", "torch", "tokenizers", "numpy")


def open_peer(place: Place) -> OpenPeer:
    """Open the pipeline as its documentation shows, on one thread."""
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    classify = pipeline(
        "text-classification",
        model=str(place.checkpoint),
        tokenizer=str(place.checkpoint),
        device="cpu",
        dtype=torch.float32,
    )

    def answer(text: str) -> tuple[str, float]:
        row = classify(text, truncation=True)[0]
        return row["label"], row["score"]

    attention = str(getattr(classify.model.config, "_attn_implementation", "unknown"))
    return OpenPeer(answer=answer, facts={"attention": attention})
