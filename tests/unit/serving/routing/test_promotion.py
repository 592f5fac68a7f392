"""A promotion: proven by what was seen, by the gate of exports, and published."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import edgeml
from edgeml.core.gate import Gate
from edgeml.errors import InputError
from edgeml.serving.routing.comparing import Tally
from edgeml.serving.routing.promotion import Decisions
from tests.small import make_small_bundle
from tests.unit.serving.routing.two_models import Scripted, always

STRICT = Gate(require_proof=True)


def prediction(label: str, score: float = 0.9):
    return Scripted(always(label, score)).predict(1.0)


def compared(count: int, *, flips: int = 0, shift: float = 0.0) -> Tally:
    tally = Tally()
    for number in range(count):
        label = "dog" if number < flips else "cat"
        tally.add(prediction("cat"), prediction(label, 0.9 + shift))
    return tally


def judged(count: int, *, lost: int = 0, gained: int = 0) -> Tally:
    tally = Tally()
    for number in range(count):
        tally.judge(stable_right=not lost <= number < lost + gained, candidate_right=number >= lost)
    return tally


def decide(tally: Tally, gate: Gate = STRICT, **options):
    return Decisions().decide(tally, gate=gate, stopped=options.get("stopped"))


def test_nothing_seen_proves_nothing() -> None:
    found = decide(Tally())
    assert (found.passed, found.basis, found.samples) == (False, "nothing", 0)
    assert "feed labels back" in found.reason


def test_few_comparisons_name_how_many_are_needed_and_enough_pass() -> None:
    few = decide(compared(100))
    assert not few.passed
    assert few.basis == "agreement"
    assert few.samples_needed is not None
    assert 500 < few.samples_needed < 1000
    enough = decide(compared(few.samples_needed))
    assert enough.passed
    assert enough.samples_needed is None
    assert decide(compared(100), Gate()).passed  # a gate without proof asks for none


@pytest.mark.parametrize("tally", [compared(2000, flips=40), compared(2000, shift=0.09)])
def test_what_disagrees_is_sent_to_the_accuracy_gate(tally: Tally) -> None:
    found = decide(tally)
    assert not found.passed
    assert found.samples_needed is None
    assert found.reason.endswith("outside the gate: feed labels back to judge it by its accuracy")


def test_labels_decide_where_there_are_some() -> None:
    few = decide(judged(100))
    assert (few.passed, few.basis) == (False, "accuracy")
    assert few.samples_needed is not None
    assert decide(judged(few.samples_needed)).passed
    assert decide(judged(2000, lost=20, gained=60)).passed
    worse = decide(judged(2000, lost=60, gained=20))
    assert not worse.passed
    assert worse.samples_needed is None
    assert "not proven at any number of samples" in worse.reason


def test_asking_again_and_again_gets_stricter_only_with_new_data() -> None:
    decisions, tally = Decisions(), judged(10)
    looks = [decisions.decide(tally, gate=STRICT, stopped=None) for _ in range(3)]
    assert [found.looks for found in looks] == [1, 1, 1]
    needed = looks[0].samples_needed
    for number in range(11, 16):
        found = decisions.decide(judged(number), gate=STRICT, stopped=None)
    assert found.looks == 6
    assert found.samples_needed > needed


def test_a_false_promotion_is_rare_however_often_one_asks(rng: np.random.Generator) -> None:
    # A candidate that is exactly as much worse as is allowed: each promotion is a mistake.
    gate, runs, wrong = Gate(max_accuracy_drop=0.05, require_proof=True), 30, 0
    for _ in range(runs):
        decisions, tally = Decisions(), Tally()
        for number in range(400):
            draw = rng.random()
            tally.judge(stable_right=draw >= 0.05, candidate_right=draw >= 0.10)
            if number % 40 == 39 and decisions.decide(tally, gate=gate, stopped=None).passed:
                wrong += 1
                break
    assert wrong <= 4  # 5 % of 30 are 1.5; more than 4 happen twice in a hundred at the very level


def test_a_stopped_candidate_is_not_promoted() -> None:
    found = decide(compared(5000), stopped="errors: it failed")
    assert not found.passed
    assert found.reason == "the candidate was stopped: errors: it failed"


@pytest.fixture
def bundles(tmp_path: Path):
    return make_small_bundle(tmp_path / "one.bundle"), make_small_bundle(tmp_path / "two.bundle")


def test_a_proven_candidate_is_published_and_another_is_not(bundles, tmp_path: Path, rng) -> None:
    one, two = bundles
    repository = tmp_path / "models"
    with edgeml.shadow(edgeml.load(one), edgeml.load(two), share=1.0) as shadow:
        held = edgeml.promote(shadow, two, repository=repository)
        assert not held.promoted
        assert not repository.exists()
        item = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        for _ in range(60):
            shadow.predict(item)
            shadow.finish_comparing()
        gate = Gate(max_flips=0.2, require_proof=True)
        done = edgeml.promote(shadow, two, repository=repository, name="small", gate=gate)
    assert done.promoted
    assert (repository / "small/1").is_dir()
    told = json.loads(json.dumps(done.to_json()))
    assert (told["promoted"], told["model"], told["version"]) == (True, "small", 1)


def test_another_bundle_than_the_candidates_is_refused(bundles, tmp_path: Path) -> None:
    one, two = bundles
    with edgeml.shadow(edgeml.load(one), edgeml.load(two, variant="fp32")) as shadow:
        other = make_small_bundle(tmp_path / "other.bundle")
        manifest = json.loads((other.path / "manifest.json").read_text())
        assert edgeml.promote(shadow, other, repository=tmp_path / "models").promoted is False
        object.__setattr__(other.manifest.variants[0], "sha256", "0" * 64)
        with pytest.raises(InputError, match="is not the candidate that was watched"):
            edgeml.promote(shadow, other, repository=tmp_path / "models")
        assert manifest["name"] == "small"
