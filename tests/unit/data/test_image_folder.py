"""A folder of class folders: what counts as a picture, and what is refused by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeml.data.image_folder import load_image_folder
from edgeml.data.opening import open_image_data, prepare_images, prepare_usable
from edgeml.errors import DataError, HostError
from edgeml.tasks.image import ImagePreprocessing
from tests.pictures import rgb_file

EIGHT = ImagePreprocessing(height=8, width=8)


def _fill(root: Path, *names: str, data: bytes = b"") -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data or rgb_file())
    return root


def test_folders_are_classes_in_alphabetical_order(tmp_path: Path) -> None:
    _fill(tmp_path / "pets", "dog/1.png", "cat/b.JPG", "cat/a.webp", "owl/x.tiff")
    dataset = open_image_data(tmp_path / "pets")
    assert (dataset.name, dataset.labels) == ("pets", ("cat", "dog", "owl"))
    assert [Path(item).name for item in dataset.items] == ["a.webp", "b.JPG", "1.png", "x.tiff"]
    assert dataset.targets.tolist() == [0, 0, 1, 2]
    assert dataset.targets.dtype == np.int64
    assert dataset.fixed_test is None


def test_nested_pictures_belong_to_the_outer_class(tmp_path: Path) -> None:
    _fill(tmp_path, "cat/2023/may/1.png", "cat/2.png", "dog/1.png")
    dataset = load_image_folder(tmp_path)
    assert dataset.labels == ("cat", "dog")
    assert dataset.targets.tolist() == [0, 0, 1]


def test_what_is_no_picture_is_left_out(tmp_path: Path) -> None:
    _fill(tmp_path, "cat/1.png", "dog/1.png", "cat/notes.txt", "readme.png", ".git/x.png")
    _fill(tmp_path, "cat/._1.png", "cat/.thumbnails/1.png")
    (tmp_path / "cat/album.png").mkdir()
    dataset = load_image_folder(tmp_path)
    assert [Path(item).relative_to(tmp_path).as_posix() for item in dataset.items] == [
        "cat/1.png",
        "dog/1.png",
    ]


def test_a_fingerprint_follows_names_and_contents_alone(tmp_path: Path) -> None:
    one, same, renamed, changed = (
        _fill(tmp_path / name, "cat/1.png", "dog/1.png")
        for name in ("one", "same", "renamed", "changed")
    )
    (renamed / "cat/1.png").rename(renamed / "cat/2.png")
    _fill(changed, "cat/1.png", data=rgb_file("BMP"))
    os.utime(same / "cat/1.png", (1, 1))
    prints = [load_image_folder(path).fingerprint for path in (one, same, renamed, changed)]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ((), "found none"),
        (("cat/1.png",), "at least two classes.*found cat;"),
        (("1.png", "2.png"), "found none; arrange the pictures as class/xxx.png"),
        (("train/a/1.png", "train/b/1.png"), "found train; .*name '.*/train' as --data"),
        (("pets/a/1.png",), "found pets; arrange"),
    ],
    ids=["empty", "one-class", "no-folders", "classes-below", "one-class-below"],
)
def test_fewer_than_two_classes_are_refused(
    tmp_path: Path, names: tuple[str, ...], says: str
) -> None:
    with pytest.raises(DataError, match=says):
        load_image_folder(_fill(tmp_path, *names))


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    _fill(tmp_path, "cat/1.png", "dog/notes.txt")
    with pytest.raises(DataError, match="'dog' has no pictures"):
        load_image_folder(tmp_path)


def test_a_missing_folder_names_the_sets_that_exist(tmp_path: Path) -> None:
    for data in (tmp_path / "none", str(tmp_path / "none"), "fashion-minst"):
        with pytest.raises(
            DataError, match=r"neither a data set \(fashion-mnist, neu-det\) nor a fol"
        ):
            open_image_data(data)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    _fill(tmp_path, "cat.png")
    with pytest.raises(DataError, match="folder of class folders"):
        open_image_data(tmp_path / "cat.png")


@pytest.mark.timeout(20)
def test_files_that_cannot_be_opened_are_named_where_pictures_are_prepared(tmp_path: Path) -> None:
    _fill(tmp_path, "cat/1.png", "dog/1.png")
    (tmp_path / "cat/broken.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "cat/self.png").symlink_to(tmp_path / "cat/self.png")
    os.mkfifo(tmp_path / "dog/pipe.png")  # opening one waits for ever
    dataset = load_image_folder(tmp_path)
    assert dataset.hashes is not None
    assert len(set(dataset.hashes.tolist())) == 4  # the two pictures are equal, the others are not
    images, bad = prepare_usable(dataset, np.arange(5), EIGHT)
    assert list(bad) == [1, 2, 4]
    assert not images[1].any()
    assert bad[1].startswith(f"{tmp_path}/cat/broken.png: this path does not exist or is not")
    with pytest.raises(
        DataError, match=r"3 of 5 pictures cannot be used: .*broken\.png: this path"
    ):
        prepare_images(dataset, np.arange(5), EIGHT)


def test_a_file_that_is_closed_to_us_is_an_item_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a user who may read everything, tests cannot make such a file."""
    _fill(tmp_path, "cat/1.png", "cat/2.png", "dog/1.png")
    (tmp_path / "list.csv").write_text("file,label\ncat/1.png,a\ncat/2.png,b\ndog/1.png,b\n")
    opened, readable = Path.open, load_image_folder(tmp_path).fingerprint

    def closed(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == "2.png":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", closed)
    for data in (tmp_path, tmp_path / "list.csv"):
        _, bad = prepare_usable(open_image_data(data), np.arange(3), EIGHT)
        assert list(bad) == [1]
        assert "2.png: the file cannot be read ([Errno 13] Permission denied" in bad[1]
    assert load_image_folder(tmp_path).fingerprint != readable


def test_a_folder_that_is_closed_to_us_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fill(tmp_path, "cat/1.png", "dog/1.png", "dog/more/2.png")
    entries = Path.iterdir

    def closed(path: Path) -> Any:
        if path.name == "more":
            raise PermissionError(13, "Permission denied", str(path))
        return entries(path)

    monkeypatch.setattr(Path, "iterdir", closed)
    with pytest.raises(DataError, match=r"dog/more: this folder cannot be listed \(Permission"):
        load_image_folder(tmp_path)


def test_pictures_that_cannot_be_decoded_are_counted_and_named(tmp_path: Path) -> None:
    _fill(tmp_path, "cat/1.png", "cat/2.png", "dog/1.png")
    _fill(tmp_path, *(f"dog/bad{number}.png" for number in range(4)), data=b"no picture")
    _fill(tmp_path, "cat/short.jpg", data=rgb_file("JPEG")[:-200])
    dataset = load_image_folder(tmp_path)
    with pytest.raises(DataError) as caught:
        prepare_images(dataset, np.arange(len(dataset.targets)), EIGHT)
    text = str(caught.value)
    assert "5 of 8 pictures cannot be used: cat/short.jpg" in text
    assert "bad0.png" in text
    assert "bad1.png" in text
    assert "bad2.png" not in text
    assert text.endswith("(and 2 more); mend or remove them")  # all that its many callers can do
    assert "\n" not in text


def test_prepared_pictures_keep_the_order_of_the_indices(tmp_path: Path) -> None:
    for number in range(3):
        data = np.full((8, 8, 3), 80 * number, dtype=np.uint8)
        (tmp_path / "abc"[number]).mkdir()
        Image.fromarray(data).save(tmp_path / "abc"[number] / "x.png")
    dataset = load_image_folder(tmp_path)
    events = []
    images = prepare_images(dataset, np.array([2, 0, 1, 2]), EIGHT, progress=events.append)
    assert (images.dtype, images.shape) == (np.uint8, (4, 8, 8, 3))
    assert images[:, 0, 0, 0].tolist() == [160, 0, 80, 160]
    assert [(event.done, event.total) for event in events] == [(4, 4)]


def test_more_pictures_than_memory_should_hold_lie_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = load_image_folder(_fill(tmp_path, "cat/1.png", "dog/1.png"))
    small = prepare_images(dataset, np.arange(2), EIGHT)
    monkeypatch.setattr("edgeml.data.opening._IN_MEMORY_BYTES", 100)
    large = prepare_images(dataset, np.arange(2), EIGHT)
    assert isinstance(large, np.memmap)
    assert not isinstance(small, np.memmap)
    np.testing.assert_array_equal(large, small)


def test_a_disk_without_room_for_the_pictures_is_told_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    dataset = load_image_folder(_fill(tmp_path, "cat/1.png", "dog/1.png"))
    monkeypatch.setattr("edgeml.data.opening._IN_MEMORY_BYTES", 100)
    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(HostError, match=r"No space left on device.*TMPDIR"):
        prepare_images(dataset, np.arange(2), EIGHT)


def test_a_class_name_that_is_no_label_is_refused_before_any_work(tmp_path: Path) -> None:
    for name in ("fine", "two\nlines"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name / "0.png")
    with pytest.raises(DataError, match="cannot be written into a label"):
        load_image_folder(tmp_path)


@pytest.mark.parametrize(
    "name", ["\u0645\u06cc\u200c\u062e\u0648", "क्\u200dष", "不良\u3000品", "a\u00a0b", "né"]
)
def test_labels_of_any_script_are_labels(tmp_path: Path, name: str) -> None:
    _fill(tmp_path, f"{name}/1.png", "other/2.png")
    assert name in load_image_folder(tmp_path).labels
    (tmp_path / "list.csv").write_text(f"file,label\n{name}/1.png,{name}\nother/2.png,x\n")
    assert name in open_image_data(tmp_path / "list.csv").labels


@pytest.mark.parametrize("name", ["bell\x07", "line\u2028end", "half\udc80"])
def test_labels_with_control_characters_are_none(tmp_path: Path, name: str) -> None:
    _fill(tmp_path, f"{name}/1.png", "other/2.png")
    with pytest.raises(DataError, match="cannot be written into a label"):
        load_image_folder(tmp_path)


def test_a_class_without_pictures_says_what_its_folder_holds(tmp_path: Path) -> None:
    _fill(tmp_path, "cat/1.png", "dog/1.pgm", "dog/2.PGM", "dog/notes.txt", "dog/.hidden.png")
    says = (
        r"'dog' has no pictures: its folder holds 3 files with another ending \(\.pgm, \.txt\), 1 h"
    )
    with pytest.raises(DataError, match=says):
        load_image_folder(tmp_path)


def test_what_lies_beside_class_folders_is_counted(tmp_path: Path) -> None:
    _fill(tmp_path, "cat/1.png", "dog/1.png", "1.png", "2.jpg", "readme.md", ".cache/x.png")
    _fill(tmp_path / "elsewhere", "3.png")
    (tmp_path / "elsewhere").rename(tmp_path.parent / "elsewhere")
    (tmp_path / "dog/more").symlink_to(tmp_path.parent / "elsewhere")
    (tmp_path / "groups.csv").write_text("file,group\ncat/1.png,a\ndog/1.png,b\n")
    dataset = load_image_folder(tmp_path)
    assert len(dataset.items) == 2
    assert dataset.odd == {
        "hidden_files": 1,
        "other_files": 1,
        "first_other_files": ["readme.md"],
        "linked_folders": 1,
        "first_linked": ["dog/more"],
        "loose_pictures": 2,
    }


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("list.txt", r"this is a file with the ending '\.txt'.*\.csv or \.tsv with the columns"),
        ("x.jsonl", r"this is a file with the ending '\.jsonl'"),
        ("cat/1.png", "this is one picture; a folder of class folders"),
    ],
)
def test_a_file_that_is_no_data_is_told_as_what_it_is(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        open_image_data(_fill(tmp_path, name) / name)


def test_a_name_that_is_too_long_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be looked up"):
        open_image_data(tmp_path / ("x" * 300))


def test_a_stray_parquet_file_does_not_hide_class_folders(tmp_path: Path) -> None:
    _fill(tmp_path, "cat/1.png", "dog/1.png", "features.parquet", "data/train.parquet")
    with pytest.raises(DataError, match="'data' has no pictures"):
        open_image_data(tmp_path)
    (tmp_path / "data/train.parquet").rename(tmp_path / "train.parquet")
    (tmp_path / "data").rmdir()
    assert open_image_data(tmp_path).labels == ("cat", "dog")
    assert open_image_data(tmp_path).odd["other_files"] == 2


def test_parquet_files_are_not_looked_for_where_class_folders_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fill(tmp_path, "cat/1.png", "dog/1.png")
    search = "edgeml.data.opening.holds_parquet"
    monkeypatch.setattr(search, lambda _: pytest.fail("a walk over the whole tree"))
    assert len(open_image_data(tmp_path).items) == 2
