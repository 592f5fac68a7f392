"""Parity and invariance: the checks notice what they are there to notice."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from edgeml.core.fake import FakeEngine
from edgeml.core.signature import Tensors
from edgeml.exporting.answers import Answers, Reading, collect_answers
from edgeml.exporting.checks import (
    GOLDEN_TOLERANCE,
    INVARIANCE_TOLERANCE,
    NO_TOLERANCE,
    PARITY_TOLERANCE,
    check_invariance,
    check_parity,
)
from edgeml.runtime.engine import OnnxEngine
from edgeml.tasks.samples import ArraySamples
from tests.small import INPUT, OUTPUT, TASK, small_classifier

READING = Reading()


def answers(rows: np.ndarray[Any, Any]) -> Answers:
    """Probabilities as answers."""
    return Answers(probabilities=rows.astype(np.float32))


@pytest.fixture
def samples(rng: np.random.Generator) -> ArraySamples:
    return ArraySamples(INPUT, rng.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8))


def test_the_same_answers_are_on_par(rng: np.random.Generator) -> None:
    probabilities = answers(rng.dirichlet(np.ones(4), size=9))
    parity = check_parity(probabilities, probabilities, tolerance=0.0)
    assert (parity.max_abs_diff, parity.flips, parity.ok) == (0.0, 0, True)


def test_a_wrong_model_is_noticed(samples: ArraySamples) -> None:
    right, wrong = (OnnxEngine(small_classifier(seed=seed).SerializeToString()) for seed in (0, 1))
    ours, theirs = (collect_answers(engine, samples, READING) for engine in (right, wrong))
    parity = check_parity(ours, theirs, tolerance=PARITY_TOLERANCE["fp32"])
    assert not parity.ok
    assert parity.max_abs_diff > 0.01


def test_the_worst_sample_is_named(rng: np.random.Generator) -> None:
    reference = rng.dirichlet(np.ones(4), size=9)
    candidate = reference.copy()
    candidate[3] = np.roll(candidate[3], 1)
    candidate[6] += 0.001
    parity = check_parity(answers(reference), answers(candidate), tolerance=0.002)
    assert (parity.sample, parity.flips, parity.ok) == (3, 1, False)
    worst = np.abs(reference[3] - candidate[3]).max()
    assert parity.max_abs_diff == pytest.approx(worst)
    assert json.loads(json.dumps(parity.to_json()))["sample"] == 3


def test_a_difference_at_the_tolerance_passes() -> None:
    reference, candidate = np.zeros((1, 2)), np.array([[0.25, 0.0]])
    assert check_parity(answers(reference), answers(candidate), tolerance=0.25).ok
    assert not check_parity(answers(reference), answers(candidate), tolerance=0.2499).ok


def test_nan_is_never_on_par() -> None:
    reference = np.full((3, 2), 0.5)
    candidate = reference.copy()
    candidate[1, 0] = np.nan
    parity = check_parity(answers(reference), answers(candidate), tolerance=1.0)
    assert (parity.ok, parity.sample) == (False, 1)


def test_an_honest_engine_does_not_depend_on_neighbours(samples: ArraySamples) -> None:
    engine = OnnxEngine(small_classifier().SerializeToString())
    found = check_invariance(engine, samples, READING, batch_sizes=(2, 7))
    assert (found.ok, found.flips, found.batch_sizes) == (True, 0, (2, 7))
    assert found.max_abs_diff <= INVARIANCE_TOLERANCE


def _coupled(strength: float) -> FakeEngine:
    """An engine that scales by the largest value of the batch, as dynamic quantization does."""

    def answer(tensors: Tensors) -> dict[str, Any]:
        images = tensors[INPUT].astype(np.float64)
        own = images.reshape(len(images), -1).mean(axis=1)
        shift = strength * (own.max() - own)
        first = 0.5 + own / 1000 - shift
        rest = (1 - first) / 3
        return {OUTPUT: np.stack([first, rest, rest, rest], axis=1).astype(np.float32)}

    return FakeEngine(TASK.signature, answer=answer)


def test_a_batch_coupled_engine_is_noticed(samples: ArraySamples) -> None:
    assert check_invariance(_coupled(0.0), samples, READING).ok
    slightly = check_invariance(_coupled(1e-3), samples, READING)
    # A bundle calls a variant batch-safe by this, not by flips alone.
    assert (slightly.flips, slightly.to_json()["ok"]) == (0, False)
    assert (slightly.ok, slightly.flips) == (False, 0)
    assert slightly.max_abs_diff > INVARIANCE_TOLERANCE
    strongly = check_invariance(_coupled(1.0), samples, READING)
    assert strongly.flips > 0
    assert json.loads(json.dumps(strongly.to_json()))["flips"] == strongly.flips


def test_batches_keep_the_order(samples: ArraySamples) -> None:
    engine = OnnxEngine(small_classifier().SerializeToString())
    whole = engine.run({INPUT: samples.array})[OUTPUT]
    for batch in (1, 3, 20, 99, None):
        found = collect_answers(engine, samples, READING, batch=batch)
        np.testing.assert_allclose(found.probabilities, whole, atol=1e-6)


def test_every_precision_has_its_tolerances() -> None:
    assert set(GOLDEN_TOLERANCE) == {"fp32", "fp16", "bf16", "int8", "int4"}
    # Fewer bits are judged by the gate: parity tells float from float alone.
    assert set(PARITY_TOLERANCE) == {"fp32", "fp16"}
    assert 0 < PARITY_TOLERANCE["fp32"] < PARITY_TOLERANCE["fp16"] < NO_TOLERANCE
    assert 0 < GOLDEN_TOLERANCE["fp32"] < GOLDEN_TOLERANCE["fp16"] < GOLDEN_TOLERANCE["int8"]
