"""A folder of pictures as a table: order, bad files, resuming, and a disk without room."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import edgeml
from edgeml.core.progress import ProgressEvent
from edgeml.errors import DataError, HostError, InputError
from edgeml.workflows.folder_prediction import predict_folder
from tests.small import SIDE, make_small_bundle

COUNT = 70


class KilledError(Exception):
    """Stands for the end of the process."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("folder") / "small.bundle"
    make_small_bundle(place)
    return place


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        place = tmp_path / "in" / f"{number % 3}" / f"{number:03}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(place)
    (tmp_path / "in/1/040.png").write_bytes(b"no picture")
    (tmp_path / "in/1/notes.txt").write_text("x")
    (tmp_path / "in/.hidden.png").write_bytes(b"x")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    return tmp_path / "in"


def _names(folder: Path) -> list[str]:
    found = sorted(path for path in folder.glob("[0-9]/*.png"))
    return [path.relative_to(folder).as_posix() for path in found]


def _csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_picture_has_a_row_in_order_and_a_bad_one_its_error(
    bundle: Path, folder: Path, tmp_path: Path
) -> None:
    with edgeml.load(bundle, num_threads=2) as predictor:
        done = predict_folder(predictor, folder, tmp_path / "out.csv")
        alone = [predictor.predict(folder / name).label for name in _names(folder)[:5]]
    rows = _csv(tmp_path / "out.csv")
    assert [row["input"] for row in rows] == _names(folder)
    assert [row["label"] for row in rows[:5]] == alone
    bad = [row for row in rows if row["error"]]
    assert [row["input"] for row in bad] == ["1/040.png"]
    assert (bad[0]["label"], bad[0]["score"]) == ("", "")
    assert (done.pictures, done.errors, done.refusals.count) == (COUNT, 1, 1)
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


@pytest.mark.parametrize("suffix", [".jsonl", ".tsv", ".parquet"])
def test_all_formats_say_the_same(bundle: Path, folder: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"out{suffix}"
    with edgeml.load(bundle, num_threads=1) as predictor:
        predict_folder(predictor, folder, out)
    if suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        rows = parquet.read_table(out).to_pylist()
    elif suffix == ".jsonl":
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    else:
        rows = [{**row, "error": row["error"] or None} for row in
                csv.DictReader(out.read_text().splitlines(), delimiter="\t")]  # fmt: skip
    assert [row["input"] for row in rows] == _names(folder)
    assert sum(row["error"] is not None for row in rows) == 1


@pytest.mark.parametrize("cut", [0, 7])
def test_a_killed_run_goes_on_and_ends_with_the_same_table(
    bundle: Path, folder: Path, tmp_path: Path, cut: int
) -> None:
    def kill(event: ProgressEvent) -> None:
        if event.done >= 32:
            raise KilledError

    asked: list[Any] = []
    with edgeml.load(bundle, num_threads=2) as predictor:
        predict_folder(predictor, folder, tmp_path / "whole.csv")
        with pytest.raises(KilledError):
            predict_folder(predictor, folder, tmp_path / "out.csv", progress=kill)
        partial = tmp_path / "out.csv.partial"
        partial.write_bytes(partial.read_bytes()[: -cut or None])
        assert not (tmp_path / "out.csv").exists()
        stream = predictor.predict_stream
        predictor.predict_stream = lambda items, **more: stream(  # type: ignore[method-assign]
            (asked.append(item) or item for item in items), **more
        )
        done = predict_folder(predictor, folder, tmp_path / "out.csv", resume=True)
    assert done.resumed == (32 if not cut else 31)
    assert len(asked) == COUNT - done.resumed
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_another_folders_run_is_not_resumed(bundle: Path, folder: Path, tmp_path: Path) -> None:
    with edgeml.load(bundle, num_threads=1) as predictor:
        with pytest.raises(InputError, match="no unfinished run"):
            predict_folder(predictor, folder, tmp_path / "out.csv", resume=True)
        (tmp_path / "out.csv.partial").write_text('{"folder": "/other", "served_by": "x"}\n')
        with pytest.raises(DataError, match="of another folder or model"):
            predict_folder(predictor, folder, tmp_path / "out.csv", resume=True)


@pytest.mark.parametrize(
    ("out", "says"), [("out.xlsx", "is no table's"), ("none/out.csv", "no file can be written")]
)
def test_a_place_for_no_table_is_refused(
    bundle: Path, folder: Path, tmp_path: Path, out: str, says: str
) -> None:
    with (
        edgeml.load(bundle, num_threads=1) as predictor,
        pytest.raises(InputError, match=says),
    ):
        predict_folder(predictor, folder, tmp_path / out)


LIMITED = """
import resource, signal, sys
from edgeml.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
sys.exit(main(sys.argv[2:]))
"""


def limited(size_bytes: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line where no file may be longer, as on a disk that is full."""
    command = [sys.executable, "-c", LIMITED, str(size_bytes), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_full_disk_is_one_line_and_the_run_can_go_on(
    bundle: Path, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    done = limited(3000, "predict", str(bundle), str(folder), "--out", str(out), "--threads", "1")
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert "cannot be written" in lines[0]
    assert "--resume" in lines[0]
    assert not out.exists()
    with edgeml.load(bundle, num_threads=1) as predictor:
        assert predict_folder(predictor, folder, out, resume=True).pictures == COUNT
    assert [row["input"] for row in _csv(out)] == _names(folder)


def test_the_error_of_a_full_disk_is_a_host_error(
    bundle: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edgeml.workflows.folder_prediction._write_table", full)
    with (
        edgeml.load(bundle, num_threads=1) as predictor,
        pytest.raises(HostError, match="No space left on device"),
    ):
        predict_folder(predictor, folder, tmp_path / "out.csv")


def test_the_command_line_takes_a_folder(bundle: Path, folder: Path, tmp_path: Path) -> None:
    lines = limited(1 << 30, "predict", str(bundle), str(folder), "--jsonl", "--threads", "2")
    rows = [json.loads(line) for line in lines.stdout.splitlines()]
    assert [row["input"] for row in rows] == [str(folder / name) for name in _names(folder)]
    assert [row["input"] for row in rows if row["error"]] == [str(folder / "1/040.png")]
    assert lines.returncode == 2
    out = tmp_path / "o.csv"
    done = limited(1 << 30, "predict", str(bundle), str(folder), "--out", str(out), "--json")
    assert done.returncode == 2
    value = json.loads(done.stdout)
    assert (value["pictures"], value["errors"], value["out"]) == (COUNT, 1, str(out))
    assert "1 of 70 pictures were refused, first: 040.png" in done.stderr
    refused = limited(1 << 30, "predict", str(bundle), str(folder), "--resume")
    assert "--resume goes on with an unfinished --out" in refused.stderr
