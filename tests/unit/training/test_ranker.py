"""Training of a ranker: it learns, stops, repeats itself, calibrates, and survives the disk."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgeml.errors import DataError, InputError
from edgeml.tasks.recommendation.ranking_measures import area_under_curve, mean_ndcg
from edgeml.training.recommendation.ranker_calibration import platt
from edgeml.training.recommendation.ranker_files import load_ranker, save_ranker
from edgeml.training.recommendation.ranker_loop import train_ranker
from edgeml.training.recommendation.ranker_objectives import listwise_loss
from edgeml.training.recommendation.ranker_settings import RankerSettings
from edgeml.training.recommendation.wide_and_deep import Numbers, WideAndDeep
from tests.unit.ranker_rows import FIELDS, ranker_rows

SMALL = RankerSettings(
    hidden=(16, 8),
    embedding=4,
    batch_size=128,
    max_epochs=8,
    learning_rate=0.01,
    averaging=0.9,
    other_heads=0.3,
    num_threads=1,
)
TRAIN, VALIDATION, TEST = (ranker_rows(count, seed=count) for count in (4000, 1000, 1001))


def _answers(module, rows):
    parts = (rows.request_ids, rows.request_numbers, rows.candidate_ids, rows.candidate_numbers)
    with torch.inference_mode():
        scores, heads = module.eval()(*(torch.from_numpy(part) for part in parts))
    return scores.numpy(), heads.numpy()


@pytest.fixture(scope="module")
def trained():
    return train_ranker(FIELDS, TRAIN, VALIDATION, SMALL)


def test_it_learns_every_head(trained):
    scores, heads = _answers(trained.module, TEST)
    assert area_under_curve(TEST.labels["positive"], scores) > 0.80
    known = ~np.isnan(TEST.labels["click"])
    assert area_under_curve(TEST.labels["click"][known], heads[known, 1]) > 0.70
    assert np.corrcoef(TEST.labels["watch_time"], heads[:, 2])[0, 1] > 0.4
    np.testing.assert_array_equal(scores, heads[:, 0])


def test_its_probabilities_come_true(trained):
    scores, _ = _answers(trained.module, TEST)
    assert abs(scores.mean() - TEST.labels["positive"].mean()) < 0.05
    high = scores > 0.7
    assert abs(scores[high].mean() - TEST.labels["positive"][high].mean()) < 0.1


def test_the_same_seed_gives_the_same_ranker(trained):
    again = train_ranker(FIELDS, TRAIN, VALIDATION, SMALL)
    np.testing.assert_array_equal(
        _answers(again.module, TEST)[0], _answers(trained.module, TEST)[0]
    )


def test_it_keeps_the_best_look_and_stops_after_patience():
    overfit = replace(
        SMALL, max_epochs=40, patience=3, learning_rate=0.05, dropout=0.0, code_dropout=0.0
    )
    found = train_ranker(FIELDS, TRAIN.take(np.arange(300)), VALIDATION, overfit)
    assert found.validation == max(found.history)
    assert len(found.history) - 1 - int(np.argmax(found.history)) == 3
    scores, _ = _answers(found.module, VALIDATION)
    assert area_under_curve(VALIDATION.labels["positive"], scores) == pytest.approx(
        found.validation, abs=1e-6
    )


def test_the_listwise_objective_ranks_within_requests():
    found = train_ranker(
        FIELDS, TRAIN, VALIDATION, replace(SMALL, objective="listwise", batch_size=16)
    )
    scores, _ = _answers(found.module, TEST)
    ndcg = mean_ndcg(TEST.labels["positive"], scores, TEST.groups)
    blind = mean_ndcg(TEST.labels["positive"], np.zeros(len(TEST)), TEST.groups)
    assert ndcg > blind + 0.15


def test_the_listwise_loss_by_hand():
    scores, labels = torch.tensor([1.0, 2.0, 0.0, 5.0, 5.0]), torch.tensor([1.0, 0, 0, 1, 1])
    groups = torch.tensor([0, 0, 0, 1, 1])
    first = -torch.log_softmax(scores[:3], 0)[0]
    second = torch.log(torch.tensor(2.0))
    assert listwise_loss(scores, labels, groups) == pytest.approx(float((first + second) / 2))


def test_one_request_row_answers_as_many_copies_of_it(trained):
    rows = TEST.take(np.arange(20))
    whole, _ = _answers(trained.module, rows)
    once = replace(
        rows, request_ids=rows.request_ids.copy(), request_numbers=rows.request_numbers.copy()
    )
    parts = (once.request_ids[:1], once.request_numbers[:1], rows.candidate_ids)
    with torch.inference_mode():
        scores, _ = trained.module(
            *(torch.from_numpy(part) for part in (*parts, rows.candidate_numbers))
        )
    np.testing.assert_allclose(scores.numpy(), whole, atol=1e-6)


def test_pieces_run_from_0_to_1_through_the_quantiles():
    values = np.array([[0.0], [1.0], [2.0], [10.0], [10.0]], dtype=np.float32)
    line, pieces = Numbers(values, 2)(torch.tensor([[-5.0], [1.0], [2.0], [6.0], [99.0]]))
    np.testing.assert_allclose(pieces, [[0, 0], [0.5, 0], [1, 0], [1, 0.5], [1, 1]])
    expected = (np.array([-5.0, 1.0, 2.0, 6.0, 99.0]) - values.mean()) / values.std()
    np.testing.assert_allclose(line[:, 0], np.minimum(expected, 5), rtol=1e-5)


def test_a_number_that_never_varied_says_nothing():
    line, pieces = Numbers(np.full((5, 1), 3.0, dtype=np.float32), 4)(torch.tensor([[3.0], [1e9]]))
    np.testing.assert_array_equal(line.numpy(), 0)
    assert np.isfinite(pieces.numpy()).all()


def test_the_penalty_takes_rare_codes_back_to_zero():
    found = {}
    for penalty in (0.0, 0.01):
        trained = train_ranker(
            FIELDS, TRAIN, VALIDATION, replace(SMALL, table_penalty=penalty, max_epochs=3)
        )
        found[penalty] = float(trained.module.candidate_wide.table.detach().abs().mean())
    assert found[0.01] < 0.7 * found[0.0]


def test_platt_finds_slope_and_offset(rng):
    logits = torch.from_numpy(rng.normal(0, 2, 20_000).astype(np.float32))
    labels = (torch.from_numpy(rng.random(20_000)) < torch.sigmoid(0.5 * logits - 1)).float()
    slope, offset = platt(logits, labels)
    assert (slope, offset) == (pytest.approx(0.5, abs=0.05), pytest.approx(-1, abs=0.1))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_platt_never_turns_a_ranking_over(rng, sign):
    logits = torch.from_numpy(rng.normal(0, 1, 1000).astype(np.float32))
    labels = (sign * logits > 0).float()
    assert platt(logits, labels)[0] > 0


def test_a_ranker_survives_the_disk(trained, tmp_path):
    save_ranker(trained, tmp_path)
    again = load_ranker(tmp_path)
    np.testing.assert_array_equal(
        _answers(again.module, TEST)[0], _answers(trained.module, TEST)[0]
    )
    assert (again.fields, again.settings) == (trained.fields, trained.settings)
    assert again.history == trained.history


@pytest.mark.parametrize("file", ["ranker.json", "ranker.safetensors"])
def test_a_damaged_ranker_is_one_line(trained, tmp_path, file):
    save_ranker(trained, tmp_path)
    (tmp_path / file).write_bytes(b"{}")
    with pytest.raises(DataError, match="train it again") as found:
        load_ranker(tmp_path)
    assert "\n" not in str(found.value)


def test_rows_that_cannot_train_are_refused():
    rows = ranker_rows(100)
    ones = replace(rows, labels={**rows.labels, "positive": np.ones(100, dtype=np.float32)})
    with pytest.raises(DataError, match="all labels of 'positive' are alike"):
        train_ranker(FIELDS, ones, VALIDATION, SMALL)
    with pytest.raises(DataError, match="no labels for the head 'click'"):
        train_ranker(
            FIELDS, replace(rows, labels={"positive": rows.labels["positive"]}), VALIDATION, SMALL
        )
    broken = ranker_rows(100)
    broken.candidate_numbers[3, 0] = np.nan
    with pytest.raises(InputError, match="'item_rate'"):
        train_ranker(FIELDS, broken, VALIDATION, SMALL)


def test_training_that_diverges_is_an_error():
    with pytest.raises(DataError, match="no figure to stop by"):
        train_ranker(FIELDS, TRAIN, VALIDATION, replace(SMALL, learning_rate=1e30))


@pytest.mark.parametrize(
    "change", [{"objective": "pairwise"}, {"bins": 0}, {"dropout": 1.0}, {"hidden": ()}]
)
def test_settings_out_of_range_are_refused(change):
    with pytest.raises(InputError):
        replace(SMALL, **change)


def test_the_unknown_code_is_learnt_by_forgetting():
    module = WideAndDeep(FIELDS, replace(SMALL, code_dropout=0.5), TRAIN).train()
    torch.manual_seed(0)
    kept = module._forget(torch.ones(1000, 2, dtype=torch.int64))
    assert 0.4 < float((kept == 0).float().mean()) < 0.6
