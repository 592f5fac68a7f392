"""What a schema must say, and what it may not declare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from edgeml.data.interactions.leaks import OUTCOMES
from edgeml.data.interactions.schema import parse_schema, read_schema
from edgeml.errors import DataError
from tests.interaction_logs import BARE_SCHEMA, SCHEMA

BARE = {"columns": {"u": "user", "i": "item", "t": "time"}}


def with_column(name: str, entry: Any) -> dict[str, Any]:
    return {"columns": {**BARE["columns"], name: entry}}


def test_a_whole_schema_is_read(tmp_path: Path) -> None:
    (tmp_path / "schema.yaml").write_text(SCHEMA)
    schema = read_schema(tmp_path / "schema.yaml")
    assert schema.one("user").column == "viewer"
    assert [column.name for column in schema.of_role("signal")] == ["finished", "seconds"]
    assert (schema.positive_signal, schema.split.test) == ("finished", 0.15)
    # Files stand beside the schema, wherever it is read from.
    assert schema.items is not None
    assert schema.items.file == str(tmp_path / "clips.csv")


def test_a_bare_schema_takes_every_row_as_positive() -> None:
    schema = parse_schema(yaml.safe_load(BARE_SCHEMA), source="s")
    assert schema.positive_signal == ""
    assert schema.split.kind == "temporal"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "a mapping"),
        ({"columns": {}}, "must map each column"),
        ({"columns": {"u": "user", "i": "item"}}, "role 'time'"),
        ({"columns": {"u": "user", "v": "user", "i": "item", "t": "time"}}, "2 columns"),
        (with_column("x", "colour"), "role 'colour'"),
        (with_column("x", {"role": "context", "kind": "blob"}), "kind 'blob'"),
        (with_column("x", {"role": "signal", "scale": "big"}), "scale"),
        ({**BARE, "colums": {}}, "the key 'colums'"),
        ({**BARE, "positive": "like"}, "which is no signal"),
        ({**BARE, "split": "yearly"}, "kind 'yearly'"),
        ({**BARE, "split": {"test": 0.95}}, "leave 0.1 to train"),
        ({**BARE, "split": {"test_from": "2022-05-02"}}, "go together"),
        ({**BARE, "split": {"validation_from": "soon", "test_from": "later"}}, "a date as"),
        (
            {**BARE, "split": {"validation_from": "2022-05-02", "test_from": "2022-05-01"}},
            "must be after",
        ),
        ({**BARE, "missing_ids": "guess"}, "missing_ids"),
        ({**BARE, "users": {"file": "u.csv"}}, "needs 'file', 'key' and 'columns'"),
    ],
)
def test_a_schema_that_does_not_fit_is_refused(value: Any, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        parse_schema(value, source="schema.yaml")
    assert "schema.yaml" in str(caught.value)


@pytest.mark.parametrize("pattern", OUTCOMES)
@pytest.mark.parametrize("role", ["context", "item feature", "user feature"])
def test_a_column_that_leaks_the_label_is_refused_by_name(pattern: str, role: str) -> None:
    name = pattern.replace("*", "comment")
    with pytest.raises(DataError, match=f"'{name}' would leak"):
        parse_schema(with_column(name, {"role": role}), source="s")
    # As a signal it is welcome, and its owner may know better.
    parse_schema(with_column(name, "signal"), source="s")
    parse_schema(with_column(name, {"role": role, "known_before": True}), source="s")


def test_missing_or_broken_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such schema"):
        read_schema(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("columns: [")
    with pytest.raises(DataError, match="cannot be read as YAML"):
        read_schema(tmp_path / "bad.yaml")
