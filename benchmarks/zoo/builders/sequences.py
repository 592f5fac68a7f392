"""Recurrent and one-dimensional nets, trained as a whole on seeded tasks."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.zoo.built import Built
from benchmarks.zoo.fitting import set_up, train
from benchmarks.zoo.topics import draw_topics
from benchmarks.zoo.tracing import trace

_VOCABULARY, _LENGTH, _TOPICS = 2000, 64, 6
_EMBEDDING, _HIDDEN = 128, 256
_SAMPLES = 1500
_WAVE_LENGTH = 1024
# How strong the second and the third harmonic are, class by class.
_OVERTONES = np.array([[0.0, 0.0], [0.6, 0.0], [0.0, 0.6], [0.6, 0.6], [1.2, 0.0]])
_WAVE_CLASSES = len(_OVERTONES)


class RecurrentClassifier(nn.Module):
    """Embedding, two recurrent layers, the last state, a head."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(_VOCABULARY, _EMBEDDING)
        self.recurrent = kind(_EMBEDDING, _HIDDEN, num_layers=2, batch_first=True)
        self.head = nn.Linear(_HIDDEN, _TOPICS)
        if kind is nn.LSTM:  # a forget gate that starts open learns in a minute
            for name, bias in self.recurrent.named_parameters():
                if name.startswith("bias_ih"):
                    nn.init.ones_(bias[_HIDDEN : 2 * _HIDDEN])

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``tokens``: int64 ``(batch, sequence)``."""
        states, _ = self.recurrent(self.embedding(tokens))
        logits: Tensor = self.head(states[:, -1])
        return logits


class WaveClassifier(nn.Module):
    """Five convolutions along time, a mean, a head."""

    def __init__(self) -> None:
        super().__init__()
        widths, kernels, layers = (1, 32, 64, 128, 128, 256), (9, 7, 5, 5, 3), []
        for inputs, outputs, kernel in zip(widths, widths[1:], kernels, strict=False):
            convolution = nn.Conv1d(inputs, outputs, kernel, 2, kernel // 2, bias=False)
            layers += [convolution, nn.BatchNorm1d(outputs), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], _WAVE_CLASSES)

    def forward(self, signal: Tensor) -> Tensor:
        """Map ``signal``: float32 ``(batch, 1, 1024)``."""
        logits: Tensor = self.head(self.layers(signal).mean(dim=2))
        return logits


def lstm() -> Built:
    """Build the LSTM classifier."""
    return _recurrent(nn.LSTM)


def gru() -> Built:
    """Build the GRU classifier."""
    return _recurrent(nn.GRU)


def cnn1d() -> Built:
    """Build the classifier of signals."""
    set_up(0)
    module = WaveClassifier()
    train(module, lambda step: _waves(64, seed=1000 + step), steps=450, rate=2e-3)
    inputs, labels = _waves(_SAMPLES, seed=1)
    return Built(
        model=trace(module, {"signal": torch.from_numpy(inputs["signal"][:2])}),
        inputs=inputs,
        labels=labels,
        facts={"weights": "trained", "task": f"{_WAVE_CLASSES} kinds of tones in noise"},
    )


def _recurrent(kind: type[nn.LSTM] | type[nn.GRU]) -> Built:
    set_up(0)
    module = RecurrentClassifier(kind)

    def draw(count: int, seed: int):
        tokens, labels = draw_topics(
            count, length=_LENGTH, vocabulary=_VOCABULARY, topics=_TOPICS, share=0.2, seed=seed
        )
        return {"tokens": tokens}, labels

    train(module, lambda step: draw(64, 1000 + step), steps=300, rate=3e-3)
    inputs, labels = draw(_SAMPLES, 1)
    return Built(
        model=trace(module, {"tokens": torch.from_numpy(inputs["tokens"][:2])}),
        inputs=inputs,
        labels=labels,
        facts={"weights": "trained", "task": f"{_TOPICS} topics, {_LENGTH} tokens"},
    )


def _waves(count: int, *, seed: int):
    """Draw tones whose class is what overtones they have; int64 labels beside them."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, _WAVE_CLASSES, count)
    time = np.linspace(0, 1, _WAVE_LENGTH, dtype=np.float32)
    pitch = rng.uniform(20, 40, (count, 1))
    strengths = _OVERTONES[labels] + rng.normal(0, 0.15, (count, _OVERTONES.shape[1]))
    phases = rng.uniform(0, 2 * np.pi, (count, _OVERTONES.shape[1] + 1))
    tone = np.sin(2 * np.pi * pitch * time + phases[:, :1])
    for number in range(strengths.shape[1]):
        overtone = np.sin(2 * np.pi * (number + 2) * pitch * time + phases[:, number + 1, None])
        tone = tone + strengths[:, number, None] * overtone
    noisy = tone + rng.normal(0, 0.5, tone.shape)
    return {"signal": noisy[:, None].astype(np.float32)}, labels.astype(np.int64)
