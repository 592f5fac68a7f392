"""``edgeml.find_data`` and ``edgeml.load_texts``: what is here, and why the rest is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgeml
from edgeml.data.opening import NAMED_TEXT
from edgeml.data.text_table import load_text_table
from edgeml.errors import DataError
from tests.small_text import make_table, make_texts


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let ``product-reviews`` be a table, and everything else be absent."""
    table = make_table(tmp_path / "films.csv", 10)

    def absent() -> None:
        raise DataError(source="sst2", reason="it is not here; download it")

    for name in NAMED_TEXT:
        monkeypatch.setitem(NAMED_TEXT, name, absent)
    monkeypatch.setitem(NAMED_TEXT, "product-reviews", lambda: load_text_table(table))
    return table


def test_the_first_that_is_here_is_taken(sets: Path) -> None:
    found = edgeml.find_data("product-reviews", "sst2")
    assert (found.name, found.refused) == ("product-reviews", {})
    assert found.source["path"] == sets.name


def test_the_second_is_taken_with_the_reason_against_the_first(sets: Path) -> None:
    found = edgeml.find_data("sst2", "product-reviews", "hate-speech-davidson")
    assert found.name == "product-reviews"
    assert found.refused == {"sst2": "sst2: it is not here; download it"}


@pytest.mark.usefixtures("sets")
def test_where_none_is_here_each_reason_is_named() -> None:
    with pytest.raises(DataError, match=r"^sst2, no-such-set: .*download it \| no-such-set:"):
        edgeml.find_data("sst2", "no-such-set")


def test_texts_of_a_table_come_in_its_order(tmp_path: Path) -> None:
    items, labels = make_texts(10)
    texts = edgeml.load_texts(make_table(tmp_path / "films.csv", 10))
    assert (texts.items, texts.labels) == (tuple(items), ("bad", "good"))
    assert [texts.labels[index] for index in texts.targets] == labels


def test_texts_of_a_named_set_and_of_its_table_are_one(sets: Path) -> None:
    named, table = edgeml.load_texts("product-reviews"), edgeml.load_texts(sets)
    assert named.items == table.items
    np.testing.assert_array_equal(named.targets, table.targets)


def test_texts_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.csv: neither a data set"):
        edgeml.load_texts(tmp_path / "nothing.csv")
