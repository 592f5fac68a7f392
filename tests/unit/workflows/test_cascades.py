"""The curve of a cascade: measured, chosen on one part, reported on another."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import edgeml
from edgeml.errors import InputError
from tests.unit.serving.routing.two_models import LABELS, Scripted, always, identity

COUNT = 3000


def first_model() -> Scripted:
    """Right on what it is sure of, wrong on half of the rest."""

    def says(value: float) -> tuple[str, float]:
        sure = (value * 7919) % 1
        right = sure > 0.3 or (value * 104729) % 1 > 0.5
        return ("cat" if right else "dog"), 0.5 + sure / 2

    return Scripted(says, served_by="small")


def second_model() -> Scripted:
    return Scripted(
        lambda value: ("cat" if (value * 15485863) % 1 > 0.02 else "dog", 0.99), served_by="large"
    )


def part(seed: int, count: int = COUNT) -> tuple[list[float], list[str]]:
    return np.random.default_rng(seed).random(count).tolist(), ["cat"] * count


def test_a_threshold_is_chosen_on_one_part_and_reported_on_the_other_once() -> None:
    first, second = first_model(), second_model()
    curve = edgeml.cascade_curve(
        first, second, part(0), reporting=part(1), max_accuracy_drop=0.005, costs=(1.0, 10.0)
    )
    assert (curve.first, curve.second) == ("small", "large")
    assert 0.2 < curve.chosen.share < 0.4
    assert curve.chosen.paired.upper_bound <= 0.005
    assert curve.chosen.cost == pytest.approx(1 + 10 * curve.chosen.share)
    reported = curve.reported
    assert reported.point.threshold == curve.threshold
    assert reported.point.paired.num_samples == COUNT
    assert reported.point.paired.drop < 0.005
    assert reported.first_accuracy < reported.second_accuracy
    low, high = reported.point.share_low, reported.point.share_high
    assert low < curve.chosen.share < high
    # All of the reporting part, and the selection part, were answered once by each.
    batches = [len(call) for call in first.calls if isinstance(call, list)]
    assert batches == [COUNT, COUNT]


def test_the_curve_runs_from_the_second_model_alone_to_the_first() -> None:
    curve = edgeml.cascade_curve(first_model(), second_model(), part(0))
    assert (curve.chosen, curve.reported, curve.compute_ratio) == (None, None, None)
    assert curve.points[0].accuracy == pytest.approx(curve.second_accuracy)
    assert curve.points[-1].accuracy == pytest.approx(curve.first_accuracy)
    shares = [point.share for point in curve.points]
    assert shares == sorted(shares, reverse=True)
    with pytest.raises(InputError, match="no goal was given"):
        _ = curve.threshold


def test_a_share_of_the_traffic_is_a_goal_too() -> None:
    curve = edgeml.cascade_curve(first_model(), second_model(), part(0), max_share=0.1)
    assert curve.chosen.share == pytest.approx(0.1, abs=0.01)
    ratio, low, high = curve.compute_ratio
    assert low <= ratio <= high
    with edgeml.cascade(first_model(), second_model(), threshold=curve.threshold) as both:
        rows = both.predict_batch(part(2)[0])
    share = np.mean([row.served_by.startswith("second") for row in rows])
    assert share == pytest.approx(0.1, abs=0.03)


def test_too_few_samples_choose_nothing_and_say_how_many_are_needed() -> None:
    curve = edgeml.cascade_curve(
        first_model(), second_model(), part(0, 50), reporting=part(1, 50), max_accuracy_drop=0.001
    )
    assert (curve.chosen, curve.reported) == (None, None)
    assert "50 samples cannot prove a drop of at most 0.10 points: " in curve.reason
    assert curve.reason.endswith("samples are needed")


def test_a_curve_is_json_and_a_page(tmp_path: Path) -> None:
    curve = edgeml.cascade_curve(
        first_model(), second_model(), part(0, 500), reporting=part(1, 500), max_share=0.3
    )
    value = json.loads(json.dumps(curve.to_json(), allow_nan=False))
    assert value["chosen"]["share"] == pytest.approx(curve.chosen.share)
    edgeml.write_report(tmp_path, curve.report())
    page = (tmp_path / "report.html").read_text()
    assert "<circle" in page
    assert f"{curve.threshold:.4f}" in page
    bare = edgeml.cascade_curve(first_model(), second_model(), part(0, 200))
    assert bare.report().pictures


@pytest.mark.parametrize("label", [0, np.int64(0), "cat", {"cat"}])
def test_labels_are_names_indices_or_sets(label: object) -> None:
    curve = edgeml.cascade_curve(Scripted(always("cat")), second_model(), ([0.5], [label]))
    assert curve.first_accuracy == 1.0


def test_all_labels_of_a_set_must_be_right() -> None:
    facts = {"identity": identity(multi_label=True)}
    one, two = Scripted(always("cat"), **facts), Scripted(always("cat"), **facts)
    curve = edgeml.cascade_curve(one, two, ([0.5, 0.6], [set(), {"cat"}]))
    assert curve.first_accuracy == 0.5


@pytest.mark.parametrize(
    ("labelled", "options", "words"),
    [
        (([], []), {}, "0 items and 0 labels"),
        (([1.0], ["cat", "dog"]), {}, "1 items and 2 labels"),
        (([1.0], ["cow"]), {}, f"'cow' is none of the models'; one of {', '.join(LABELS)}"),
        (([1.0], [3]), {}, "an index from 0 to 2"),
        (([1.0], ["cat"]), {"max_share": 0.1, "max_accuracy_drop": 0.1}, "one goal was expected"),
        (([1.0], ["cat"]), {"max_share": 1.1}, "max_share is 1.1"),
        (([1.0], ["cat"]), {"max_accuracy_drop": -0.1}, "max_accuracy_drop is -0.1"),
        (([1.0], ["cat"]), {"costs": (1.0, float("nan"))}, "two finite numbers"),
    ],
)
def test_bad_arguments_are_refused(labelled, options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        edgeml.cascade_curve(first_model(), second_model(), labelled, **options)


def test_models_of_other_labels_are_refused() -> None:
    other = Scripted(always("cat"), labels=("owl", "dog", "cat"))
    with pytest.raises(InputError, match="differ in labels"):
        edgeml.cascade_curve(first_model(), other, part(0, 10))
