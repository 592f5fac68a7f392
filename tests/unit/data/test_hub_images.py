"""Picture data sets in Parquet files: parts, labels, classes, and what is refused in one line."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeml.core.files import sha256_of
from edgeml.data.dataset import make_split
from edgeml.data.opening import (
    open_image_data,
    place_of,
    prepare_images,
    prepare_usable,
    reopen,
)
from edgeml.errors import DataError, InputError
from edgeml.tasks.image import ImagePreprocessing
from edgeml.workflows.image_data import open_training_images
from tests.pictures import encode, rgb_file

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

TINY = ImagePreprocessing(height=8, width=8)


def _bytes(count: int) -> list[bytes]:
    return [rgb_file() + bytes([index]) for index in range(count)]


def _write(
    place: Path,
    labels: Any,
    *,
    names: list[str] | None = None,
    pictures: Any = None,
    columns: tuple[str, str] = ("image", "label"),
) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if pictures is None:
        pictures = [{"bytes": one, "path": None} for one in _bytes(len(labels))]
    table = arrow.table(dict(zip(columns, [pictures, labels], strict=True)))
    if names:
        features = {columns[1]: {"names": names, "_type": "ClassLabel"}}
        info = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": info})
    parquet.write_table(table, place)


def _refusal(folder: Path) -> str:
    with pytest.raises(DataError) as raised:
        open_image_data(folder)
    said = str(raised.value)
    assert "\n" not in said
    return said


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    _write(tmp_path / "set/data/train-00000-of-00001.parquet", [0, 1] * 8, names=["cat", "dog"])
    _write(tmp_path / "set/data/test-00000-of-00001.parquet", [1, 0, 1], names=["cat", "dog"])
    return tmp_path / "set"


def test_a_folder_of_parquet_files_is_a_data_set(folder: Path) -> None:
    dataset = open_image_data(folder)
    assert dataset.labels == ("cat", "dog")
    assert len(dataset.items) == 19
    assert not dataset.published  # what its parts share is looked at: it may be the user's own
    split = make_split(dataset, seed=0)
    assert dataset.targets[split.test].tolist() == [1, 0, 1]
    again = reopen({"place": place_of(folder)})
    assert again.fingerprint == dataset.fingerprint
    assert prepare_images(dataset, np.arange(3), TINY).shape == (3, 8, 8, 3)


def test_the_samples_are_in_the_order_of_the_files_names(folder: Path) -> None:
    """Checkpoints of any age know their parts by these numbers, and the data by this hash."""
    dataset = open_image_data(folder)
    files = sorted((folder / "data").iterdir())
    assert [file.name[:5] for file in files] == ["test-", "train"]
    digest = hashlib.sha256("".join(sha256_of(file) for file in files).encode())
    assert dataset.fingerprint == digest.hexdigest()
    assert dataset.fixed_test is not None
    assert dataset.fixed_test.tolist() == [0, 1, 2]
    assert dataset.targets.tolist() == [1, 0, 1] + [0, 1] * 8


def test_a_class_may_have_a_name_in_any_script(tmp_path: Path) -> None:
    names = ["\u0645\u06cc\u200c\u062e", "caf\u00e9\u202fau lait"]
    _write(tmp_path / "set/train.parquet", [0, 1], names=names)
    assert open_image_data(tmp_path / "set").labels == tuple(names)


def test_one_parquet_file_is_a_data_set(tmp_path: Path) -> None:
    _write(tmp_path / "pets-test.parquet", ["owl", "yak"] * 4)
    dataset = open_image_data(tmp_path / "pets-test.parquet")
    assert (dataset.labels, dataset.fixed_test) == (("owl", "yak"), None)
    assert reopen({"place": place_of(tmp_path / "pets-test.parquet")}).labels == ("owl", "yak")


def test_a_configurations_folder_and_its_columns(tmp_path: Path) -> None:
    _write(tmp_path / "set/plain_text/train/0000.parquet", [0, 1] * 3, columns=("img", "label"))
    _write(tmp_path / "set/plain_text/test/0000.parquet", [1], columns=("img", "label"))
    (tmp_path / "set/README.md").write_text("---\nlicense: mit\n---\n")
    dataset = open_image_data(tmp_path / "set")
    assert dataset.fixed_test is not None
    assert (len(dataset.items), dataset.fixed_test.tolist()) == (7, [0])


def test_names_of_classes_may_stand_in_the_card(tmp_path: Path) -> None:
    _write(tmp_path / "set/train.parquet", [0, 1] * 4, columns=("image", "labels"))
    card = "dataset_info: {features: [{name: labels, dtype: {class_label: {names: {0: a, 1: b}}}}]}"
    (tmp_path / "set/README.md").write_text(f"---\n{card}\n---\n")
    assert open_image_data(tmp_path / "set").labels == ("a", "b")


def test_a_column_of_classes_may_have_any_name(tmp_path: Path) -> None:
    _write(tmp_path / "set/a.parquet", [0, 1], names=["oak", "elm"], columns=("photo", "species"))
    assert open_image_data(tmp_path / "set").labels == ("oak", "elm")


def test_words_are_collected_over_all_files(tmp_path: Path) -> None:
    _write(tmp_path / "set/train-00000-of-00002.parquet", ["yak"] * 4)
    _write(tmp_path / "set/train-00001-of-00002.parquet", ["owl"] * 4)
    _write(tmp_path / "set/test.parquet", ["owl"])
    dataset = open_image_data(tmp_path / "set")
    assert dataset.labels == ("owl", "yak")
    assert dataset.targets.tolist() == [0] + [1] * 4 + [0] * 4
    assert dataset.fixed_test is not None
    assert dataset.fixed_test.tolist() == [0]


@pytest.mark.parametrize(
    ("labels", "names", "targets"),
    [
        ([3, 1, 2, 10], ("1", "2", "3", "10"), [2, 0, 1, 3]),
        ([1.0, 0.0], ("0", "1"), [1, 0]),
        ([True, False], ("False", "True"), [1, 0]),
        (arrow.array(["b", "a"]).dictionary_encode(), ("a", "b"), [1, 0]),
    ],
)
def test_labels_that_have_no_names(
    labels: Any, names: tuple[str, ...], targets: list[int], tmp_path: Path
) -> None:
    _write(tmp_path / "set/train.parquet", labels)
    dataset = open_image_data(tmp_path / "set")
    assert (dataset.labels, dataset.targets.tolist()) == (names, targets)


def test_words_keep_the_order_that_their_names_have(tmp_path: Path) -> None:
    _write(tmp_path / "set/train.parquet", ["dog", "cat"], names=["dog", "cat"])
    dataset = open_image_data(tmp_path / "set")
    assert (dataset.labels, dataset.targets.tolist()) == (("dog", "cat"), [0, 1])


@pytest.mark.parametrize("nothing", [-1, None])
def test_a_part_without_labels_is_left_out_and_told(
    nothing: int | None, folder: Path, tmp_path: Path
) -> None:
    labels = arrow.array([nothing] * 3, arrow.int64())
    _write(folder / "data/test-00000-of-00001.parquet", labels, names=["cat", "dog"])
    dataset = open_image_data(folder)
    assert (len(dataset.items), dataset.fixed_test) == (16, None)
    assert dataset.odd == {"unlabelled": 3}
    mixed = arrow.array([nothing, 1, 0], arrow.int64())
    _write(folder / "data/test-00000-of-00001.parquet", mixed, names=["cat", "dog"])
    assert "1 of the 3 pictures of its part 'test' have no label" in _refusal(folder)
    _write(tmp_path / "bare/train.parquet", labels)
    assert "3 of the 3 pictures of its part 'train' have no label" in _refusal(tmp_path / "bare")


def test_a_name_tells_the_part_and_files_of_none_are_told(tmp_path: Path) -> None:
    _write(tmp_path / "set/mine-train-2024.parquet", [0, 1] * 2)
    _write(tmp_path / "set/mine-test-2024.parquet", [0, 1])
    _write(tmp_path / "set/mine-spare-2024.parquet", [0, 1])
    dataset = open_image_data(tmp_path / "set")
    assert dataset.fixed_test is not None
    assert (len(dataset.items), dataset.fixed_test.tolist()) == (6, [0, 1])
    assert dataset.odd == {"files_of_no_part": 1}


def _look(folder: Path, *, allow_leaks: bool = False) -> str:
    """Return what is said before a training."""
    said: list[str] = []
    open_training_images(folder, None).prepared(
        TINY, seed=0, allow_leaks=allow_leaks, skip_unreadable=False, shares=(0.2, None),
        progress=lambda event: said.append(event.note),
    )  # fmt: skip
    return said[-1]


def _distinct(count: int) -> list[bytes]:
    rng = np.random.default_rng(0)
    draws = rng.integers(0, 256, (count, 9, 9, 3), dtype=np.uint8)
    return [encode(Image.fromarray(draw), "PNG") for draw in draws]


def test_copies_between_the_parts_of_ones_own_files_are_refused(tmp_path: Path) -> None:
    pictures = _distinct(12)
    _write(tmp_path / "set/train.parquet", [0, 1] * 4, pictures=pictures[:8])
    _write(tmp_path / "set/test.parquet", [0, 1] * 2, pictures=pictures[8:])
    _write(tmp_path / "set/more.parquet", [0, 1])
    said = _look(tmp_path / "set")
    assert "1 Parquet files that fit no part left out" in said
    _write(tmp_path / "set/test.parquet", [0, 1] * 2, pictures=pictures[6:10])
    with pytest.raises(DataError, match=r"judge by, 2 are copies .*--allow-leaks"):
        _look(tmp_path / "set")
    assert "2 exact copies" in _look(tmp_path / "set", allow_leaks=True)


@pytest.mark.parametrize("groups", ["groups.csv", "nowhere.csv"])
def test_groups_beside_parquet_files_are_refused(groups: str, folder: Path) -> None:
    (folder / "groups.csv").write_text("file,group\n")
    with pytest.raises(InputError, match=r"groups: groups are for a folder.*Parquet"):
        open_image_data(folder, groups=folder / groups)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (["cat"] * 3, "at least two classes; found 'cat'"),
        ([7, 7], "found '7'"),
        (["a\nb", "c"], r"'a\nb' has a name that cannot be written into a label"),
        (["", "c"], "the class '' has a name"),
        ([[0, 1], [1]], "a list of labels, and one was expected"),
        ([0.5, 1.0], "a label is 0.5, and a word or a whole number"),
        ([b"a", b"b"], "its labels are binary"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels: Any, says: str, tmp_path: Path) -> None:
    _write(tmp_path / "set/train.parquet", labels)
    assert says in _refusal(tmp_path / "set")


def test_files_that_contradict_each_other_are_refused(folder: Path) -> None:
    test = folder / "data/test-00000-of-00001.parquet"
    _write(test, [0, 1], names=["dog", "cat"])
    assert "name the classes differently" in _refusal(folder)
    _write(test, ["cat", "dog"])
    assert "words and numbers" in _refusal(folder)
    _write(test, [0, 2], names=["cat", "dog"])
    assert "the label 2 is none of its 2 classes" in _refusal(folder)


def test_columns_that_do_not_fit_are_named(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    parquet.write_table(arrow.table({"text": ["a"]}), tmp_path / "set/train.parquet")
    assert "its columns are text" in _refusal(tmp_path / "set")
    _write(tmp_path / "set/train.parquet", [0, 1], columns=("image", "price"))
    assert "its columns are image, price" in _refusal(tmp_path / "set")
    (tmp_path / "set/train.parquet").write_bytes(b"PAR1")
    assert "train.parquet cannot be used" in _refusal(tmp_path / "set")


@pytest.mark.parametrize(
    "pictures",
    [_bytes(2), [{"path": "a.png", "bytes": one} for one in _bytes(2)]],
    ids=["plain bytes", "the path first"],
)
def test_pictures_are_bytes_in_any_form(pictures: Any, tmp_path: Path) -> None:
    _write(tmp_path / "set/train.parquet", [0, 1], pictures=pictures)
    assert list(open_image_data(tmp_path / "set").items) == _bytes(2)


def test_pictures_by_path_only_are_refused(tmp_path: Path) -> None:
    pictures: list[Any] = [{"bytes": None, "path": f"{name}.png"} for name in "ab"]
    _write(tmp_path / "set/train.parquet", [0, 1], pictures=pictures)
    assert "2 of 2 pictures have no bytes, only the path 'a.png'" in _refusal(tmp_path / "set")
    pictures[0]["bytes"] = _bytes(1)[0]
    _write(tmp_path / "set/train.parquet", [0, 1], pictures=pictures)
    assert "1 of 2 pictures have no bytes, only the path 'b.png'" in _refusal(tmp_path / "set")


def test_damaged_pictures_are_unusable_as_in_folders(tmp_path: Path) -> None:
    _write(tmp_path / "set/train.parquet", [0, 1, 1], pictures=[b"", *_bytes(2)])
    _, bad = prepare_usable(open_image_data(tmp_path / "set"), np.arange(3), TINY)
    assert list(bad) == [0]
