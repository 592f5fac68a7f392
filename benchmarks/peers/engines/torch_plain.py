"""torch by itself: a tokenizer, a model, softmax; eager, or compiled where a compiler is there."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from benchmarks.peers.opened import OpenPeer, Place

PACKAGES = ("torch", "transformers", "tokenizers", "numpy")

_COMPILED = "compiled"


def open_peer(place: Place) -> OpenPeer:
    """Open the model on one thread.

    The variant ``compiled`` is ``torch.compile`` with dynamic shapes; on a machine without a C++
    compiler its first answer fails, which is its row's reason.
    """
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    classify = open_classifier(place)
    classify("the first answer compiles")
    mode = "torch.compile, dynamic shapes" if place.variant == _COMPILED else "eager"
    return OpenPeer(answer=classify, facts={"mode": mode})


def open_classifier(place: Place) -> Any:
    """Return one text to its label and probability."""
    tokenizer = AutoTokenizer.from_pretrained(place.checkpoint)
    model = AutoModelForSequenceClassification.from_pretrained(
        place.checkpoint, dtype=torch.float32
    ).eval()
    run = torch.compile(model, dynamic=True) if place.variant == _COMPILED else model
    labels = place.labels

    def answer(text: str) -> tuple[str, float]:
        feed = tokenizer(text, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            row = run(**feed).logits.softmax(dim=-1)[0]
        index = int(row.argmax())
        return labels[index], float(row[index])

    return answer
