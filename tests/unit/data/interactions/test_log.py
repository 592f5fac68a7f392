"""Logs in somebody's own columns, good and bad."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from edgeml.data.interactions.log import InteractionLog
from edgeml.data.interactions.opening import open_log
from edgeml.data.interactions.schema import parse_schema
from edgeml.errors import DataError
from tests.interaction_logs import write_log

COLUMNS = {"who": "user", "what": "item", "when": "time"}
ROWS = [("007", "a", 30), ("7", "b", 10), ("007", "b", 20)]


def written(path: Path, header: str, rows: list[Any], delimiter: str = ",") -> Path:
    lines = [header.replace(",", delimiter)]
    lines += [delimiter.join("" if cell is None else str(cell) for cell in row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def opened(path: Path, **more: Any) -> InteractionLog:
    value = {"columns": {**COLUMNS, **more.pop("columns", {})}, **more}
    return open_log(path, parse_schema(value, source=str(path)))


@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".csv", ";"), (".tsv", "\t")])
def test_ids_stay_text_and_rows_come_in_time(tmp_path: Path, suffix: str, delimiter: str) -> None:
    log = opened(written(tmp_path / f"log{suffix}", "who,what,when", ROWS, delimiter))
    assert log.users.tolist() == ["7", "007", "007"]
    assert log.items.tolist() == ["b", "b", "a"]
    assert log.times_ms.tolist() == [10_000, 20_000, 30_000]
    assert "sorted by time" in log.notes[0]


@pytest.mark.parametrize(
    ("times", "unit"),
    [
        ([1, 2, 3], "s"),
        (np.array([1, 2, 3]) * 10**9 + 1_700_000_000 * 10**9, "ns"),
        (np.array(["2024-01-01T00:00:00", "2024-01-02T00:00:00", "2024-01-03T00:00:00"]), ""),
        (np.array([1, 2, 3], dtype="datetime64[D]"), ""),
    ],
)
def test_parquet_with_whole_number_ids_and_any_times(tmp_path: Path, times: Any, unit: str) -> None:
    table = pyarrow.table({"who": [1, 2, 1], "what": [10.0, 11.0, 12.0], "when": times})
    pyarrow.parquet.write_table(table, tmp_path / "log.parquet")
    log = opened(tmp_path / "log.parquet", columns={"when": {"role": "time", "unit": unit}})
    assert log.users.tolist() == ["1", "2", "1"]
    assert log.items.tolist() == ["10", "11", "12"]
    assert (np.diff(log.times_ms) > 0).all()


@pytest.mark.parametrize(
    ("header", "rows", "more", "words"),
    [
        ("who,what", [("a", "b")], {}, "no column 'when'"),
        ("who,what,when", [], {}, "no rows"),
        ("who,what,when", [("a", None, 1), ("b", "x", 2)], {}, "1 rows have no user or no item"),
        ("who,what,when", [("a", "x", None), ("b", "x", 2)], {}, "misses 1 values"),
        ("who,what,when", [("a", "x", "soon"), ("b", "x", "later")], {}, "holds something else"),
        (
            "who,what,when,like",
            [("a", "x", 1, None), ("b", "x", 2, 1)],
            {"columns": {"like": "signal"}, "positive": "like"},
            "missing in 1 rows",
        ),
        (
            "who,what,when,like",
            [("a", "x", 1, 0), ("b", "x", 2, 0)],
            {"columns": {"like": "signal"}, "positive": "like"},
            "no row has 'like'",
        ),
        (
            "who,what,when,like",
            [("a", "x", 1, "yes"), ("b", "x", 2, "no")],
            {"columns": {"like": "signal"}, "positive": "like"},
            "no number",
        ),
    ],
)
def test_a_log_that_is_unfit_is_refused(
    tmp_path: Path, header: str, rows: list[Any], more: dict[str, Any], words: str
) -> None:
    path = written(tmp_path / "log.csv", header, rows)
    with pytest.raises(DataError, match=words):
        opened(path, **more)


def test_rows_without_ids_are_dropped_where_the_schema_says_so(tmp_path: Path) -> None:
    path = written(tmp_path / "log.csv", "who,what,when", [("a", None, 1), ("b", "x", 2)])
    log = opened(path, missing_ids="drop")
    assert log.users.tolist() == ["b"]
    assert "1 rows without" in log.notes[0]


def test_repeated_pairs_follow_the_stated_rule(tmp_path: Path) -> None:
    path = written(tmp_path / "log.csv", "who,what,when", [("a", "x", 1), ("a", "x", 2)])
    assert len(opened(path)) == 2
    assert opened(path, repeated="first").times_ms.tolist() == [1000]


def test_an_id_that_stands_twice_in_a_side_table_is_refused(tmp_path: Path) -> None:
    write_log(tmp_path, users=5, items=8, rows=50)
    clips = (tmp_path / "clips.csv").read_text()
    (tmp_path / "clips.csv").write_text(clips + "c01,film,1,2023-10-01\n")
    with pytest.raises(DataError, match="the clip 'c01' stands in 2 rows"):
        open_log(tmp_path / "log.csv", tmp_path / "schema.yaml")


def test_a_missing_file_an_unknown_name_and_a_missing_schema_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither a data set"):
        open_log("movie-lens")
    with pytest.raises(DataError, match="needs a schema"):
        open_log(written(tmp_path / "log.csv", "who,what,when", ROWS))
    with pytest.raises(DataError, match="files that end in"):
        opened(written(tmp_path / "log.xls", "who,what,when", ROWS))


def test_movielens_is_the_published_set() -> None:
    log = open_log("movielens-100k")
    assert (len(log), len(set(log.users)), len(set(log.items))) == (100_000, 943, 1682)
    assert log.source["verified"] == "sha256"
    with pytest.raises(DataError, match="schema of its own"):
        open_log("movielens-100k", "schema.yaml")


def test_kuairand_without_its_folder_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEML_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError, match="EDGEML_DATA_DIR"):
        open_log("kuairand-pure")
    (tmp_path / "kuairand_pure").mkdir()
    with pytest.raises(DataError, match="not the published file"):
        open_log("kuairand-pure")
