"""The export of a ranker: its gates bite, its files answer, its verdict has a reason."""

from dataclasses import replace

import numpy as np
import pytest

from edgeml.core.files import sha256_of
from edgeml.core.timing import TimingPlan
from edgeml.errors import DataError, InputError, SignatureError
from edgeml.recommending.ranking.ranker import Ranker, requests_of
from edgeml.runtime.engine import OnnxEngine, SessionSettings
from edgeml.tasks.recommendation.ranking_measures import area_under_curve
from edgeml.training.recommendation.ranker_loop import train_ranker
from edgeml.training.recommendation.ranker_settings import RankerSettings
from edgeml.workflows.recommendation_ranking import (
    RankerGate,
    drawn_requests,
    export_ranker,
    filled,
)
from edgeml.workflows.recommendation_size import choose_size
from tests.unit.ranker_rows import FIELDS, ranker_rows

SETTINGS = RankerSettings(hidden=(32, 16), batch_size=128, max_epochs=3, learning_rate=0.01)
GATE = RankerGate(
    candidates=60, requests=12, plan=TimingPlan(rounds=6, calls=2, warmup=2, budget_s=2.0)
)
LOOSE = {"max_auc_drop": 1.0, "max_ndcg_drop": 1.0, "min_overlap": 0.0}
TRAIN, VALIDATION, SELECTION = (ranker_rows(count, seed=count) for count in (3000, 800, 900))


@pytest.fixture(scope="module")
def trained():
    return train_ranker(FIELDS, TRAIN, VALIDATION, SETTINGS)


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranker")
    found = export_ranker(trained, folder, calibration=TRAIN, selection=SELECTION, gate=GATE)
    return folder, found


def _open(folder, variant):
    engine = OnnxEngine(folder / variant.file, settings=SessionSettings(num_threads=1))
    return Ranker(engine, FIELDS)


def test_both_variants_are_written_measured_and_one_is_chosen(exported):
    folder, found = exported
    assert [row.name for row in found.variants] == ["fp32", "int8"]
    assert [row.name for row in found.variants if row.verdict == "chosen"] == [found.chosen]
    for row in found.variants:
        assert row.sha256 == sha256_of(folder / row.file)
        assert row.evidence["auc"] > 0.75
    assert found.variants[1].reason.startswith("int8-")
    assert {row["name"] for row in found.rows} == {
        *("fp32", "int8-qdq-minmax", "int8-qdq-mse", "int8-linear")
    }


def test_the_files_rank_as_the_rows_say(exported):
    folder, found = exported
    for variant in found.variants:
        with _open(folder, variant) as ranker:
            scores = ranker.score_rows(SELECTION)
        figure = area_under_curve(SELECTION.labels["positive"], scores)
        assert figure == pytest.approx(variant.accuracy, abs=1e-6)


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ({"max_auc_drop": -1.0}, "AUC falls"),
        ({"max_ndcg_drop": -1.0}, "NDCG@10 falls"),
        ({"min_overlap": 1.1}, "of the top 10"),
    ],
)
def test_a_gate_that_cannot_be_met_leaves_fp32_and_says_why(trained, tmp_path, limit, reason):
    gate = replace(GATE, **{**LOOSE, **limit})
    found = export_ranker(trained, tmp_path, calibration=TRAIN, selection=SELECTION, gate=gate)
    assert found.chosen == "fp32"
    assert found.variants[1].verdict == "rejected"
    assert reason in found.variants[1].reason
    assert reason in found.variants[0].reason


def test_rows_that_are_missing_are_refused(trained, tmp_path):
    none = SELECTION.take(np.zeros(0, dtype=np.int64))
    with pytest.raises(DataError, match="selection"):
        export_ranker(trained, tmp_path, calibration=TRAIN, selection=none, gate=GATE)


def test_bad_requests_are_refused_and_no_candidate_is_no_score(exported):
    folder, found = exported
    feed = FIELDS.feed(SELECTION.take(np.arange(5)))
    with _open(folder, found.variants[0]) as ranker:
        nothing = {key: feed[key][:0] for key in ("candidate_ids", "candidate_numbers")}
        assert ranker.score(**{**feed, **nothing}).shape == (0,)
        holes = feed["candidate_numbers"].copy()
        holes[2, 0] = np.nan
        with pytest.raises(InputError, match="NaN"):
            ranker.score(**{**feed, "candidate_numbers": holes})
        beyond = feed["candidate_ids"] + np.array([0, 30])
        with pytest.raises(InputError, match="'author'"):
            ranker.score(**{**feed, "candidate_ids": beyond})
        with pytest.raises(InputError, match="5 candidates have codes and 4 have numbers"):
            ranker.score(**{**feed, "candidate_numbers": feed["candidate_numbers"][:4]})


def test_another_models_file_is_refused(exported):
    folder, found = exported
    engine = OnnxEngine(folder / found.variants[0].file, settings=SessionSettings(num_threads=1))
    with pytest.raises(SignatureError, match="request_numbers"):
        Ranker(engine, replace(FIELDS, request_numbers=("user_rate", "age")))


def test_requests_are_rows_of_one_request_part():
    rows = ranker_rows(100, group_size=20)
    mixed = rows.take(np.random.default_rng(0).permutation(100))
    found = requests_of(mixed)
    assert sorted(len(places) for places in found) == [20] * 5
    assert all(len(np.unique(mixed.groups[places])) == 1 for places in found)


def test_logged_impressions_are_met_with_drawn_candidates():
    rows = ranker_rows(300, group_size=1)
    feeds = drawn_requests(FIELDS, rows, GATE)
    assert {len(feed["candidate_ids"]) for feed in feeds} == {60}
    assert {feed["request_ids"].shape for feed in feeds} == {(1, 2)}


def test_a_short_request_is_timed_at_its_full_length():
    feed = filled(FIELDS.feed(ranker_rows(30, group_size=30)), 70)
    assert (len(feed["candidate_ids"]), len(feed["candidate_numbers"])) == (70, 70)
    np.testing.assert_array_equal(feed["candidate_ids"][30:60], feed["candidate_ids"][:30])
    assert feed["request_ids"].shape == (1, 2)


def test_the_size_is_worth_its_milliseconds():
    settings = replace(SETTINGS, max_epochs=1)
    chosen, rows = choose_size(
        *(FIELDS, TRAIN, VALIDATION, settings),
        sizes=((4,), (256, 256)),
        price_per_ms=10.0,
        num_candidates=500,
    )
    assert chosen.settings.hidden == (4,)
    assert rows[0].p50_ms < rows[1].p50_ms
    for row in rows:
        assert row.worth == pytest.approx(row.validation - 10.0 * row.p50_ms)
    with pytest.raises(InputError, match="no size"):
        choose_size(FIELDS, TRAIN, VALIDATION, SETTINGS, sizes=())
