"""Parts that a folder or a table defines itself: read as they are, and drawn where they lack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeml.data.dataset import make_split
from edgeml.data.image_parts import own_parts, part_folders, parts_words
from edgeml.data.opening import open_image_data, place_of, reopen
from edgeml.errors import DataError


def _fill(root: Path, *names: str) -> Path:
    """Write files that differ; nothing is decoded here."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def _parts(
    root: Path, *parts: str, labels: tuple[str, ...] = ("cat", "dog"), count: int = 4
) -> Path:
    names = [f"{part}/{label}/{n}.png" for part in parts for label in labels for n in range(count)]
    return _fill(root, *names)


def _folders_of(dataset: object, indices: np.ndarray) -> set[str]:
    items = dataset.items  # type: ignore[attr-defined]
    return {Path(items[index]).parents[1].name for index in indices.tolist()}


@pytest.mark.parametrize(
    "names",
    [("train", "val", "test"), ("Training", "VALID", "testing"), ("train", "dev", "Test")],
)
def test_folders_with_names_of_parts_are_the_parts(tmp_path: Path, names: tuple[str, ...]) -> None:
    dataset = open_image_data(_parts(tmp_path / "pets", *names))
    assert (dataset.name, dataset.labels, len(dataset.items)) == ("pets", ("cat", "dog"), 24)
    split = make_split(dataset, seed=3)
    for name, part in zip(names, (split.train, split.validation, split.test), strict=True):
        assert _folders_of(dataset, part) == {name}
        assert len(part) == 8
    assert reopen({"place": place_of(tmp_path / "pets")}).fingerprint == dataset.fingerprint
    assert parts_words(own_parts(dataset, split)) == [
        "the data's own parts are used: train, validation, test"
    ]


@pytest.mark.parametrize(("given", "missing"), [("test", "validation"), ("val", "test")])
def test_a_missing_part_is_drawn_from_the_training_part(
    tmp_path: Path, given: str, missing: str
) -> None:
    dataset = open_image_data(_parts(tmp_path, "train", given, count=24))
    split = make_split(dataset, seed=0)
    assert _folders_of(dataset, getattr(split, missing)) == {"train"}
    assert _folders_of(dataset, split.train) == {"train"}
    own = split.test if given == "test" else split.validation
    assert _folders_of(dataset, own) == {given}
    assert split.sizes() == {"train": 44, "validation": 4, "test": 48} | (
        {"validation": 48, "test": 4} if given == "val" else {}
    )
    words = parts_words(own_parts(dataset, split))
    assert words[0].endswith(f"({missing} drawn from the training pictures)")


def test_a_class_of_the_training_part_alone_is_told(tmp_path: Path) -> None:
    _parts(tmp_path, "train", "val", "test")
    _parts(tmp_path, "train", "val", labels=("owl",))
    (tmp_path / "test/owl").mkdir()  # nothing in it
    dataset = open_image_data(tmp_path)
    split = make_split(dataset, seed=0)
    found = own_parts(dataset, split)
    assert found["lacking_classes"] == {"test": ["owl"]}
    assert parts_words(found)[1:] == ["its test part lacks the classes owl"]


def test_a_class_that_the_training_part_lacks_is_refused(tmp_path: Path) -> None:
    _parts(tmp_path, "train", "val", "test")
    _parts(tmp_path, "test", labels=("owl", "newt"))
    with pytest.raises(DataError, match=r"the test part has classes .* lacks: newt, owl") as caught:
        open_image_data(tmp_path)
    assert "\n" not in str(caught.value)


def test_two_folders_for_one_part_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="two of its folders are for one part: train, val, valid"):
        open_image_data(_parts(tmp_path, "train", "val", "valid"))


@pytest.mark.parametrize("other", ["test/1.png", "extra/a/1.png", "test/annotations/1.xml"])
def test_parts_beside_folders_that_are_none_are_refused(tmp_path: Path, other: str) -> None:
    _parts(tmp_path, "train", *([] if other == "test/1.png" else ["val"]))
    _fill(tmp_path, other)
    name = other.partition("/")[0]
    with pytest.raises(DataError, match=f"class folders in .*, and {name} cannot be another part"):
        open_image_data(tmp_path)


def test_a_flat_test_part_beside_another_folder_is_no_class(tmp_path: Path) -> None:
    _fill(_parts(tmp_path, "train"), "test/1.png", "extra/1.png")
    with pytest.raises(DataError, match=r"in train, .*, and extra, test cannot be another"):
        open_image_data(tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ("train/1.png", "test/1.png"),
        ("train/1.png", "test/1.png", "val/1.png"),
        ("bus/1.png", "train/1.png", "test/1.png"),
        ("bus/1.png", "train/new/1.png", "test/1.png"),
        ("bus/old/1.png", "train/new/1.png", "tram/1.png"),
        ("val/a/1.png", "test/a/1.png"),
    ],
    ids=["flat", "flat-three", "flat-with-another", "one-below", "nested", "no-train"],
)
def test_classes_that_are_called_like_parts_stay_classes(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    _fill(tmp_path, *names)
    assert part_folders(tmp_path) == {}
    labels = tuple(sorted(name.partition("/")[0] for name in names))
    assert open_image_data(tmp_path).labels == labels


def test_groups_and_odd_files_are_those_of_all_parts(tmp_path: Path) -> None:
    _fill(_parts(tmp_path, "train", "test"), "test/loose.png", "train/.x", "notes.txt")
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("?.png"))
    rows = [f"{name},{Path(name).stem}" for name in files]
    (tmp_path / "groups.csv").write_text("file,group\n" + "\n".join(rows))
    dataset = open_image_data(tmp_path)
    assert dataset.groups is not None
    assert dataset.groups.tolist() == [0, 1, 2, 3] * 4
    assert (dataset.odd["loose_pictures"], dataset.odd["hidden_files"]) == (1, 1)
    assert dataset.odd["first_other_files"] == ["notes.txt"]


def test_what_is_found_does_not_depend_on_the_order_of_a_set(tmp_path: Path) -> None:
    names = ["1.txt", "train/2.txt", "val/3.txt", "test/4.txt"]
    for place in "abcde":  # hashes of paths differ, by place and from process to process
        root = _fill(_parts(tmp_path / place, "train", "val", "test"), *names)
        assert open_image_data(root).odd["first_other_files"] == names
        _parts(root, "val", "test", labels=("owl",))
        with pytest.raises(DataError, match=r"the validation part has classes .* lacks: owl"):
            open_image_data(root)


def test_a_part_that_is_a_link_to_the_whole_is_refused(tmp_path: Path) -> None:
    _parts(tmp_path, "train")
    (tmp_path / "val").symlink_to(tmp_path)
    with pytest.raises(DataError):
        open_image_data(tmp_path)
    (tmp_path / "val").unlink()
    _parts(tmp_path, "val")
    (tmp_path / "val/loop").symlink_to(tmp_path / "val")
    with pytest.raises(DataError, match="'loop' is a link to a folder that holds this one"):
        open_image_data(tmp_path)


def _manifest(root: Path, marks: dict[str, list[str]]) -> Path:
    """Write a table with these words in ``split``, for the pictures of each class."""
    rows = [
        f"{label}/{number}.png,{label},{word}"
        for label, words in marks.items()
        for number, word in enumerate(words)
    ]
    _fill(root, *(row.partition(",")[0] for row in rows))
    (root / "list.csv").write_text("file,label,split\n" + "\n".join(rows))
    return root / "list.csv"


def _words_of(table: Path, indices: np.ndarray) -> list[str]:
    rows = table.read_text().splitlines()[1:]
    return sorted({rows[index].rpartition(",")[2] for index in indices.tolist()})


def test_rows_marked_train_are_trained_on(tmp_path: Path) -> None:
    table = _manifest(tmp_path, dict.fromkeys("ab", ["train"] * 20 + [""] * 20))
    dataset = open_image_data(table)
    for seed in range(5):
        split = make_split(dataset, seed=seed, validation_share=0.2)
        assert split.sizes() == {"train": 64, "validation": 8, "test": 8}
        assert _words_of(table, split.validation) == _words_of(table, split.test) == [""]
    assert parts_words(own_parts(dataset, split)) == [
        "the data's own parts are used: train (validation, test drawn from the pictures of no part)"
    ]


def test_an_unmarked_member_of_a_marked_group_is_trained_on(tmp_path: Path) -> None:
    dataset = open_image_data(_manifest(tmp_path, dict.fromkeys("ab", ["train"] * 10 + [""] * 10)))
    groups = np.arange(40)
    groups[[15, 16, 17]] = groups[[2, 2, 3]]
    for seed in range(5):
        split = make_split(dataset, seed=seed, validation_share=0.3, keep_together=groups)
        assert {15, 16, 17} <= set(split.train.tolist())
        for part in (split.validation, split.test):
            assert set(dataset.targets[part]) == {0, 1}


@pytest.mark.parametrize("given", ["val", "test"])
def test_where_every_row_is_marked_the_missing_part_is_drawn_from_train(
    tmp_path: Path, given: str
) -> None:
    table = _manifest(tmp_path, dict.fromkeys("ab", ["Training"] * 30 + [given] * 10))
    split = make_split(open_image_data(table), seed=0)
    own, drawn = split.test, split.validation
    if given == "val":
        own, drawn = drawn, own
    assert (len(own), _words_of(table, own)) == (20, [given])
    assert (len(drawn), _words_of(table, drawn)) == (4, ["Training"])


def test_too_few_rows_without_a_mark_are_told(tmp_path: Path) -> None:
    marks = {"a": ["train"] * 9 + [""] * 9, "b": ["train"] * 9 + [""] * 2}
    with pytest.raises(
        DataError, match="'b' has 2 pictures beside those in parts of its own; at l"
    ):
        make_split(open_image_data(_manifest(tmp_path, marks)), seed=0)


def test_two_pictures_are_enough_to_train_and_to_choose_where_a_test_part_is_given(
    tmp_path: Path,
) -> None:
    table = _manifest(tmp_path, {label: ["test", "train", "train"] for label in "ab"})
    assert make_split(open_image_data(table), seed=0).sizes() == {
        "train": 2, "validation": 2, "test": 2,
    }  # fmt: skip


def test_classes_that_a_marked_part_lacks_are_named(tmp_path: Path) -> None:
    marks = {"a": ["train"] * 8 + ["val"] * 8 + ["test"] * 8, "b": ["train"] * 24}
    dataset = open_image_data(_manifest(tmp_path, marks))
    found = own_parts(dataset, make_split(dataset, seed=0))
    assert found["lacking_classes"] == {"validation": ["b"], "test": ["b"]}
    marks["b"] = ["test"] * 24
    with pytest.raises(DataError, match="the class 'b' has 0 pictures"):
        make_split(open_image_data(_manifest(tmp_path, marks)), seed=0)


def test_a_part_of_which_nothing_can_be_used_is_refused(tmp_path: Path) -> None:
    dataset = open_image_data(_parts(tmp_path, "train", "test"))
    with pytest.raises(DataError, match="none of the 8 pictures of its own test part can be used"):
        make_split(dataset, seed=0, excluded=dataset.fixed_test)
