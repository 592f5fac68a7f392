"""Whole or absent: errors, kills and rivals while a folder is being written."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgeml.core.files import (
    check_place,
    inside,
    recover_folder,
    remove_folder,
    sha256_of,
    staged_folder,
    write_json,
)
from edgeml.errors import InputError, IntegrityError

_WRITER = """
import sys, time
from pathlib import Path
from edgeml.core.files import staged_folder
with staged_folder(Path(sys.argv[1])) as staged:
    (staged / "half.txt").write_text("half")
    print("half", flush=True)
    time.sleep(60)
"""
# Dies between the two renames that replace a folder: the only moment at which its name is free.
_DIES_IN_THE_GAP = """
import os, signal, sys
from pathlib import Path
from edgeml.core.files import staged_folder
rename = Path.rename
def rename_and_die(self, target):
    rename(self, target)
    os.kill(os.getpid(), signal.SIGKILL)
with staged_folder(Path(sys.argv[1])) as staged:
    (staged / "new.txt").write_text("new")
    Path.rename = rename_and_die
"""


@contextmanager
def _writer(place: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has staged half a folder and is still at it."""
    command = [sys.executable, "-c", _WRITER, str(place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "half\n"
            yield process
        finally:
            process.kill()


def _write(place: Path, text: str = "new") -> None:
    with staged_folder(place) as staged:
        (staged / "file.txt").write_text(text)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "made" / "a [1].bundle"  # brackets: a pattern to glob, a name to people


def _names(place: Path) -> list[str]:
    return sorted(path.name for path in place.parent.iterdir())


def test_a_folder_appears_when_the_block_ends(place: Path) -> None:
    with staged_folder(place) as staged:
        assert staged.parent == place.parent
        assert list(staged.iterdir()) == []
        (staged / "file.txt").write_text("new")
        assert not place.exists()
    assert (place / "file.txt").read_text() == "new"
    assert _names(place) == [place.name]


def test_a_folder_is_replaced_whole(place: Path) -> None:
    _write(place, "old")
    (place / "only-in-the-old.txt").write_text("x")
    _write(place, "new")
    assert [path.name for path in place.iterdir()] == ["file.txt"]
    assert (place / "file.txt").read_text() == "new"
    assert _names(place) == [place.name]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_keeps_the_old_and_leaves_nothing(place: Path, error: type[BaseException]) -> None:
    _write(place, "old")

    def fail(staged: Path) -> None:
        (staged / "file.txt").write_text("half")
        raise error

    with pytest.raises(error), staged_folder(place) as staged:
        fail(staged)
    assert (place / "file.txt").read_text() == "old"
    assert _names(place) == [place.name]


def test_a_rename_that_fails_puts_the_old_back(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(place, "old")
    rename = Path.rename

    def fail_to_arrive(self: Path, target: Path) -> Path:
        if target == place and ".partial-" in self.name:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_to_arrive)
    with pytest.raises(OSError, match="No space left"):
        _write(place, "new")
    monkeypatch.undo()
    assert (place / "file.txt").read_text() == "old"
    assert _names(place) == [place.name]


@pytest.mark.parametrize("before", ["nothing", "old"])
def test_a_kill_leaves_nothing_half_written_and_the_next_clears_up(
    place: Path, before: str
) -> None:
    place.parent.mkdir()
    if before == "old":
        _write(place, "old")
    with _writer(place) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
    left = [name for name in _names(place) if name != place.name]
    assert len(left) == 1
    assert left[0].startswith(".")
    if before == "old":
        assert (place / "file.txt").read_text() == "old"
    else:
        assert not place.exists()
    _write(place, "new")
    assert _names(place) == [place.name]
    assert (place / "file.txt").read_text() == "new"


def test_what_a_running_process_stages_is_left_alone(place: Path) -> None:
    with _writer(place):
        (staged,) = place.parent.iterdir()
        _write(place, "mine")
        assert (staged / "half.txt").read_text() == "half"
        assert (place / "file.txt").read_text() == "mine"
    # The writer is dead now, and so is its claim.
    _write(place, "again")
    assert _names(place) == [place.name]


def test_a_kill_between_the_renames_loses_nothing(place: Path) -> None:
    _write(place, "old")
    run = subprocess.run(
        [sys.executable, "-c", _DIES_IN_THE_GAP, str(place)], check=False, timeout=60
    )
    assert run.returncode == -signal.SIGKILL
    assert not place.exists()
    with pytest.raises(ZeroDivisionError), staged_folder(place):
        raise ZeroDivisionError
    assert (place / "file.txt").read_text() == "old"
    assert _names(place) == [place.name]


@pytest.mark.parametrize("pid", [999_999_999, os.getpid()], ids=["gone", "reborn"])
def test_a_reader_gets_back_what_a_killed_writer_had_set_aside(place: Path, pid: int) -> None:
    _write(place, "old")
    place.rename(place.parent / f".{place.name}.old-{pid}-0a1b2c3d")
    (place.parent / f".{place.name}.partial-{pid}-0a1b2c3d").mkdir()
    recover_folder(place)
    assert (place / "file.txt").read_text() == "old"
    assert _names(place) == [place.name]


def test_a_folder_is_removed_at_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remove_folder(place)  # nothing is there
    _write(place)
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)  # as if killed here
    remove_folder(place)
    monkeypatch.undo()
    assert not place.exists()
    assert len(_names(place)) == 1
    with staged_folder(place) as staged:
        # The other one is still this process's, and is taken for abandoned: nobody stages it.
        assert _names(place) == [staged.name]


def test_rivals_in_one_process_do_not_clear_each_other(place: Path) -> None:
    with staged_folder(place) as outer:
        (outer / "file.txt").write_text("outer")
        _write(place, "inner")
        assert (place / "file.txt").read_text() == "inner"
    assert (place / "file.txt").read_text() == "outer"
    assert _names(place) == [place.name]


def test_neighbours_with_similar_names_are_left_alone(place: Path) -> None:
    place.parent.mkdir()
    gone = "999999999"  # above the largest process id that Linux gives
    mine = place.parent / f".{place.name}.partial-{gone}-0a1b2c3d"
    others = [
        place.parent / f".other{place.name}.partial-{gone}-0a1b2c3d",
        place.parent / f".{place.name}.old.partial-{gone}-0a1b2c3d",
        place.parent / f".{place.name}.notes-{gone}-0a1b2c3d",
        place.parent / f".{place.name}.partial-today-0a1b2c3d",
        place.parent / f"{place.name}.partial-{gone}-0a1b2c3d",
    ]
    for folder in (mine, *others):
        folder.mkdir()
    _write(place)
    assert not mine.exists()
    assert all(folder.is_dir() for folder in others)


def test_a_process_number_beyond_all_numbers_is_nobody(place: Path) -> None:
    place.parent.mkdir()
    left = place.parent / f".{place.name}.partial-{'9' * 30}-0a1b2c3d"
    left.mkdir()
    _write(place)
    assert _names(place) == [place.name]


def test_a_link_is_replaced_and_its_target_kept(place: Path) -> None:
    target = place.parent / "target"
    target.mkdir(parents=True)
    (target / "file.txt").write_text("somebody else's")
    place.symlink_to(target)
    _write(place, "new")
    assert not place.is_symlink()
    assert (place / "file.txt").read_text() == "new"
    assert (target / "file.txt").read_text() == "somebody else's"
    assert _names(place) == sorted([place.name, "target"])


def test_a_relative_place_stays_where_it_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    with staged_folder(Path("made")):
        monkeypatch.chdir(elsewhere)
    assert (tmp_path / "made").is_dir()


def test_a_hash_is_the_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "large"
    for size in (0, 1, 1 << 20, (1 << 20) + 1):
        data = bytes(range(251)) * (size // 251 + 1)
        file.write_bytes(data[:size])
        assert sha256_of(file) == hashlib.sha256(data[:size]).hexdigest()


def test_json_keeps_its_order_and_refuses_nan(tmp_path: Path) -> None:
    file = tmp_path / "value.json"
    write_json(file, {"b": 1, "a": "Ä"})
    assert file.read_text(encoding="utf-8") == '{\n  "b": 1,\n  "a": "Ä"\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "other.json", {"a": float("nan")})
    assert not (tmp_path / "other.json").exists()


@pytest.mark.parametrize("path", ["a.json", "a/b.json", "a b/ä.json", "link-inside/a.json"])
def test_a_path_inside_is_kept(tmp_path: Path, path: str) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link-inside").symlink_to("real")
    assert inside(tmp_path, path) == tmp_path / path


@pytest.mark.parametrize(
    "path", ["", "/a", "..", "a/..", "../a", "a\\b", "a\0b", "a\nb", "out/a", "loop/a", "\udc80"]
)
def test_a_path_that_leaves_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "out").symlink_to("/etc")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(IntegrityError, match="leaves the folder"):
        inside(tmp_path, path)


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(InputError, match="no folder can be written"):
        check_place(blocked / "deep" / "out", marker="manifest.json", kind="bundle")
    check_place(tmp_path / "new" / "out", marker="manifest.json", kind="bundle")
