"""Splits and encoders: only train teaches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeml.data.interactions.leaks import shares_of_codes, suspicious_columns
from edgeml.data.interactions.log import InteractionLog
from edgeml.data.interactions.opening import open_log
from edgeml.data.interactions.preparing import prepare
from edgeml.data.interactions.schema import Column, SplitRule
from edgeml.data.interactions.splitting import split_rows
from edgeml.errors import DataError
from tests.interaction_logs import write_log

DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> InteractionLog:
    folder = tmp_path_factory.mktemp("log")
    return open_log(write_log(folder, users=40, items=24, rows=1200), folder / "schema.yaml")


def test_the_split_in_time_lets_nothing_train_that_comes_after(log: InteractionLog) -> None:
    prepared = prepare(log)
    assert prepared.train.times_ms.max() < prepared.validation.times_ms.min()
    assert prepared.validation.times_ms.max() < prepared.test.times_ms.min()
    assert len(prepared.train) == pytest.approx(0.7 * len(log), rel=0.02)


def test_equal_moments_are_never_cut() -> None:
    times = np.repeat([1, 2, 3, 4], [50, 20, 15, 15])
    split = split_rows(times, np.ones(100, np.int64), SplitRule(), source="s")
    parts = [set(times[getattr(split, part)]) for part in ("train", "validation", "test")]
    assert parts == [{1, 2}, {3}, {4}]


def test_dates_are_read_in_their_time_zone() -> None:
    hours = np.arange(72) * 3_600_000
    rule = SplitRule(validation_from="1970-01-02", test_from="1970-01-03", timezone_hours=8)
    split = split_rows(hours, np.ones(72, np.int64), rule, source="s")
    assert (len(split.train), len(split.validation)) == (16, 24)


def test_the_random_split_cuts_each_user_as_recbole_does() -> None:
    users = np.repeat([1, 2, 3], [100, 10, 5])
    rule = SplitRule(kind="random", seed=3)
    split = split_rows(np.arange(115), users, rule, source="s")
    counts = {
        part: np.bincount(users[getattr(split, part)], minlength=4)[1:].tolist()
        for part in ("train", "validation", "test")
    }
    assert counts == {"train": [80, 8, 3], "validation": [10, 1, 1], "test": [10, 1, 1]}
    again = split_rows(np.arange(115), users, rule, source="s")
    other = split_rows(np.arange(115), users, replace(rule, seed=4), source="s")
    assert np.array_equal(split.test, again.test)
    assert not np.array_equal(split.test, other.test)


def test_a_part_without_rows_is_refused_with_the_times(log: InteractionLog) -> None:
    rule = SplitRule(validation_from="2040-01-01", test_from="2040-01-02")
    with pytest.raises(DataError, match="no rows for validation"):
        prepare(log, split=rule)


def test_later_rows_change_neither_encoders_nor_codes(log: InteractionLog) -> None:
    prepared = prepare(log)
    rows = prepared.split.train
    # The same train rows with quite another future: other users, other items, other devices.
    future = log.users.copy()
    future[len(rows) :] = "stranger"
    devices = log.context[0].values.copy()
    devices[len(rows) :] = "fridge"
    changed = replace(
        log,
        users=future,
        context=(replace(log.context[0], values=devices),),
    )
    other = prepare(changed)
    assert prepared.features.fields == other.features.fields
    assert np.array_equal(prepared.train.users, other.train.users)
    assert np.array_equal(prepared.features.items.ids, other.features.items.ids)
    assert np.allclose(prepared.features.means, other.features.means)
    assert (other.context_ids[len(rows) :] == 0).all()


def test_items_that_come_later_have_codes_beyond_the_catalogue(log: InteractionLog) -> None:
    items = log.items.copy()
    items[-5:] = "brand-new"
    prepared = prepare(replace(log, items=items, item_table=None))
    assert (prepared.test.items[-5:] >= prepared.num_items).all()
    assert prepared.item_ids[prepared.test.items[-1]] == "brand-new"


def test_missing_features_become_the_median_of_train_and_code_0(log: InteractionLog) -> None:
    assert log.user_table is not None
    age = log.user_table.columns[1]
    values = age.values.copy()
    values[3] = np.nan
    table = replace(
        log.user_table, columns=(log.user_table.columns[0], replace(age, values=values))
    )
    users = prepare(replace(log, user_table=table)).features.users
    assert np.isfinite(users.numbers).all()
    missing = np.flatnonzero(users.ids[:, 1] == 0)
    assert len(missing) == 2  # that user, and nobody
    assert set(users.numbers[missing, 0]) == {np.float32(np.nanmedian(values))}


def test_a_column_that_alone_orders_the_labels_is_reported(log: InteractionLog) -> None:
    leaking = np.where(log.positive, "yes", "no").astype(object)
    changed = replace(log, context=(replace(log.context[0], values=leaking),))
    assert any("'device' alone reaches AUC" in note for note in prepare(changed).notes)
    assert not any("alone reaches" in note for note in prepare(log).notes)


def test_shares_come_from_the_other_half() -> None:
    labels = np.random.default_rng(0).random(400) < 0.5
    codes = np.arange(400)
    # Each row has a code of its own: its own label must not be in its share.
    assert not suspicious_columns({"row": shares_of_codes(codes, labels)}, labels)


def test_kinds_of_signals_are_told_from_their_values(log: InteractionLog) -> None:
    def with_kind(kind: str) -> InteractionLog:
        seconds = Column(column="seconds", role="signal", name="seconds", kind=kind)
        kept = tuple(column for column in log.schema.columns if column.name != "seconds")
        return replace(log, schema=replace(log.schema, columns=(*kept, seconds)))

    assert prepare(with_kind("")).features.signals == (("seconds", "amount"),)
    with pytest.raises(DataError, match="declared binary"):
        prepare(with_kind("binary"))
