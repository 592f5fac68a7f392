"""Figures of many samples and classes: worked on in blocks, they are those of the whole."""

from __future__ import annotations

import numpy as np
import pytest

from edgeml.core import paired
from edgeml.training import figures

COUNT, CLASSES = 101, 7


@pytest.fixture
def logits(rng: np.random.Generator) -> figures.Floats:
    return rng.normal(0, 3, (COUNT, CLASSES)).astype(np.float32)


@pytest.fixture
def targets(rng: np.random.Generator) -> figures.Targets:
    return rng.integers(0, CLASSES, COUNT)


@pytest.fixture
def whole(logits: figures.Floats) -> figures.Floats:
    exact = logits.astype(np.float64)
    return np.asarray(np.exp(exact) / np.exp(exact).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("cells", [1, 3 * CLASSES, COUNT * CLASSES, 1 << 22])
def test_blocks_change_no_figure(
    logits: figures.Floats,
    targets: figures.Targets,
    whole: figures.Floats,
    cells: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(figures, "_CELLS_AT_ONCE", cells)
    loss = -np.log(whole[np.arange(COUNT), targets]).mean()
    assert figures.negative_log_likelihood(logits, targets) == pytest.approx(loss)
    assert figures.confidences(logits) == pytest.approx(whole.max(axis=1))
    right = figures.right_answers(logits, targets)
    assert right.tolist() == (logits.argmax(axis=1) == targets).tolist()
    error = figures.binned_error(figures.confidences(logits), right)
    assert error == pytest.approx(figures.calibration_error(whole, targets))


def test_logits_of_any_size_have_a_loss() -> None:
    logits = np.array([[2000.0, 0.0], [-2000.0, -2001.0]])
    loss = (2000.0 + np.log1p(np.exp(-1.0))) / 2
    assert figures.negative_log_likelihood(logits, np.array([1, 0])) == pytest.approx(loss)


def test_a_temperature_is_fitted_on_a_draw_of_very_many_samples(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In the order of their classes, as folders are: the first rows alone would mislead.
    targets = np.sort(rng.integers(0, CLASSES, 4000))
    logits = rng.normal(0, 1, (4000, CLASSES))
    logits[np.arange(4000), targets] += np.where(targets < 3, 6.0, 1.0)
    fitted = figures.fit_temperature(logits, targets)
    seen: list[int] = []
    loss = figures.negative_log_likelihood
    monkeypatch.setattr(figures, "_FITTED_CELLS", 1000 * CLASSES)
    monkeypatch.setattr(
        figures,
        "negative_log_likelihood",
        lambda rows, *rest, **named: (seen.append(len(rows)), loss(rows, *rest, **named))[1],
    )
    assert figures.fit_temperature(logits, targets) == pytest.approx(fitted, rel=0.15)
    assert set(seen) == {1000}


@pytest.mark.parametrize("multi_label", [False, True])
def test_agreement_is_the_same_in_blocks(
    whole: figures.Floats, rng: np.random.Generator, multi_label: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    other = np.clip(whole + rng.normal(0, 0.1, whole.shape), 0, 1)
    found = paired.compare_agreement(whole, other, multi_label=multi_label)
    monkeypatch.setattr(paired, "_CELLS_AT_ONCE", 5 * CLASSES)
    assert paired.compare_agreement(whole, other, multi_label=multi_label) == found
