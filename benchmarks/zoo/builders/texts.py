"""Text encoders of transformers through optimum's exporter, as their users get them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer

from benchmarks.peers.texts import read_labelled
from benchmarks.zoo.built import Built
from benchmarks.zoo.fitting import features_of, fit_head, set_up, train
from benchmarks.zoo.topics import draw_topics
from edgeml.exporting.from_transformers import trace_text_model
from edgeml.training.encoders import build_classifier, find_encoder, tokenizer_bytes

_LENGTH = 64
_SST2_KEEP = 900
_DISTILBERT_LENGTH, _DISTILBERT_TOPICS, _DISTILBERT_KEEP = 128, 6, 500


def minilm_l6() -> Built:
    """Build MiniLM-L6 with its published weights and a head for film reviews."""
    set_up(0)
    encoder = find_encoder("minilm-l6")
    model = build_classifier(
        encoder, num_labels=2, multi_label=False, weights="pretrained", dropout=0.0, seed=0
    )
    tokenizer = Tokenizer.from_str(tokenizer_bytes(encoder).decode())
    texts, labels = _sentences()
    inputs = _tokens(tokenizer, texts)
    fit = slice(_SST2_KEEP, None)
    _fit_last(model, {name: array[fit] for name, array in inputs.items()}, labels[fit])
    kept = {name: array[:_SST2_KEEP] for name, array in inputs.items()}
    return Built(
        model=trace_text_model(model),
        inputs=kept,
        labels=labels[:_SST2_KEEP],
        facts={"weights": "published, last block and head fitted", "task": "SST-2, 64 tokens"},
    )


def distilbert() -> Built:
    """Build DistilBERT's shape; no weights of it exist in the registries."""
    set_up(0)
    config = transformers.DistilBertConfig(
        num_labels=_DISTILBERT_TOPICS,
        # A random net of the library's 0.02 hardly mixes tokens into the first one.
        initializer_range=0.05,
    )
    model = transformers.DistilBertForSequenceClassification(config).eval()
    head, model.classifier = model.classifier, torch.nn.Identity()
    fit, labels = _topics(900, seed=1)
    features = features_of(lambda ids, mask: model(ids, attention_mask=mask).logits, fit)
    fit_head(head, features, labels, decay=1e-2)
    model.classifier = head
    kept, kept_labels = _topics(_DISTILBERT_KEEP, seed=2)
    return Built(
        model=trace_text_model(model),
        inputs=kept,
        labels=kept_labels,
        facts={
            "weights": "random, head fitted",
            "task": f"{_DISTILBERT_TOPICS} topics, {_DISTILBERT_LENGTH} tokens",
        },
    )


class _Last(torch.nn.Module):
    """What follows the encoder's last but one block."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.block, self.pooler = model.bert.encoder.layer[-1], model.bert.pooler
        self.classifier = model.classifier

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Map float32 ``(batch, tokens, 384)`` and the mask to logits."""
        added = (1.0 - mask[:, None, None].to(hidden.dtype)) * torch.finfo(hidden.dtype).min
        return self.classifier(self.pooler(self.block(hidden, added)[0]))


def _fit_last(model: torch.nn.Module, inputs: dict[str, np.ndarray], labels: np.ndarray) -> None:
    """Train the last block, the pooler and the head; the rest is computed once."""
    ids, mask = inputs["input_ids"], inputs["attention_mask"]

    def before(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        states = model.bert(ids, attention_mask=mask, output_hidden_states=True).hidden_states
        return states[-2]

    hidden = features_of(before, {"ids": ids, "mask": mask})

    def draw(step: int):
        rows = np.random.default_rng(step).integers(0, len(labels), 48)
        return {"hidden": hidden[rows], "mask": mask[rows]}, labels[rows]

    train(_Last(model), draw, steps=200, rate=3e-4)
    model.eval()


def _sentences() -> tuple[list[str], np.ndarray]:
    """Return SST-2's sentences, dev first, then some of training: kept ones before those to fit.

    Raises:
        ValueError: The data's folder is not named.
    """
    root = os.environ.get("EDGEML_DATA_DIR")
    if not root:
        raise ValueError("EDGEML_DATA_DIR is not set; a folder with sst2/ was expected; set it")
    dev, more = (read_labelled(Path(root) / "sst2" / f"{part}.tsv") for part in ("dev", "train"))
    order = np.random.default_rng(0).permutation(len(more.texts))[:3500]
    texts = [*dev.texts, *(more.texts[row] for row in order)]
    names = [*dev.labels, *(more.labels[row] for row in order)]
    labels = np.array([int(name) for name in names], dtype=np.int64)
    kept = np.random.default_rng(1).permutation(_SST2_KEEP)
    shuffled = np.concatenate([kept, np.arange(_SST2_KEEP, len(texts))])
    return [texts[row] for row in shuffled], labels[shuffled]


def _tokens(tokenizer: Tokenizer, texts: list[str]) -> dict[str, np.ndarray]:
    tokenizer.enable_truncation(_LENGTH)
    tokenizer.enable_padding(length=_LENGTH)
    rows = tokenizer.encode_batch(texts)
    ids = np.array([row.ids for row in rows], dtype=np.int64)
    mask = np.array([row.attention_mask for row in rows], dtype=np.int64)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def _topics(count: int, *, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    ids, labels = draw_topics(
        count,
        length=_DISTILBERT_LENGTH,
        vocabulary=30_000,
        topics=_DISTILBERT_TOPICS,
        share=0.35,
        seed=seed,
    )
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}, labels
