"""Streams and tables: every row in its place, little held in memory, files whole or absent."""

from __future__ import annotations

import csv
import importlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import edgeml
from edgeml.core.fake import FakeEngine
from edgeml.core.predictor import Prediction
from edgeml.core.progress import ProgressEvent
from edgeml.data.table_stream import open_table_stream
from edgeml.data.text_lines import Entry
from edgeml.errors import ClosedError, DataError, InputError
from edgeml.tasks.predictor import TaskPredictor
from edgeml.workflows.offline import OfflineResult, answer_stream, predict_table
from tests.text_bundles import make_text_bundle, make_text_task

ROWS = [("1", "good film", "x"), ("2", "the bad, bad film", 'y\n"z"'), ("3", "", "a\rb")]


@pytest.fixture
def predictor(tmp_path: Path) -> Iterator[TaskPredictor]:
    bundle = make_text_bundle(tmp_path / "bundles" / "words.bundle")
    with edgeml.load(bundle, num_threads=1) as opened:
        yield opened


def _make(folder: Path, suffix: str) -> Path:
    path = folder / f"in{suffix}"
    names = ("id", "text", "note")
    if suffix == ".jsonl":
        lines = [json.dumps(dict(zip(names, row, strict=True))) for row in ROWS]
        path.write_text("\n".join(lines))
    elif suffix == ".parquet":
        arrow = importlib.import_module("pyarrow")
        table = arrow.table(dict(zip(names, map(list, zip(*ROWS, strict=True)), strict=True)))
        importlib.import_module("pyarrow.parquet").write_table(table, path)
    else:
        with path.open("w", newline="") as file:
            writer = csv.writer(
                file, delimiter="\t" if suffix == ".tsv" else ",", quoting=csv.QUOTE_ALL
            )
            writer.writerows([names, *ROWS])
    return path


def _read(path: Path) -> dict[str, list[str]]:
    table = open_table_stream(path)
    rows = [row for chunk in table.chunks() for row in chunk.cells()]
    return dict(zip(table.columns, map(list, zip(*rows, strict=True)), strict=True))


SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


@pytest.mark.parametrize(("source", "out"), [*itertools.product(SUFFIXES, SUFFIXES)])
def test_every_format_into_every_other(
    predictor: TaskPredictor, tmp_path: Path, source: str, out: str
) -> None:
    if ".parquet" in (source, out):
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    done = predict_table(predictor, _make(tmp_path, source), tmp_path / f"out{out}")
    assert isinstance(done, OfflineResult)
    assert (done.rows, done.errors, done.columns) == (
        3,
        0,
        ("label", "score", "truncated", "error"),
    )
    found = _read(done.out)
    assert list(found) == ["id", "text", "note", "label", "score", "truncated", "error"]
    assert list(zip(found["id"], found["text"], found["note"], strict=True)) == ROWS
    expected = [predictor.predict(text) for _, text, _ in ROWS]
    assert found["label"] == [answer.label for answer in expected]
    assert [float(one) for one in found["score"]] == pytest.approx([a.score for a in expected])
    assert (found["truncated"], found["error"]) == (["false"] * 3, [""] * 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["bundles", f"in{source}", f"out{out}"]
    )


def test_a_table_in_its_own_format_keeps_what_it_holds(
    predictor: TaskPredictor, tmp_path: Path
) -> None:
    lines = tmp_path / "a.jsonl"
    lines.write_text('{"text": "good", "n": 1.10, "in": {"k": [1e2]}}\n{}\n')
    done = predict_table(predictor, lines, tmp_path / "b.jsonl")
    first, second = done.out.read_text().splitlines()
    assert first.startswith('{"text": "good", "n": 1.10, "in": {"k": [1e2]}, "label": "good", ')
    assert json.loads(second)["error"].startswith("line 2 has no key 'text'")
    table = tmp_path / "a.csv"
    table.write_bytes(b"\xef\xbb\xbfid;text\n1;caf\xe9\n2;good\n")
    done = predict_table(predictor, table, tmp_path / "b.csv")
    assert done.out.read_bytes().startswith(b"id;text;label;score;truncated;error\n1;caf\xe9;;;;")
    assert done.errors == 1


def test_types_of_parquet_are_kept(predictor: TaskPredictor, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    arrow = importlib.import_module("pyarrow")
    parquet = importlib.import_module("pyarrow.parquet")
    texts = ["good", None] * 10_000
    table = arrow.table(
        {
            "text": texts,
            "when": arrow.array([1, 2] * 10_000, arrow.timestamp("ns", "UTC")),
            "tags": [["a"], None] * 10_000,
            "word": arrow.array(["x", "y"] * 10_000).dictionary_encode(),
        }
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    events: list[ProgressEvent] = []
    done = predict_table(
        predictor, tmp_path / "a.parquet", tmp_path / "b.parquet", progress=events.append
    )
    assert (done.rows, done.errors) == (20_000, 10_000)
    assert (events[-1].done, events[-1].total) == (20_000, 20_000)
    back = parquet.read_table(done.out)
    assert back.select(["text", "when", "tags"]).equals(table.select(["text", "when", "tags"]))
    assert [str(field.type) for field in back.schema][-4:] == ["string", "double", "bool", "string"]
    assert back["label"].to_pylist()[:2] == ["good", None]
    assert "row 20000 has no value in 'text'" in back["error"].to_pylist()[-1]
    assert parquet.ParquetFile(done.out).num_row_groups == 2
    predict_table(predictor, tmp_path / "a.parquet", tmp_path / "b.jsonl")
    value = json.loads((tmp_path / "b.jsonl").read_text().splitlines()[0])
    assert (value["tags"], value["word"], value["label"]) == (["a"], "x", "good")
    assert value["when"].startswith("1970-01-01 00:00:00.000000001")


def test_what_has_no_word_in_another_format(predictor: TaskPredictor, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    arrow = importlib.import_module("pyarrow")
    parquet = importlib.import_module("pyarrow.parquet")
    source = tmp_path / "a.parquet"
    data = arrow.array([b"\xff\xfe", b"ok"], arrow.binary())
    number = [float("nan"), float("inf")]
    parquet.write_table(arrow.table({"text": ["a", "b"], "data": data, "n": number}), source)
    out = tmp_path / "b.jsonl"
    predict_table(predictor, source, out)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["data"], row["n"]) for row in rows] == [("//4=", None), ("ok", "inf")]
    predict_table(predictor, source, tmp_path / "b.csv")
    found = _read(tmp_path / "b.csv")
    assert (found["data"], found["n"]) == (["//4=", "ok"], ["", "inf"])
    times = arrow.array([[1], [2]], arrow.list_(arrow.timestamp("ns")))
    parquet.write_table(arrow.table({"text": ["a", "b"], "times": times}), source)
    with pytest.raises(DataError, match="the column 'times': its values cannot be written in this"):
        predict_table(predictor, source, out)


def test_names_that_are_taken_are_not_lost(predictor: TaskPredictor, tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_text("text,label\ngood,0\n")
    done = predict_table(predictor, source, tmp_path / "b.csv")
    assert done.columns == ("predicted_label", "predicted_score", "truncated", "error")
    found = _read(done.out)
    assert (found["label"], found["predicted_label"]) == (["0"], ["good"])
    with pytest.raises(DataError, match="the column 'predicted_label' is there already"):
        predict_table(predictor, done.out, tmp_path / "c.csv")


def test_several_labels_are_joined(tmp_path: Path) -> None:
    bundle = make_text_bundle(tmp_path / "words.bundle", multi_label=True)
    source = tmp_path / "a.csv"
    source.write_text("text,id\n,1\ngood good,2\nbad,3,4\n")
    with edgeml.load(bundle, num_threads=1) as predictor:
        done = predict_table(predictor, source, tmp_path / "b.csv", multi_label=True)
    found = _read(done.out)
    assert done.columns == ("label", "score", "labels", "truncated", "error")
    assert found["labels"] == ["bad|good", "good", ""]


def test_a_cut_text_is_said_to_be(predictor: TaskPredictor, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,id\n" + "good " * 50 + ",1\ngood,2\n")
    done = predict_table(predictor, tmp_path / "a.csv", tmp_path / "b.csv")
    assert _read(done.out)["truncated"] == ["true", "false"]


def test_a_table_is_not_written_over_itself(predictor: TaskPredictor, tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_text("text\ngood\n")
    (tmp_path / "link.csv").symlink_to(source)
    (tmp_path / "hard.csv").hardlink_to(source)
    for out in (source, tmp_path / "link.csv", tmp_path / "hard.csv"):
        with pytest.raises(DataError, match="this is the table that is read"):
            predict_table(predictor, source, out)
    assert source.read_text() == "text\ngood\n"


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("b.txt", "suffix '.txt'"),
        ("none/b.csv", "no file can be written in"),
        ("folder.csv", "this exists and is not a file"),
    ],
)
def test_a_place_that_cannot_be_is_refused_first(
    predictor: TaskPredictor, tmp_path: Path, out: str, says: str
) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "a.csv").write_text("text\ngood\n")
    with pytest.raises(DataError, match=says):
        predict_table(predictor, tmp_path / "a.csv", tmp_path / out)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_run_that_dies_leaves_what_was_there(tmp_path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    task = make_text_task()
    calls = itertools.count()
    fake = FakeEngine(task.signature)

    class Dying(FakeEngine):
        def run(self, tensors: Any) -> Any:
            if next(calls) > 10:
                raise ClosedError
            return fake.run(tensors)

    (tmp_path / "a.csv").write_text("text\n" + "good\n" * 9000)
    out = tmp_path / f"b{suffix}"
    out.write_text("before")
    with pytest.raises(ClosedError):
        predict_table(TaskPredictor(task, Dying(task.signature)), tmp_path / "a.csv", out)
    assert out.read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", out.name]


def test_what_cannot_be_read_never_reaches_the_model_and_keeps_its_place() -> None:
    task = make_text_task()
    seen: list[int] = []
    fake = FakeEngine(task.signature)

    class Counting(FakeEngine):
        def run(self, tensors: Any) -> Any:
            seen.append(len(tensors["input_ids"]))
            return fake.run(tensors)

    bad = InputError("line 2 is bad")
    entries = [Entry(item=item, shown=None) for item in ("a", bad, "b", "\ud83d")]
    pairs = list(answer_stream(TaskPredictor(task, Counting(task.signature)), iter(entries)))
    assert [entry for entry, _ in pairs] == entries
    assert pairs[1][1] is bad
    assert isinstance(pairs[0][1], Prediction)
    assert isinstance(pairs[2][1], Prediction)
    assert "lone surrogate" in str(pairs[3][1])
    assert sum(seen) == 2


@pytest.mark.parametrize("item", ["good", InputError("bad")], ids=["good", "bad"])
def test_an_endless_stream_is_read_some_windows_ahead(item: Any) -> None:
    task = make_text_task()
    read = itertools.count()
    entries = (Entry(item=item, shown=str(next(read))) for _ in itertools.repeat(None))
    stream = answer_stream(TaskPredictor(task, FakeEngine(task.signature)), entries)
    shown = [entry.shown for entry, _ in itertools.islice(stream, 5000)]
    assert shown == [str(number) for number in range(5000)]
    assert next(read) <= 5000 + 3 * task.window
    stream.close()  # type: ignore[attr-defined]
