"""Text tables: which columns are meant, what the labels are, and what is refused by name."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from edgeml.data.dataset import make_text_split
from edgeml.data.opening import open_text_data, reopen_text, text_place_of
from edgeml.data.text_table import load_text_folder, load_text_table
from edgeml.errors import DataError, InputError


def _write(path: Path, data: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data, encoding="utf-8")
    return path


def test_a_table_becomes_texts_and_classes(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "mood.csv", "id,Text,label\n1, I like it ,good\n2,No,bad\n3,Fine,good\n"
    )
    dataset = load_text_table(path)
    assert (dataset.name, dataset.labels) == ("mood", ("bad", "good"))
    assert list(dataset.items) == ["I like it", "No", "Fine"]
    assert dataset.targets.tolist() == [1, 0, 1]
    assert dataset.targets.dtype == np.int64
    assert (dataset.fixed_test, dataset.fixed_validation, dataset.multi_label) == (
        None,
        None,
        False,
    )
    assert dict(dataset.source) == {
        "kind": "table",
        "path": "mood.csv",
        "text_column": "Text",
        "label_column": "label",
    }


@pytest.mark.parametrize("text", ["SENTENCE", "tweet", "query", "utterance", "body", "comment"])
@pytest.mark.parametrize("label", ["Labels", "class", "category", "intent", "target", "rating"])
def test_columns_are_known_by_their_names(tmp_path: Path, text: str, label: str) -> None:
    path = _write(tmp_path / "a.tsv", f"{label}\tother\t{text}\n0\tx\ta\n1\ty\tb\n")
    assert list(load_text_table(path).items) == ["a", "b"]


def test_named_columns_go_before_known_ones(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv", "text,Title,label,topic\na,b,0,x\nc,d,1,y\n")
    dataset = load_text_table(path, text_column="title", label_column="topic")
    assert (list(dataset.items), dataset.labels) == (["b", "d"], ("x", "y"))


def test_a_class_may_have_a_name_in_any_script(tmp_path: Path) -> None:
    joined, wide = "\u0645\u06cc\u200c\u062e", "\u826f\u3000\u3044"  # a joiner; a wide space
    path = _write(tmp_path / "a.csv", f"text,label\na,{joined}\nb,{wide}\n")
    assert set(load_text_table(path).labels) == {joined, wide}


def test_integers_are_in_numeric_order(tmp_path: Path) -> None:
    rows = "".join(f"text {number},{number}\n" for number in (10, 2, -1, 1))
    dataset = load_text_table(_write(tmp_path / "a.csv", "text,label\n" + rows))
    assert dataset.labels == ("-1", "1", "2", "10")
    assert dataset.targets.tolist() == [3, 2, 0, 1]


def test_a_hundred_and_more_classes_are_fine(tmp_path: Path) -> None:
    rows = "".join(f"text {number},intent {number % 150:03}\n" for number in range(600))
    dataset = load_text_table(_write(tmp_path / "a.csv", "text,label\n" + rows))
    assert len(dataset.labels) == 150
    assert len(make_text_split(dataset, seed=0).test) == 150


def test_two_columns_without_a_header_are_text_and_label(tmp_path: Path) -> None:
    dataset = load_text_table(_write(tmp_path / "a.tsv", "fine film\t1\nbad film\t0\ngood\t1\n"))
    assert list(dataset.items) == ["fine film", "bad film", "good"]
    assert dataset.targets.tolist() == [1, 0, 1]
    assert dataset.source["label_column"] == "second of two, no header"


def test_a_split_column_gives_fixed_parts(tmp_path: Path) -> None:
    rows = "a,0,TRAIN\nb,1,dev\nc,0,test\nd,1,train\ne,1,Valid\nf,1,val\ng,0,validation\n"
    dataset = load_text_table(_write(tmp_path / "a.csv", "text,label,Split\n" + rows))
    assert dataset.fixed_test is not None
    assert dataset.fixed_validation is not None
    assert dataset.fixed_test.tolist() == [2]
    assert dataset.fixed_validation.tolist() == [1, 4, 5, 6]
    split = make_text_split(dataset, seed=0)
    assert split.train.tolist() == [0, 3]
    rows = "a,0,train\nb,1,train\n"
    dataset = load_text_table(_write(tmp_path / "a.csv", "text,label,split\n" + rows))
    assert (dataset.fixed_test, dataset.fixed_validation) == (None, None)


def test_several_labels_a_text(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv", "text,labels\na,x| y\nb,\nc,y|y|\nd, x \n")
    dataset = load_text_table(path, multi_label_separator="|")
    assert dataset.multi_label
    assert dataset.labels == ("x", "y")
    assert dataset.targets.dtype == np.bool_
    assert dataset.targets.tolist() == [[True, True], [False, False], [False, True], [True, False]]


@dataclass(frozen=True, kw_only=True)
class Unfit:
    id: str
    data: str
    says: str
    name: str = "a.csv"
    options: dict[str, str] = field(default_factory=dict)


MANY = "".join(f"text {number},{number / 7:.4f}\n" for number in range(150))
UNFIT = [
    Unfit(
        id="one-class", data="text,label\na,1\nb,1\n", says="at least two classes; found only '1'"
    ),
    Unfit(
        id="no-labels-at-all",
        data="text,label\na,\nb,\n",
        says="found no label",
        options={"multi_label_separator": "|"},
    ),
    Unfit(
        id="empty-text",
        data="text,label\na,1\n ,0\n,1\nb,0\n",
        says="2 of 4 rows have no text, first in line 3;",
    ),
    Unfit(
        id="empty-label",
        data="text,label\na,1\nb,\n",
        says="1 of 2 rows have no label, first in line 3",
    ),
    Unfit(
        id="missing-value",
        name="a.jsonl",
        data='{"text": "a", "label": 1}\n{"text": null, "label": 0}',
        says="1 of 2 rows have no text, first in line 2",
    ),
    Unfit(id="two-lines", data='text,label\na,"x\ny"\nb,z\n', says="is not one printable line"),
    Unfit(id="control", data="text,label\na,x\x07\nb,z\n", says="is not one printable line"),
    Unfit(id="quantity", data="text,label\n" + MANY, says="150 different numbers.*a quantity"),
    Unfit(
        id="no-text-column",
        data="words,label,more\na,1,x\n",
        says="no text column: the columns are 'words', 'label', 'more'.*--text-column",
    ),
    Unfit(
        id="no-label-column", data="text,kind,more\na,1,x\n", says="no label column.*--label-column"
    ),
    Unfit(
        id="two-unknown", data="one,two\na,x\nb,y\n", says="no text column: the columns are 'one'"
    ),
    Unfit(id="one-column", data="text\na\nb\n", says="no label column"),
    Unfit(
        id="asked-for",
        data="text,label\na,1\n",
        says="'kind' was expected; name it with --label-column",
        options={"label_column": "kind"},
    ),
    Unfit(
        id="both",
        data="text,label\na,1\n",
        says="the column 'label' would be both",
        options={"text_column": "label"},
    ),
    Unfit(
        id="nested",
        name="a.jsonl",
        data='{"text": "a", "label": ["x", "y"]}',
        says=r"the label column 'label' is not text \(line 1 holds a JSON list\)",
    ),
    Unfit(
        id="unknown-part",
        data="text,label,split\na,1,train\nb,0,holdout\n",
        says="line 3 has 'holdout' in the column 'split'",
    ),
    Unfit(
        id="no-train", data="text,label,split\na,1,test\nb,0,test\n", says="no row is to train on"
    ),
]


@pytest.mark.parametrize("case", UNFIT, ids=lambda case: case.id)
def test_an_unfit_table_is_refused(tmp_path: Path, case: Unfit) -> None:
    path = _write(tmp_path / case.name, case.data)
    with pytest.raises(DataError, match=case.says) as caught:
        load_text_table(path, **case.options)
    assert caught.value.source == str(path)
    assert "\n" not in str(caught.value)


def test_an_empty_separator_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the separator of several labels is empty"):
        load_text_table(tmp_path / "a.csv", multi_label_separator="")


def test_parquet_nulls_are_gaps(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    arrow = importlib.import_module("pyarrow")
    path = tmp_path / "a.parquet"
    parquet = importlib.import_module("pyarrow.parquet")
    parquet.write_table(arrow.table({"text": ["a", "b"], "label": [1, 0]}), path)
    assert load_text_table(path).targets.tolist() == [1, 0]
    parquet.write_table(arrow.table({"text": ["a", None], "label": [1, 0]}), path)
    with pytest.raises(DataError, match="1 of 2 rows have no text, first in row 2"):
        load_text_table(path)


def test_a_folder_of_tables_is_one_set_with_fixed_parts(tmp_path: Path) -> None:
    folder = tmp_path / "mood"
    _write(folder / "train.csv", "text,label\na,x\nb,y\n")
    _write(folder / "val.jsonl", '{"text": "c", "label": "y"}\n')
    _write(folder / "Test.tsv", "text\tlabel\nd\tz\n")
    _write(folder / "README.md", "about")
    dataset = load_text_folder(folder)
    assert (dataset.name, dataset.labels) == ("mood", ("x", "y", "z"))
    assert list(dataset.items) == ["a", "b", "c", "d"]
    assert dataset.fixed_test is not None
    assert dataset.fixed_validation is not None
    assert (dataset.fixed_validation.tolist(), dataset.fixed_test.tolist()) == ([2], [3])
    with pytest.raises(DataError, match="'z' has 0 distinct texts"):
        make_text_split(dataset, seed=0)


def test_a_folder_without_headers_is_read_like_its_train_table(tmp_path: Path) -> None:
    _write(tmp_path / "train.tsv", "a\t1\nb\t0\nc\t1\n")
    _write(tmp_path / "dev.tsv", "d\t1\ne\t0\n")  # alone it would have a header
    dataset = load_text_folder(tmp_path)
    assert list(dataset.items) == ["a", "b", "c", "d", "e"]
    _write(tmp_path / "dev.tsv", "d\t1\t\ne\t0\t\n")
    with pytest.raises(DataError, match="two without a header were expected"):
        load_text_folder(tmp_path)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("test.csv",), "no train table"),
        (("train.csv", "train.tsv"), "'train.csv' and 'train.tsv' are both the part train"),
        (("train.csv", "dev.csv", "valid.csv"), "are both the part validation"),
    ],
    ids=["no-train", "two-trains", "two-validations"],
)
def test_a_folder_whose_parts_are_unclear_is_refused(
    tmp_path: Path, names: tuple[str, ...], says: str
) -> None:
    for name in names:
        _write(tmp_path / name, "text,label\na,x\nb,y\n")
    with pytest.raises(DataError, match=says):
        open_text_data(tmp_path)


def test_a_part_without_the_columns_of_train_is_refused(tmp_path: Path) -> None:
    _write(tmp_path / "train.csv", "text,label\na,x\nb,y\n")
    path = _write(tmp_path / "test.csv", "sentence,label\na,x\n")
    with pytest.raises(DataError, match="'text' was expected") as caught:
        load_text_folder(tmp_path)
    assert caught.value.source == str(path)


def test_a_place_gives_the_same_set_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.csv").write_bytes("t,l\ncaf\xe9,x|y\nb,\nc,y\n".encode("latin1"))
    options = {
        "text_column": "t",
        "label_column": "l",
        "multi_label_separator": "|",
        "encoding": "latin1",
    }
    monkeypatch.chdir(tmp_path)
    first = open_text_data("a.csv", **options)
    described = json.loads(json.dumps({"place": text_place_of("a.csv", **options)}))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = reopen_text(described)
    assert again.fingerprint == first.fingerprint
    assert list(again.items) == ["caf\xe9", "b", "c"]
    _write(tmp_path / "set/train.csv", "text,label\na,x\nb,y\n")
    place = text_place_of(tmp_path / "set")
    assert place == {"table": str(tmp_path / "set")}
    assert reopen_text({"place": place}).name == "set"


def test_names_that_are_nothing_are_refused() -> None:
    says = r"neither a data set \(.*product-reviews, sst2, .*\) nor a table or folder"
    with pytest.raises(DataError, match=says):
        open_text_data("sst-2")
    assert text_place_of("sst2") == {"named": "sst2"}
    with pytest.raises(InputError, match="takes no label_column, encoding"):
        open_text_data("sst2", label_column="x", encoding="utf-8")
