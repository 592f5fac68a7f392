"""Tables in chunks: the same rows as when read whole, and each fault in its row's place."""

from __future__ import annotations

import csv
import importlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeml.data import table_stream, text_lines
from edgeml.data.table_chunks import BatchChunk
from edgeml.data.table_stream import TableStream, open_table_stream
from edgeml.data.tables import read_table
from edgeml.errors import DataError, EdgemlError
from tests.unit.data.test_tables import DIALECTS, TABS, Dialect, TabCase


def _write(folder: Path, name: str, data: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def _texts(table: TableStream) -> list[Any]:
    return [text for chunk in table.chunks() for text in chunk.texts]


def _cells(table: TableStream) -> list[list[str]]:
    return [row for chunk in table.chunks() for row in chunk.cells()]


@pytest.mark.parametrize("case", DIALECTS, ids=lambda case: case.id)
def test_each_dialect_is_that_of_a_table_read_whole(tmp_path: Path, case: Dialect) -> None:
    path = _write(tmp_path, case.name, case.data)
    if case.id == "utf-16" and path.suffix == ".jsonl":
        pytest.skip("JSON lines are UTF-8")
    whole, table = read_table(path), open_table_stream(path)
    assert list(table.columns) == list(whole.columns)
    assert _texts(table) == whole.columns["text"]
    assert [list(column) for column in zip(*_cells(table), strict=True)] == [
        *whole.columns.values()
    ]
    assert table.num_rows == 2


@pytest.mark.parametrize("case", TABS, ids=lambda case: case.id)
def test_quotes_of_tab_separated_text_follow_the_same_rule(tmp_path: Path, case: TabCase) -> None:
    path = _write(tmp_path, "a.tsv", "text\tlabel\n" + case.data)
    assert _texts(open_table_stream(path)) == case.texts


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=8), st.sampled_from(",;\t"))
def test_what_a_csv_writer_writes_is_read_back(
    tmp_path: Path, rows: list[tuple[str, str]], delimiter: str
) -> None:
    path = tmp_path / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL)
        writer.writerows([("text", "label"), *rows])
    assert _cells(open_table_stream(path)) == [list(row) for row in rows]


def test_an_empty_text_is_a_row_and_a_blank_line_is_none(tmp_path: Path) -> None:
    assert _texts(open_table_stream(_write(tmp_path, "a.csv", 'text\na\n\n""\nb\n'))) == [
        "a", "", "b",
    ]  # fmt: skip
    assert _texts(open_table_stream(_write(tmp_path, "b.csv", "text,id\na,1\n\n,2\n"))) == ["a", ""]
    assert _texts(open_table_stream(_write(tmp_path, "a.jsonl", '{"text": ""}\n\n'))) == [""]


@dataclass(frozen=True, kw_only=True)
class BadRow:
    id: str
    name: str
    data: str | bytes
    says: str


BAD_ROWS = [
    BadRow(
        id="few", name="a.csv", data="text,id\na,1\nb\nc,3\n", says="line 3 has 1 fields, too f"
    ),
    BadRow(id="many", name="a.tsv", data="text\tid\na\t1\nb\t2\t3\nc\t3\n", says="3 has 3 fields"),
    BadRow(
        id="bytes",
        name="a.csv",
        data=b"text,id\na,1\n\xe9,2\nc,3\n",
        says="byte 0xe9 in the row that starts in line 3 is not UTF-8",
    ),
    BadRow(
        id="json",
        name="a.jsonl",
        data='{"text": "a"}\n{"text": \n{"text": "c"}',
        says="line 2 is not JSON",
    ),
    BadRow(
        id="json-bytes",
        name="a.jsonl",
        data=b'{"text": "a"}\n{"text": "\xff"}\n{"text": "c"}',
        says="byte 0xff in line 2 is not UTF-8",
    ),
    BadRow(
        id="json-list",
        name="a.jsonl",
        data='{"text": "a"}\n["b"]\n{"text": "c"}',
        says="line 2 is not a JSON object",
    ),
    BadRow(
        id="no-key",
        name="a.jsonl",
        data='{"text": "a"}\n{"id": 1}\n{"text": "c"}',
        says="line 2 has no key 'text'; its keys are 'id'",
    ),
    BadRow(
        id="null",
        name="a.jsonl",
        data='{"text": "a"}\n{"text": null}\n{"text": "c"}',
        says="line 2 has null under 'text'",
    ),
    BadRow(
        id="nested",
        name="a.jsonl",
        data='{"text": "a"}\n{"text": {}}\n{"text": "c"}',
        says="line 2 has an object under 'text'",
    ),
]


@pytest.mark.parametrize("case", BAD_ROWS, ids=lambda case: case.id)
def test_a_bad_row_has_its_error_in_its_place(tmp_path: Path, case: BadRow) -> None:
    table = open_table_stream(_write(tmp_path, case.name, case.data))
    first, bad, last = _texts(table)
    assert (first, last) == ("a", "c")
    assert isinstance(bad, EdgemlError)
    assert case.says in str(bad)
    assert table.num_rows == len(_cells(table)) == 3


def test_a_line_too_long_to_keep_is_a_bad_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_lines, "MAX_LINE_BYTES", 30)
    lines = ['{"text": "a"}', json.dumps({"text": "b" * 100}), '{"text": "c"}']
    first, bad, last = _texts(open_table_stream(_write(tmp_path, "a.jsonl", "\n".join(lines))))
    assert (first, last) == ("a", "c")
    assert "line 2 has more than 30 bytes" in str(bad)


BROKEN = [
    BadRow(id="quote", name="a.csv", data='text,id\na,1\n"b,2\nc,3\n', says="starts in line 3"),
    BadRow(id="empty", name="a.csv", data="", says="holds no row"),
    BadRow(id="header", name="a.tsv", data="text\tid\n", says="holds no row"),
    BadRow(id="blank", name="a.jsonl", data="\n\n", says="holds no row"),
    BadRow(id="twice", name="a.csv", data="text,text\na,b\n", says="'text' is there more than"),
    BadRow(id="column", name="a.csv", data="path,asked\na,b\n", says="are 'path', 'asked'; one s"),
    BadRow(id="name", name="a.csv", data=b"text,caf\xe9\na,b\n", says="name of the column"),
    BadRow(id="key", name="a.jsonl", data='{"text": "a", "\\ud83d": 1}', says="name of the column"),
    BadRow(id="utf-16", name="a.jsonl", data='{"text": 1}'.encode("utf-16"), says="is utf-16"),
    BadRow(id="half-16", name="a.csv", data=b"\xff\xfet\0\n\0\0\xdc", says="is not utf-16"),
    BadRow(id="suffix", name="a.txt", data="text\na\n", says="suffix '.txt' is not that of a tab"),
    BadRow(id="parquet", name="a.parquet", data="PAR1", says="not a Parquet file"),
]


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case.id)
def test_a_fault_of_the_whole_is_refused_before_any_row(tmp_path: Path, case: BadRow) -> None:
    if case.id == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    path = _write(tmp_path, case.name, case.data)
    with pytest.raises(DataError, match=case.says) as caught:
        open_table_stream(path)
    assert caught.value.source == str(path)


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_stream, "_MOST_CHARACTERS", 50)
    with pytest.raises(DataError, match="line 2 has more than 50 characters"):
        open_table_stream(_write(tmp_path, "a.csv", "text,id\n" + "x" * 60))


def test_the_column_of_texts_is_found_or_named(tmp_path: Path) -> None:
    path = _write(tmp_path, "a.csv", "id,Review,other\n1,good,x\n")
    assert _texts(open_table_stream(path)) == ["good"]
    assert _texts(open_table_stream(path, text_column="other")) == ["x"]
    with pytest.raises(DataError, match="'none' was expected"):
        open_table_stream(path, text_column="none")


def test_chunks_are_small_whatever_the_table(tmp_path: Path) -> None:
    short = _write(tmp_path, "a.csv", "text,id\n" + "a,1\n" * 5000)
    table = open_table_stream(short)
    assert table.num_rows == 5000
    sizes = [len(chunk.texts) for chunk in table.chunks()]
    assert max(sizes) <= 1024
    assert sum(sizes) == 5000
    long = _write(tmp_path, "b.csv", "text,id\n" + ("a" * 3_000_000 + ",1\n") * 5)
    assert max(len(chunk.texts) for chunk in open_table_stream(long).chunks()) <= 2


def test_numbers_in_json_are_as_written(tmp_path: Path) -> None:
    line = '{"text": 1.10, "big": 100000000000000000000000000001, "in": {"a": [1.50, null]}}'
    table = open_table_stream(_write(tmp_path, "a.jsonl", line))
    (chunk,) = table.chunks()
    assert list(chunk.texts) == ["1.10"]
    assert chunk.objects() == [line]
    assert chunk.cells()[0][:2] == ["1.10", "1" + "0" * 28 + "1"]


def test_parquet_missing_values_and_bad_bytes_are_errors(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    arrow = importlib.import_module("pyarrow")
    parquet = importlib.import_module("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    values = {
        "text": arrow.array([b"a", None, b"\xff", b""], arrow.binary()),
        "n": [[1], [], [], None],
    }
    parquet.write_table(arrow.table(values), path)
    table = open_table_stream(path)
    first, none, bad, empty = _texts(table)
    assert (first, empty) == ("a", "")
    assert "row 2 has no value in 'text'" in str(none)
    assert "row 3 holds no text" in str(bad)
    with pytest.raises(DataError, match="the text column 'n' is not text"):
        open_table_stream(path, text_column="n")


def test_parquet_is_read_in_batches(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    arrow = importlib.import_module("pyarrow")
    parquet = importlib.import_module("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    parquet.write_table(arrow.table({"text": [str(i) for i in range(10_000)]}), path)
    chunks = list(open_table_stream(path).chunks())
    assert all(isinstance(chunk, BatchChunk) and len(chunk.texts) <= 4096 for chunk in chunks)
    assert [text for chunk in chunks for text in chunk.texts] == [str(i) for i in range(10_000)]


def test_not_a_number_is_a_missing_value(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    arrow = importlib.import_module("pyarrow")
    parquet = importlib.import_module("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    numbers = [1.5, float("nan"), -float("nan"), None]
    words = ["nan", "b", "c", "d"]
    half = arrow.array(numbers, arrow.float32())
    parquet.write_table(arrow.table({"text": numbers, "half": half, "word": words}), path)
    whole = read_table(path)
    assert whole.columns["text"] == whole.columns["half"] == ["1.5", None, None, None]
    assert whole.columns["word"] == words
    first, *rest = _texts(open_table_stream(path))
    assert first == "1.5"
    assert all("has no value" in str(one) for one in rest)
    assert [row[0] for row in _cells(open_table_stream(path))] == ["1.5", "", "", ""]


@pytest.mark.parametrize("module", ["tables", "table_stream", "table_sink", "text_table", "sst2"])
def test_texts_need_no_pillow(module: str) -> None:
    code = f"import sys; sys.modules['PIL'] = None; import edgeml.data.{module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_pictures_still_ask_for_pillow(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/1.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"no picture")
    code = (
        "import sys; sys.modules['PIL'] = None\n"
        "from pathlib import Path\n"
        "from edgeml.data.opening import open_image_data, prepare_images\n"
        "from edgeml.tasks.image import ImagePreprocessing\n"
        "import numpy as np\n"
        "data = open_image_data(sys.argv[1])\n"
        "prepare_images(data, np.arange(2), ImagePreprocessing(height=8, width=8))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert "pip install 'edgeml[image]'" in done.stderr
