"""Tables: each dialect reads to the same columns, and what is broken is refused by its line."""

from __future__ import annotations

import csv
import importlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeml.data.tables import read_table
from edgeml.errors import DataError, MissingExtraError

COLUMNS = {"text": ["good, really", 'he said "hi"'], "label": ["1", "0"]}


def _write(folder: Path, name: str, data: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@dataclass(frozen=True, kw_only=True)
class Dialect:
    id: str
    name: str
    data: str | bytes


QUOTED = '{0}text{0}{1}label\n"good, really"{1}1\n"he said ""hi"""{1}0\n'
DIALECTS = [
    Dialect(id="comma", name="a.csv", data=QUOTED.format("", ",")),
    Dialect(id="semicolon", name="a.csv", data=QUOTED.format('"', ";")),
    Dialect(id="tab-named-csv", name="a.csv", data=QUOTED.format("", "\t")),
    Dialect(id="upper-case-suffix", name="A.CSV", data=QUOTED.format("", ",")),
    Dialect(id="crlf", name="a.csv", data=QUOTED.format("", ",").replace("\n", "\r\n")),
    Dialect(id="cr", name="a.csv", data=QUOTED.format("", ",").replace("\n", "\r")),
    Dialect(id="no-last-line-end", name="a.csv", data=QUOTED.format("", ",").rstrip()),
    Dialect(id="blank-lines", name="a.csv", data=QUOTED.format("", ",") + "\n  \n\n"),
    Dialect(id="utf-8-mark", name="a.csv", data=QUOTED.format('"', ",").encode("utf-8-sig")),
    Dialect(id="utf-16", name="a.csv", data=QUOTED.format("", ",").encode("utf-16")),
    Dialect(id="utf-32", name="a.tsv", data=QUOTED.format("", "\t").encode("utf-32")),
    Dialect(id="tsv-quoted", name="a.tsv", data=QUOTED.format("", "\t")),
    Dialect(
        id="tsv-literal", name="a.tsv", data='text\tlabel\ngood, really\t1\nhe said "hi"\t0\r\n'
    ),
    Dialect(
        id="jsonl",
        name="a.jsonl",
        data='{"text": "good, really", "label": 1}\n\n{"label": "0", "text": "he said \\"hi\\""}',
    ),
]


@pytest.mark.parametrize("case", DIALECTS, ids=lambda case: case.id)
def test_each_dialect_reads_to_the_same_columns(tmp_path: Path, case: Dialect) -> None:
    table = read_table(_write(tmp_path, case.name, case.data))
    assert table.columns == COLUMNS
    assert list(table.columns) == ["text", "label"]


@dataclass(frozen=True, kw_only=True)
class TabCase:
    id: str
    data: str
    texts: list[str]


TABS = [
    TabCase(
        id="quote-opens", data='"hi" he said\t1\n"whole"\t0', texts=['"hi" he said', '"whole"']
    ),
    # Read with quotes these would be one row whose text runs over two.
    TabCase(id="quotes-of-two-rows", data='"open\t1\nclose"\t0', texts=['"open', 'close"']),
    TabCase(id="lone-quote", data='"\t1\nb\t0', texts=['"', "b"]),
    TabCase(id="all-quoted", data='"a"\t1\n"b ""c"""\t0', texts=["a", 'b "c"']),
    TabCase(id="tab-inside", data='"a\tb"\t1\nc\t0', texts=["a\tb", "c"]),
    TabCase(id="line-inside", data='"a\nb"\t1\nc\t0', texts=["a\nb", "c"]),
]


@pytest.mark.parametrize("case", TABS, ids=lambda case: case.id)
def test_quotes_of_tab_separated_text_follow_the_rule(tmp_path: Path, case: TabCase) -> None:
    table = read_table(_write(tmp_path, "a.tsv", "text\tlabel\n" + case.data))
    assert table.columns == {"text": case.texts, "label": ["1", "0"]}


def test_a_separator_that_occurs_in_texts_does_not_win(tmp_path: Path) -> None:
    rows = "good, fine;1\nbad;0\na, b, c;1\nplain;0\n"
    table = read_table(_write(tmp_path, "a.csv", rows))
    assert list(table.columns) == ["good, fine", "1"]


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=8), st.sampled_from(",;"))
def test_what_a_csv_writer_writes_is_read_back(
    tmp_path: Path, rows: list[tuple[str, str]], delimiter: str
) -> None:
    path = tmp_path / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL)
        writer.writerows([("text", "label"), *rows])
    table = read_table(path)
    assert list(zip(table.columns["text"], table.columns["label"], strict=True)) == rows


def test_lines_are_those_on_which_rows_start(tmp_path: Path) -> None:
    table = read_table(_write(tmp_path, "a.csv", 'text,label\n"a\nb",1\n\nc,0\n"d",1\n'))
    assert list(table.lines) == [2, 5, 6]


def test_a_field_of_ten_megabytes_is_read_and_the_limit_put_back(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    long = "x" * 10_000_000
    for name, between in (("a.csv", ","), ("a.tsv", "\t")):
        table = read_table(_write(tmp_path, name, f'text{between}label\n"{long}"{between}1\n'))
        assert table.columns["text"] == [long]
    with pytest.raises(DataError):
        read_table(_write(tmp_path, "bad.csv", 'text,label\n"open,1\n'))
    assert csv.field_size_limit() == before


@dataclass(frozen=True, kw_only=True)
class Broken:
    id: str
    name: str
    data: str | bytes
    says: str


BROKEN = [
    Broken(
        id="latin1",
        name="a.csv",
        data="text,label\na,1\ncaf\xe9,0\n".encode("latin1"),
        says=r"byte 0xe9 in line 3 \(byte 19 of the file\).*iconv -f latin1 -t utf-8",
    ),
    Broken(
        id="latin1-after-mark",
        name="a.csv",
        data=b"\xef\xbb\xbftext,label\na,\xe9\n",
        says=r"byte 0xe9 in line 2",
    ),
    Broken(id="odd-utf-16", name="a.csv", data=b"\xff\xfea\0b", says="is not utf-16"),
    Broken(id="nul", name="a.csv", data="a,b\nc,d\ne\0,f\n", says="line 3 holds a NUL"),
    Broken(id="nul-tsv", name="a.tsv", data="a\tb\nc\0\td\n", says="line 2 holds a NUL"),
    Broken(
        id="too-many",
        name="a.csv",
        data="text,label\na,1\nb, c,0\nd,1,2\n",
        says=r"line 3 has 3 fields, too many: the header has 2 \(2 such rows\)",
    ),
    Broken(
        id="too-few",
        name="a.tsv",
        data="text\tlabel\na\t1\nb\n",
        says="line 3 has 1 fields, too few",
    ),
    Broken(id="open-quote", name="a.csv", data='t,l\na,1\n"b,0\nc,1\n', says="starts in line 3"),
    Broken(id="after-quote", name="a.csv", data='t,l\n"b" c,0\n', says="starts in line 2"),
    Broken(id="empty", name="a.csv", data="", says="holds nothing"),
    Broken(id="blank", name="a.tsv", data="\n \n", says="holds nothing"),
    Broken(id="empty-jsonl", name="a.jsonl", data="\n", says="holds nothing"),
    Broken(id="header-alone", name="a.csv", data="text,label\n", says="holds only one row"),
    Broken(id="twice", name="a.csv", data="a,b, a\n1,2,3\n", says="the column 'a' is there more"),
    Broken(id="suffix", name="a.xlsx", data="a", says="the suffix '.xlsx' is not that of a table"),
    Broken(id="not-json", name="a.jsonl", data='{"a": 1}\n{"a": \n', says="line 2 is not JSON"),
    Broken(id="no-object", name="a.jsonl", data='{"a": 1}\n[1]\n', says="line 2 is not a JSON obj"),
    Broken(id="deep", name="a.jsonl", data="[" * 100_000, says="line 1 is not JSON"),
    Broken(id="key-twice", name="a.jsonl", data='{"a": 1, "a": 2}', says="'a' is there more than"),
    Broken(
        id="half", name="a.jsonl", data='{"a": "\\ud83d"}', says="line 1 holds an escape in 'a'"
    ),
    Broken(id="json-nul", name="a.jsonl", data='{"a": "\\u0000"}', says="line 1 holds an escape"),
    Broken(id="no-parquet", name="a.parquet", data="PAR1 nothing", says="not a Parquet file"),
    Broken(id="empty-parquet", name="a.parquet", data="", says="not a Parquet file"),
]


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case.id)
def test_a_broken_table_is_refused_in_one_line(tmp_path: Path, case: Broken) -> None:
    if case.name.endswith(".parquet"):
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    path = _write(tmp_path, case.name, case.data)
    with pytest.raises(DataError, match=case.says) as caught:
        read_table(path)
    assert caught.value.source == str(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).count(";") >= 1


@pytest.mark.timeout(20)
def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")  # opening one waits for ever
    for name, says in (
        ("folder.csv", "this is a folder"),
        ("pipe.csv", "not a regular file"),
        ("none.csv", "does not exist"),
    ):
        with pytest.raises(DataError, match=says):
            read_table(tmp_path / name)


def test_a_named_encoding_is_used(tmp_path: Path) -> None:
    path = _write(tmp_path, "a.csv", "text,label\ncaf\xe9,1\n".encode("latin1"))
    assert read_table(path, encoding="latin1").columns["text"] == ["caf\xe9"]
    for name in ("klingon", "rot13", "undefined", "a\0b"):
        with pytest.raises(DataError, match="is not a text encoding"):
            read_table(path, encoding=name)


def test_json_values_are_text_as_written_and_gaps_are_none(tmp_path: Path) -> None:
    lines = [
        {"a": 1, "b": True},
        {"a": 10**30, "c": None, "b": False},
        {"a": "x", "c": 0.5, "tags": ["p", "q"]},
    ]
    path = _write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, lines)) + '\n{"a": NaN}\n')
    table = read_table(path)
    assert table.columns == {
        "a": ["1", "1" + "0" * 30, "x", None],
        "b": ["true", "false", None, None],
        "c": [None, None, "0.5", None],
    }
    assert dict(table.nested) == {"tags": "line 3 holds a JSON list"}


def test_parquet_gives_text_and_says_what_is_none(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    arrow = importlib.import_module("pyarrow")
    parquet = importlib.import_module("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    columns = {
        "text": ["a", None, "caf\xe9"],
        "label": arrow.array(["x", "y", "x"]).dictionary_encode(),
        "count": [1, 2, None],
        "tags": [["p"], [], None],
    }
    parquet.write_table(arrow.table(columns), path)
    table = read_table(path)
    assert table.columns == {
        "text": ["a", None, "caf\xe9"],
        "label": ["x", "y", "x"],
        "count": ["1", "2", None],
    }
    assert (table.unit, list(table.lines)) == ("row", [1, 2, 3])
    assert list(table.nested) == ["tags"]


def test_broken_parquet_tables_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    arrow = importlib.import_module("pyarrow")
    parquet = importlib.import_module("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    twice = arrow.Table.from_arrays([arrow.array(["a"]), arrow.array(["b"])], names=["t", "t"])
    for table, says in (
        (twice, "the column 't' is there more than once"),
        (arrow.table({"t": arrow.array([], arrow.string())}), "no row"),
        (arrow.table({"t": ["a", "b\0"]}), "row 2 holds a NUL character in 't'"),
    ):
        parquet.write_table(table, path)
        with pytest.raises(DataError, match=says):
            read_table(path)
    parquet.write_table(arrow.table({"t": ["a" * 1000]}), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="not a Parquet file that can be read"):
        read_table(path)


def test_parquet_without_pyarrow_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path, "a.parquet", b"PAR1")

    def missing(name: str) -> None:
        raise ModuleNotFoundError(name=name.partition(".")[0])

    monkeypatch.setattr("edgeml._optional.importlib.import_module", missing)
    with pytest.raises(MissingExtraError, match=r"pip install 'edgeml\[tables\]'"):
        read_table(path)


def test_a_file_that_may_not_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path, "a.csv", "a,b\n1,2\n")

    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\)"):
        read_table(path)
