"""Groups and manifests: what a table beside pictures may say, and what is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeml.data.dataset import make_split
from edgeml.data.opening import open_image_data, place_of, reopen
from edgeml.errors import DataError, InputError


def _pictures(root: Path, *names: str) -> Path:
    rng = np.random.default_rng(len(names))
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / name)
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    names = [f"{label}/{number}.png" for label in ("ok", "scratch") for number in range(12)]
    return _pictures(tmp_path / "parts", *names)


def _groups(folder: Path, *, name: str = "groups.csv") -> Path:
    """Three pictures of each class to a group, each group in both classes."""
    rows = [
        f"{path.relative_to(folder).as_posix()},part {int(path.stem) // 3}"
        for path in sorted(folder.rglob("*.png"))
    ]
    (folder / name).write_text("file,group\n" + "\n".join(rows))
    return folder / name


def test_groups_beside_the_pictures_stay_together(folder: Path) -> None:
    _groups(folder)
    dataset = open_image_data(folder)
    assert dataset.groups is not None
    for seed in range(5):
        split = make_split(dataset, seed=seed)
        parts = [set(dataset.groups[part].tolist()) for part in vars(split).values()]
        assert not parts[0] & parts[1]
        assert not (parts[0] | parts[1]) & parts[2]
        assert sum(split.sizes().values()) == 24
        for part in vars(split).values():
            assert set(dataset.targets[part]) == {0, 1}


def test_groups_may_lie_elsewhere_and_are_found_again(folder: Path, tmp_path: Path) -> None:
    table = _groups(folder).rename(tmp_path / "parts.csv")
    dataset = open_image_data(folder, groups=table)
    again = reopen({"place": place_of(folder, groups=table)})
    assert dataset.groups is not None
    assert again.groups is not None
    np.testing.assert_array_equal(dataset.groups, again.groups)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("file,group\nok/0.png,a\n", r"23 of 24 pictures have no group: ok/1\.png"),
        ("file,group\nok/0.png,a\nok/99.png,b\n", r"1 of 2 of its files are not in the folder: ok"),
        ("file,group\nok/0.png,a\nok/0.png,b\n", "has two groups"),
        ("file,group\nok/0.png,\n", "line 2 has no group"),
        ("name,group\nok/0.png,a\n", "its columns are name, group"),
        ("", "it is empty"),
        ("file,group\nok/0.png,a,b\n", "line 2 has 3 fields"),
    ],
    ids=["missing", "unknown", "twice", "no-group", "columns", "empty", "fields"],
)
def test_groups_that_do_not_fit_are_refused(folder: Path, text: str, says: str) -> None:
    (folder / "groups.csv").write_text(text)
    with pytest.raises(DataError, match=says):
        open_image_data(folder)


def test_too_few_groups_of_a_class_are_told(folder: Path) -> None:
    rows = [f"{label}/{number}.png,{label}" for label in ("ok", "scratch") for number in range(12)]
    (folder / "groups.csv").write_text("file,group\n" + "\n".join(rows))
    with pytest.raises(DataError, match="the class 'ok' has 1 distinct groups"):
        make_split(open_image_data(folder), seed=0)


def test_a_manifest_lists_files_labels_and_parts(folder: Path) -> None:
    rows = [f"ok/{number}.png,fine,{'test' if number < 2 else ''}" for number in range(12)]
    rows += [f"scratch/{number}.png,bad,{'val' if number < 2 else ''}" for number in range(12)]
    rows += ["extra.png,bad,test", "more.png,fine,val"]
    _pictures(folder, "extra.png", "more.png")
    (folder / "list.csv").write_text("file,label,split\n" + "\n".join(rows))
    dataset = open_image_data(folder / "list.csv")
    assert dataset.labels == ("bad", "fine")
    assert len(dataset.targets) == 26
    split = make_split(dataset, seed=0)
    assert split.sizes() == {"train": 20, "validation": 3, "test": 3}
    assert split.test.tolist() == [0, 1, 24]
    assert reopen({"place": place_of(folder / "list.csv")}).fingerprint == dataset.fingerprint


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("file,label\nok/0.png,a\nok/1.png,a\n", "at least two classes; found a"),
        ("file,label\nok/0.png,a\nok/0.png,b\n", "files are named twice"),
        ("file,label\nok/0.png,a\nno/1.png,b\n", r"1 of 2 files do not exist: no/1\.png"),
        ("file,label\nok/0.png,a\nok/1.png,\n", "a label is empty"),
        ("file,label,split\nok/0.png,a,holdout\nok/1.png,b,\n", "line 2 has the split 'holdout'"),
        ("picture,label\nok/0.png,a\n", "its columns are picture, label"),
    ],
    ids=["one-class", "twice", "absent", "no-label", "split", "columns"],
)
def test_a_manifest_that_is_unfit_is_refused(folder: Path, text: str, says: str) -> None:
    (folder / "list.csv").write_text(text)
    with pytest.raises(DataError, match=says):
        open_image_data(folder / "list.csv")


def test_groups_of_a_manifest_are_a_column(folder: Path) -> None:
    rows = [f"{label}/{n}.png,{label},g{n // 3}" for label in ("ok", "scratch") for n in range(12)]
    (folder / "list.csv").write_text("file,label,group\n" + "\n".join(rows))
    dataset = open_image_data(folder / "list.csv")
    assert dataset.groups is not None
    assert len(np.unique(dataset.groups)) == 4
    with pytest.raises(InputError, match="has a column 'group'"):
        open_image_data(folder / "list.csv", groups=folder / "list.csv")


def test_a_link_into_itself_is_refused(folder: Path) -> None:
    (folder / "loop").symlink_to(folder)
    with pytest.raises(DataError, match="'loop' is a link to a folder that holds this one"):
        open_image_data(folder)
    (folder / "loop").unlink()
    (folder / "ok" / "back").symlink_to(folder / "ok")
    (folder / "self").symlink_to(folder / "self")
    assert len(open_image_data(folder).targets) == 24


def test_what_is_left_out_is_counted(folder: Path) -> None:
    (folder / "ok" / "notes.txt").write_text("x")
    (folder / "ok" / ".hidden.png").write_bytes(b"x")
    odd = open_image_data(folder).odd
    assert odd == {
        "hidden_files": 1,
        "other_files": 1,
        "first_other_files": ["ok/notes.txt"],
    }


def test_ten_thousand_classes_are_opened_and_told_what_they_lack(tmp_path: Path) -> None:
    data = _pictures(tmp_path / "one", "x.png").joinpath("x.png").read_bytes()
    for number in range(10_000):
        place = tmp_path / "many" / f"class {number:05}"
        place.mkdir(parents=True)
        (place / "0.png").write_bytes(data)
    dataset = open_image_data(tmp_path / "many")
    assert len(dataset.labels) == 10_000
    with pytest.raises(DataError, match="the class 'class 00000' has 1 pictures"):
        make_split(dataset, seed=0)


def test_groups_may_be_given_by_absolute_paths(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    named = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    ways = [str(folder / name) for name in named[:8]]
    ways += [str(tmp_path / "link" / name) for name in named[8:16]]
    ways += [f"ok/../{name}" for name in named[16:]]
    rows = [f"{way},{number // 3}" for number, way in enumerate(ways)]
    table = tmp_path / "groups of all.csv"
    table.write_text("file,group\n" + "\n".join(rows))
    found = [open_image_data(tmp_path / "link", groups=table).groups]
    (folder / "groups.csv").write_text(table.read_text().replace(str(tmp_path / "link"), "."))
    found.append(open_image_data(folder).groups)
    for groups in found:
        assert groups is not None
        assert len(np.unique(groups)) == 8


def test_a_group_of_a_picture_that_cannot_be_opened_is_no_unknown_file(folder: Path) -> None:
    (folder / "ok/77.png").symlink_to(folder / "nowhere")
    _groups(folder)
    dataset = open_image_data(folder)
    assert dataset.groups is not None
    assert len(dataset.groups) == 25


def test_a_table_of_groups_that_is_not_there_is_told_as_such(folder: Path) -> None:
    says = r"none\.csv: it cannot be read \(No such file or directory\); a table with the columns"
    with pytest.raises(DataError, match=says):
        open_image_data(folder, groups=folder / "none.csv")
    (folder / "utf16.csv").write_text("file,group\n", encoding="utf-16")
    with pytest.raises(DataError, match="cannot be read as UTF-8"):
        open_image_data(folder, groups=folder / "utf16.csv")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ok/../ok/0.png,b\n", r"2 of 3 files are named twice: ok/\.\./ok/0\.png, ok/0\.png"),
        ("{root}/ok/0.png,b\n", r"2 of 3 files are named twice"),
        ("{long}.png,b\n", r"1 of 3 files do not exist: xxx"),
        ("loop.png,b\n", r"1 of 3 files do not exist: loop\.png"),
        ("ok,b\n", r"1 of 3 files do not exist: ok;"),
    ],
    ids=["by-a-detour", "by-its-absolute-path", "too-long", "loop", "folder"],
)
def test_a_file_of_a_manifest_is_itself_by_any_path(folder: Path, text: str, says: str) -> None:
    (folder / "loop.png").symlink_to(folder / "loop.png")
    row = text.format(root=folder, long="x" * 300)
    (folder / "list.csv").write_text("file,label\nok/0.png,a\nok/1.png,b\n" + row)
    with pytest.raises(DataError, match=says):
        open_image_data(folder / "list.csv")


@pytest.mark.parametrize("column", ["label", "file", "Split", "group"])
def test_a_doubled_column_is_refused(folder: Path, column: str) -> None:
    header = f"file,label,split,group,{column}"
    (folder / "list.csv").write_text(f"{header}\nok/0.png,a,,,b\nok/1.png,b,,,a\n")
    with pytest.raises(DataError, match=f"names the column '{column.lower()}' twice"):
        open_image_data(folder / "list.csv")


def test_pictures_that_a_manifest_does_not_name_are_counted(folder: Path) -> None:
    rows = [f"ok/{number}.png,{number % 2}" for number in range(10)]
    (folder / "list.csv").write_text("file,label\n" + "\n".join(rows))
    (folder / "ok/notes.txt").write_text("x")
    odd = open_image_data(folder / "list.csv").odd
    assert odd == {"unlisted_pictures": 2, "first_unlisted": ["10.png", "11.png"]}


@pytest.mark.timeout(20)
def test_a_long_manifest_is_looked_through_once(tmp_path: Path) -> None:
    rows = [f"{number:06}.png,{number % 2}" for number in range(30_000)]
    (tmp_path / "list.csv").write_text("file,label\n" + "\n".join([*rows, *rows]))
    with pytest.raises(DataError, match="30000 of 60000 files are named twice"):
        open_image_data(tmp_path / "list.csv")
