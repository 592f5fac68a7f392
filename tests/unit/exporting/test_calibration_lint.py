"""Each rule finds what it is there to find, and nothing in a good sample."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from edgeml.errors import DataError
from edgeml.exporting.calibration_lint import (
    Finding,
    lint_padding,
    lint_sample,
    refuse_random_ids,
)

LABELS = ("bad", "good", "fair", "odd", "new")


@dataclass(frozen=True, kw_only=True)
class SampleCase:
    """A sample's size and classes, and the rules that speak."""

    id: str
    size: int = 200
    targets: Any = field(default_factory=lambda: np.arange(200) % len(LABELS))
    rules: tuple[str, ...] = ()
    says: str = ""


@pytest.mark.parametrize(
    "case",
    [
        SampleCase(id="good"),
        SampleCase(id="just-enough", size=100, targets=None),
        SampleCase(
            id="too-few",
            size=99,
            targets=None,
            rules=("size",),
            says="99 calibration samples; 100 to 300 were expected",
        ),
        SampleCase(
            id="a-missing-class",
            targets=np.arange(200) % 4,
            rules=("classes",),
            says="1 of 5 classes have no calibration sample (new)",
        ),
        SampleCase(
            id="many-missing-classes",
            targets=np.zeros(200, dtype=np.int64),
            rules=("classes",),
            says="4 of 5 classes have no calibration sample (good, fair, odd, …)",
        ),
        SampleCase(
            id="too-few-of-one-class",
            size=5,
            targets=np.ones(5, dtype=np.int64),
            rules=("size", "classes"),
        ),
        # Three samples cannot hold five classes: that there are three says it all.
        SampleCase(
            id="fewer-than-classes", size=3, targets=np.zeros(3, dtype=np.int64), rules=("size",)
        ),
        SampleCase(id="no-labels", targets=None),
    ],
    ids=lambda case: case.id,
)
def test_size_and_classes_are_looked_at(case: SampleCase) -> None:
    found = lint_sample(case.targets, LABELS, num_samples=case.size)
    assert tuple(row.rule for row in found) == case.rules
    assert case.says in "".join(row.message for row in found)
    levels = {"size": "warning", "classes": "note"}
    assert all(row.level == levels[row.rule] for row in found)


def _masks(*lengths: int, to: int) -> list[np.ndarray[Any, Any]]:
    return [(np.arange(to) < length).astype(np.int64)[None] for length in lengths]


def test_padding_is_found() -> None:
    assert lint_padding([*_masks(7, to=7), *_masks(3, to=3)]) == []
    assert lint_padding(_masks(19, to=20)) == []  # a twentieth
    assert lint_padding([]) == []
    (finding,) = lint_padding(_masks(5, 10, to=10))
    assert (finding.rule, finding.level) == ("padding", "warning")
    assert finding.message.startswith("25% of the calibration tokens are padding")
    assert "one text at a time" in finding.message


def test_real_text_passes_and_random_ids_do_not(rng: np.random.Generator) -> None:
    words = rng.zipf(1.3, (100, 40)) % 30_000
    refuse_random_ids(list(words), source="reviews")
    noise = rng.integers(0, 30_000, (100, 40))
    # Special tokens, which every row has, do not make it text.
    noise[:, 0], noise[:, -1] = 101, 102
    with pytest.raises(DataError, match="as in random ids") as caught:
        refuse_random_ids(list(noise), source="reviews")
    assert "reviews" in str(caught.value)
    assert "calibrate on real text" in str(caught.value)


def test_of_a_few_tokens_nothing_is_said(rng: np.random.Generator) -> None:
    few = list(rng.integers(0, 30_000, (20, 40)))
    refuse_random_ids(few, source="reviews")
    refuse_random_ids([], source="reviews")
    with pytest.raises(DataError, match="as in random ids"):  # of more of the same it is
        refuse_random_ids([*few, *rng.integers(0, 30_000, (80, 40))], source="reviews")


def test_a_finding_is_json() -> None:
    finding = Finding(rule="size", level="warning", message="too few")
    assert json.loads(json.dumps(finding.to_json())) == {
        "rule": "size",
        "level": "warning",
        "message": "too few",
    }
