"""``edgeml predict`` on folders: one without pictures, and what is left out of one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pictures import rgb_file
from tests.small import make_small_bundle
from tests.unit.cli.conftest import Run

FORMS = {"table": (), "json": ("--json",), "lines": ("--jsonl",), "out": ("--out", "{}/o.csv")}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("folders") / "small.bundle"
    make_small_bundle(place)
    return place


def _arguments(form: str, place: Path) -> list[str]:
    return [word.format(place) for word in FORMS[form]]


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_without_pictures_is_the_same_error_in_every_form(
    bundle: Path, tmp_path: Path, run: Run, form: str
) -> None:
    (tmp_path / "in/more").mkdir(parents=True)
    done = run("predict", bundle, tmp_path / "in", *_arguments(form, tmp_path))
    assert (done.code, done.out) == (2, "")
    assert f"{tmp_path}/in: this folder has no pictures: it holds no files;" in done.error
    for name in ("1.pgm", "2.PGM", "more/.3.png"):
        (tmp_path / "in" / name).write_bytes(b"x")
    done = run("predict", bundle, tmp_path / "in", *_arguments(form, tmp_path))
    assert (done.code, done.out) == (2, "")
    assert "holds 2 files with another ending (.pgm), 1 hidden file; some ending in" in done.error


@pytest.mark.parametrize("form", FORMS)
def test_what_is_left_out_of_a_folder_is_one_line(
    bundle: Path, tmp_path: Path, run: Run, form: str
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("1.png", "a.txt", "b.txt", "c", ".d.png"):
        (tmp_path / "in" / name).write_bytes(rgb_file())
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    done = run("predict", bundle, tmp_path / "in", *_arguments(form, tmp_path))
    assert done.code == 0
    notes = [line for line in done.err.splitlines() if line.startswith("note:")]
    assert notes == [
        f"note: {tmp_path}/in: left out: 3 files with another ending (.txt, no ending), 1 hidden "
        "file, 1 linked folder (links are not followed)"
    ]


def test_an_empty_folder_among_others_is_told_before_any_answer(
    bundle: Path, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "1.png").write_bytes(rgb_file())
    (tmp_path / "in").mkdir()
    done = run("predict", bundle, tmp_path / "1.png", tmp_path / "in", "--jsonl")
    assert (done.code, done.out) == (2, "")
    assert "this folder has no pictures" in done.error


def test_nothing_left_out_is_not_mentioned(bundle: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/1.png").write_bytes(rgb_file())
    done = run("predict", bundle, tmp_path / "in", "--json")
    assert (done.code, done.err) == (0, "")
    assert [Path(row["input"]).name for row in done.json["predictions"]] == ["1.png"]


def test_a_name_that_is_too_long_is_refused_as_a_picture(bundle: Path, run: Run) -> None:
    done = run("predict", bundle, "x" * 300)
    assert done.code == 2
    assert "1 of 1 inputs were refused" in done.error
