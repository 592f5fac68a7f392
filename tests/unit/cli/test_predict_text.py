"""``edgeml predict`` for texts: arguments, lines, streams and tables."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.pictures import rgb_file
from tests.text_bundles import make_text_bundle
from tests.unit.cli.conftest import Done, Run

_COMMAND = (sys.executable, "-m", "edgeml", "predict")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_text_bundle(tmp_path_factory.mktemp("words") / "words.bundle").path


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("several") / "several.bundle"
    return make_text_bundle(place, multi_label=True).path


def _stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def _lines(done: Done) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.out.splitlines()]


def test_each_input_is_a_text(run: Run, words: Path) -> None:
    done = run("predict", words, "a good film", "bad " * 20, "", "--json")
    assert (done.code, done.err) == (0, "")
    first, second, third = done.json["predictions"]
    assert list(first) == ["input", "label", "score", "scores", "truncated", "served_by", "error"]
    assert (first["input"], first["label"], first["truncated"]) == ("a good film", "good", False)
    assert (second["label"], second["truncated"]) == ("bad", True)
    assert third["error"] is None
    people = run("predict", words, "a good\n" + "film " * 100, "x\udcff", "bad " * 20)
    assert people.code == 2
    assert "good" in people.out
    assert "(cut)" in people.out
    assert "lone surrogate" in people.error


def test_several_labels_are_listed(run: Run, several: Path) -> None:
    rows = run("predict", several, "", "good good", "\udcff", "--json").json["predictions"]
    assert [row["labels"] for row in rows] == [["bad", "good"], ["good"], []]
    assert "bad, good" in run("predict", several, "").out


def test_a_text_may_begin_with_a_dash_after_two(run: Run, words: Path) -> None:
    rows = run("predict", words, "--json", "--", "-good", "--jsonl", "--").json["predictions"]
    assert [row["input"] for row in rows] == ["-good", "--jsonl", "--"]
    assert run("predict", words, "-good").code == 2


def test_a_dash_reads_a_text_a_line(run: Run, words: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _stdin(monkeypatch, b"\xef\xbb\xbfgood\r\n\n{bad\ncaf\xe9\nlast")
    done = run("predict", words, "first", "-", "--json")
    rows = done.json["predictions"]
    assert [row["input"] for row in rows] == ["first", "good", "", "{bad", None, "last"]
    assert [row["error"] is None for row in rows] == [True, True, True, True, False, True]
    assert done.code == 2
    assert "1 of 6 inputs were refused, first: byte 0xe9 in line 4 is not UTF-8" in done.error
    _stdin(monkeypatch, b"")
    assert run("predict", words, "-", "--json").json == {"predictions": []}


def test_plain_lines_are_streamed(run: Run, words: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _stdin(monkeypatch, b"\n\ngood\n\n{bad\n\xff\n")
    done = run("predict", words, "-", "--jsonl")
    rows = _lines(done)
    assert [row["input"] for row in rows] == ["", "", "good", "", "{bad", None]
    assert "id" not in rows[0]
    assert done.code == 2
    assert "1 of 6 inputs were refused" in done.error


def test_json_lines_are_streamed_with_their_ids(
    run: Run, words: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        b"",
        b'{"text": "good", "id": 7, "score": "ignored"}',
        b'{"id": "b", "text": 1.50}',
        b"",
        b"{broken",
        b'{"id": [1], "other": "x"}',
        b'{"id": null, "text": "half \\ud83d"}',
        b'{"text": "\xff"}',
        b'{"text": ["good"]}',
        b'"text"',
        b'{"id": 1e999, "text": "good"}',
        b'{"text": "bad"}',
    ]
    _stdin(monkeypatch, b"\n".join(lines))
    done = run("predict", words, "-", "--jsonl")
    rows = _lines(done)
    assert [row.get("id", "none") for row in rows[:5]] == [7, "b", "none", [1], None]
    assert [row["input"] for row in rows[:2]] == ["good", "1.50"]
    errors = [row["error"] or "" for row in rows]
    says = (
        *("", "", "line 5 is not JSON", "line 6 has no key 'text'", "lone surrogate"),
        *("byte 0xff in line 8", "line 9 has a list", "line 10 is not a JSON object"),
        *("the id in line 11", ""),
    )
    for error, expected in zip(errors, says, strict=True):
        assert expected in error
        assert bool(expected) == bool(error)
    assert rows[-1]["label"] == "bad"
    assert done.code == 2
    assert "7 of 10 inputs were refused, first: line 5 is not JSON" in done.error


def test_the_key_of_the_text_can_be_named(
    run: Run, words: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stdin(monkeypatch, b'{"body": "good", "text": "bad"}\n')
    (row,) = _lines(run("predict", words, "-", "--jsonl", "--text-column", "body"))
    assert (row["input"], row["label"]) == ("good", "good")


def test_texts_on_the_command_line_give_a_line_each(run: Run, words: Path) -> None:
    rows = _lines(run("predict", words, "good", "bad", "--jsonl"))
    assert [row["label"] for row in rows] == ["good", "bad"]


def test_answers_come_while_more_is_read(words: Path) -> None:
    with subprocess.Popen(
        [*_COMMAND, str(words), "-", "--jsonl"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"good\n" * 3 * 2048)  # the first window, and what is read ahead
        process.stdin.flush()
        answers = [process.stdout.readline() for _ in range(2048)]  # stdin is still open
        process.stdin.close()
        answers += process.stdout.readlines()
    assert len(answers) == 3 * 2048
    assert process.returncode == 0


def test_a_reader_that_leaves_ends_it_quietly(words: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.write_bytes(b"good\n" * 50_000)
    with (
        texts.open("rb") as file,
        subprocess.Popen(
            [*_COMMAND, str(words), "-", "--jsonl"],
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process,
    ):
        assert process.stdout
        assert process.stderr
        assert json.loads(process.stdout.readline())["label"] == "good"
        process.stdout.close()
        error = process.stderr.read()
    assert error == b""
    assert process.returncode == 1


def test_a_table_becomes_a_table(run: Run, words: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text\n1,good\n2,b,c\n3,\n")
    out = tmp_path / "b.jsonl"
    done = run("predict", words, tmp_path / "a.csv", "--out", out, "--json")
    assert set(done.json) == {"rows", "errors", "out", "seconds", "texts_per_s"}
    assert (done.json["rows"], done.json["errors"], done.json["out"]) == (3, 1, str(out))
    assert done.code == 2
    assert "1 of 3 rows were refused, first: line 3 has 3 fields" in done.error
    assert [json.loads(line)["label"] for line in out.read_text().splitlines()] == [
        "good", None, "bad",
    ]  # fmt: skip
    people = run("predict", words, out, "--out", tmp_path / "c.csv", "--text-column", "id")
    assert people.code == 0
    assert "predicted_label" in people.out


def test_a_table_of_several_labels(run: Run, several: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text\n""\n')
    assert run("predict", several, tmp_path / "a.csv", "--out", tmp_path / "b.csv").code == 0
    assert "bad|good" in (tmp_path / "b.csv").read_text()


def test_a_file_is_not_taken_for_a_text(run: Run, words: Path, tmp_path: Path) -> None:
    table, notes = tmp_path / "a.csv", tmp_path / "notes.txt"
    table.write_text("text\ngood\n")
    notes.write_text("good\n")
    for arguments in ((table,), (table, "--jsonl"), ("good", table)):
        done = run("predict", words, *arguments)
        assert (done.code, done.out) == (2, "")
        assert "answer its rows with --out" in done.error
    assert "this is a file" in run("predict", words, notes).error
    for text in (tmp_path / "none.csv", tmp_path, "x" * 10_000):
        assert run("predict", words, text).code == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("none.csv", "--out", "b.csv"), "none.csv: this file does not exist"),
        (("a.csv", "--out", "b.doc"), "suffix '.doc' is not that of a table"),
        (("a.csv", "--out", "a.csv"), "this is the table that is read"),
        (("a.csv", "b.csv", "--out", "c.csv"), "--out takes one table"),
        (("-", "--out", "c.csv"), "--out takes one table"),
        (("a.csv", "--out", "c.csv", "--text-column", "x"), "'x' was expected"),
        (("a.csv", "--out", "c.csv", "--jsonl"), "--jsonl and --out were both given"),
        (("-", "--json", "--jsonl"), "--jsonl and --json were both given"),
        (("good", "--text-column", "x"), "--out or --jsonl was expected beside it"),
    ],
)
def test_requests_that_cannot_be_are_one_line(
    run: Run,
    words: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("text\ngood\n")
    done = run("predict", words, *arguments)
    assert (done.code, done.out) == (2, "")
    assert says in done.error
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_pictures_have_lines_and_no_tables(run: Run, small: Path, tmp_path: Path) -> None:
    good, bad = tmp_path / "a.png", tmp_path / "b.png"
    good.write_bytes(rgb_file())
    bad.write_bytes(b"no picture")
    done = run("predict", small, good, bad, good, "--jsonl")
    rows = _lines(done)
    assert [row["input"] for row in rows] == [str(good), str(bad), str(good)]
    assert [row["error"] is None for row in rows] == [True, False, True]
    assert "truncated" not in rows[0]
    assert done.code == 2
    assert "1 of 3 inputs were refused" in done.error
    done = run("predict", small, good, "--out", tmp_path / "b.csv")
    assert done.code == 2
    assert "--out takes one folder of pictures" in done.error


def test_a_picture_through_a_pipe_is_still_one(
    run: Run, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for flag in ("--json", "--jsonl"):
        _stdin(monkeypatch, rgb_file())
        done = run("predict", small, "-", flag)
        assert done.code == 0
        (row,) = done.json.get("predictions", [done.json])
        assert (row["input"], row["error"]) == ("-", None)
