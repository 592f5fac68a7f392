"""``inspect``, ``verify``, ``predict`` and ``publish``, for people and for programs."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeml
from edgeml.errors import ModelOutputError
from tests.bundles import spoil
from tests.pictures import bomb, oriented, rgb_file, with_exif
from tests.small import LABELS, make_small_bundle
from tests.unit.cli.conftest import Run


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    file = tmp_path / "scene.png"
    file.write_bytes(rgb_file())
    return file


def test_inspect_shows_the_manifest(run: Run, small: Path) -> None:
    done = run("inspect", small, "--json")
    assert (done.code, done.err) == (0, "")
    written = json.loads((small / "manifest.json").read_text())
    assert done.json == {key: written[key] for key in written if key != "manifest_sha256"}
    assert {"name", "task", "variants", "chosen"} <= set(done.json)
    people = run("inspect", small)
    assert people.code == 0
    for text in ("small version 3", "uint8 (batch, 8, 8, 3)", "cat, dog, owl, yak", "chosen: int8"):
        assert text in people.out


def test_verify_is_ok(run: Run, small: Path) -> None:
    done = run("verify", small, "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json["ok"] is True
    assert {row["name"] for row in done.json["checks"]} >= {"golden int8", "host"}
    people = run("verify", small)
    assert (people.code, people.err) == (0, "")
    assert "FAILED" not in people.out


def test_verify_names_what_failed_and_ends_with_1(run: Run, small_copy: Path) -> None:
    file = small_copy / "variants/int8/model.onnx"
    data = bytearray(file.read_bytes())
    data[200] ^= 1
    file.write_bytes(data)
    done = run("verify", small_copy, "--json")
    assert done.code == 1
    assert done.json["ok"] is False
    assert "1 of " in done.error
    assert "variants/int8/model.onnx" in done.error
    assert "FAILED" in run("verify", small_copy).out


def test_an_error_is_one_line_whatever_a_file_is_called(run: Run, small_copy: Path) -> None:
    (small_copy / "two\nlines.json").write_text("{}")
    done = run("verify", small_copy, "--json")
    assert done.code == 1
    assert "two lines.json" in done.error
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("verb", ["inspect", "verify", "predict"])
def test_a_damaged_manifest_is_code_1_and_an_unknown_schema_2(
    run: Run, small_copy: Path, picture: Path, verb: str
) -> None:
    more = (picture,) if verb == "predict" else ()
    spoil(small_copy, lambda value: value.update(schema_version=2))
    done = run(verb, small_copy, *more, "--json")
    assert (done.code, done.out) == (2, "")
    assert "schema_version is 2" in done.error
    (small_copy / "manifest.json").write_text("{")
    done = run(verb, small_copy, *more, "--json")
    assert (done.code, done.out) == (1, "")
    assert "not JSON" in done.error


def test_predict_answers_as_the_library_does(run: Run, small: Path, picture: Path) -> None:
    done = run("predict", small, picture, "--json")
    assert (done.code, done.err) == (0, "")
    assert list(done.json) == ["predictions"]
    (row,) = done.json["predictions"]
    with edgeml.load(small, num_threads=1) as predictor:
        expected = predictor.predict(picture)
    assert (row["input"], row["label"], row["error"]) == (str(picture), expected.label, None)
    assert row["score"] == pytest.approx(expected.score)
    assert set(row["scores"]) == set(LABELS)
    assert row["served_by"] == "onnxruntime/cpu/int8/3"
    assert set(row) >= {"input", "label", "score", "scores", "error"}
    assert str(expected.label) in run("predict", small, picture).out


def test_a_variant_by_name(run: Run, small: Path, picture: Path) -> None:
    done = run("predict", small, picture, "--variant", "fp32", "--threads", "1", "--json")
    assert done.json["predictions"][0]["served_by"] == "onnxruntime/cpu/fp32/3"
    done = run("predict", small, picture, "--variant", "int4", "--json")
    assert (done.code, done.out) == (2, "")
    assert "no variant 'int4'" in done.error
    done = run("predict", small, picture, "--threads", "0")
    assert (done.code, done.out) == (2, "")
    assert "num_threads is 0" in done.error


def test_good_rows_are_kept_when_some_are_bad(run: Run, small: Path, picture: Path) -> None:
    bad = picture.parent / "bad.png"
    bad.write_bytes(b"no picture")
    none = picture.parent / "none.png"
    done = run("predict", small, bad, picture, none, picture, "--json")
    assert done.code == 2
    rows = done.json["predictions"]
    assert [row["error"] is None for row in rows] == [False, True, False, True]
    assert [row["label"] is None for row in rows] == [True, False, True, False]
    assert rows[0]["scores"] == {}
    assert rows[1]["score"] == rows[3]["score"]
    assert "2 of 4 inputs were refused, first: bad.png" in done.error
    people = run("predict", small, bad, picture)
    assert people.code == 2
    assert str(rows[1]["label"]) in people.out
    assert f"{rows[1]['score']:.4f}" in people.out


def test_a_model_that_fails_is_not_the_senders_fault(
    run: Run, small: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> list[Any]:
        return [ModelOutputError(tensor="probabilities")]

    monkeypatch.setattr("edgeml.tasks.predictor.TaskPredictor.predict_batch", broken)
    done = run("predict", small, picture, "--json")
    assert done.code == 1
    assert "NaN or infinity" in done.error
    assert done.json["predictions"][0]["label"] is None


def _stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_a_dash_reads_stdin(
    run: Run, small: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stdin(monkeypatch, rgb_file())
    done = run("predict", small, "-", picture, "--json")
    piped, named = done.json["predictions"]
    assert (piped["input"], piped["score"]) == ("-", named["score"])
    _stdin(monkeypatch, b"")
    done = run("predict", small, "-", "--json")
    assert done.code == 2
    assert "empty (0 bytes)" in done.error
    _stdin(monkeypatch, bytes(65 << 20))
    done = run("predict", small, "-", "--json")
    assert "the limit max_bytes" in done.error


def test_pillows_own_warnings_are_not_shown(run: Run, small: Path, tmp_path: Path) -> None:
    odd = tmp_path / "odd.jpg"
    odd.write_bytes(with_exif(b"II*\0\x08\0\0\0\xff\xff" + b"\0" * 5))
    done = run("predict", small, odd, "--json")
    assert (done.code, done.err) == (0, "")
    large = tmp_path / "large.png"
    large.write_bytes(bomb(10_000, 9_500))
    done = run("predict", small, large, "--json")
    assert done.code == 2
    assert "the limit max_pixels" in done.error
    assert done.err.count("\n") == 1


def test_our_own_warnings_are_one_line(run: Run, tmp_path: Path, picture: Path) -> None:
    make_small_bundle(tmp_path / "b", tuned_for="some_other_set")
    done = run("predict", tmp_path / "b", picture, "--json")
    assert done.code == 0
    assert done.json["predictions"][0]["served_by"] == "onnxruntime/cpu/fp32/3"
    assert done.err.startswith("warning: variant 'int8' was tuned for some_other_set")
    assert done.err.count("\n") == 1


def test_names_that_look_like_markup_are_shown_as_they_are(
    run: Run, small_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(small_copy, lambda value: value.update(labels=["[/b]", "[red]", ":smile:", "[x"]))
    monkeypatch.chdir(small_copy.parent)
    file = "[b]a.png"
    Path(file).write_bytes(oriented(3))
    for arguments in (("inspect", small_copy), ("predict", small_copy, file)):
        done = run(*arguments)
        assert (done.code, done.err) == (0, "")
    labels = run("inspect", small_copy).out
    assert "[/b], [red], :smile:, [x" in labels
    assert file in run("predict", small_copy, file).out


def test_publish_says_where(run: Run, small: Path, tmp_path: Path) -> None:
    done = run("publish", small, "--repository", tmp_path / "models", "--json")
    assert done.code == 0
    keys = {"model", "version", "path", "previous", "server", "checks", "removed", "recovered"}
    assert set(done.json) == keys
    assert (done.json["model"], done.json["server"]) == ("small", None)
    assert Path(done.json["path"]).is_dir()
    people = run("publish", small, "--repository", tmp_path / "models", "--name", "other")
    assert people.code == 0
    assert "other" in people.out
    assert "files only: a server that runs serves what it has loaded" in people.out


def test_rollback_says_what_is_served(run: Run, small: Path, tmp_path: Path) -> None:
    place = ("--repository", tmp_path / "models")
    for _ in range(3):
        assert run("publish", small, *place, "--keep", "2").code == 0
    done = run("rollback", "small", *place, "--json")
    assert (done.json["model"], done.json["version"], done.json["previous"]) == ("small", 2, 3)
    assert Path(done.json["path"]) == tmp_path / "models/small"
    refused = run("rollback", "small", *place, "--to", "1")
    assert refused.code == 2
    assert "version 1 of 'small' is not there; another of 2, 3 was expected" in refused.error
    refused = run("rollback", "nothing", *place)
    assert refused.code == 2
    assert "there is no model 'nothing'; one of small was expected" in refused.error


def test_publish_bounds_the_queue_by_a_deadline(run: Run, small: Path, tmp_path: Path) -> None:
    place = ("--repository", tmp_path / "models", "--max-batch-size", "1", "--priorities")
    flags = ("--queue-for-deadline", "100ms", "--item-time", "10ms")
    done = run("publish", small, *place, *flags, "--json")
    assert done.code == 0
    config = (Path(done.json["path"]) / "configs/cpu.pbtxt").read_text(encoding="utf-8")
    for line in ("max_queue_size: 5", "count: 2", 'name: "turn-', "priority_levels: 3"):
        assert line in config
    for wrong, says in (
        (("--item-time", "10ms"), "without --queue-for-deadline"),
        ((*flags, "--max-queue-size", "3"), "one of the two was expected"),
        (("--queue-for-deadline", "10ms", "--item-time", "10ms"), "leaves no room for a queue"),
        (("--queue-for-deadline", "soon"), "is no time"),
    ):
        refused = run("publish", small, *place, *wrong)
        assert refused.code == 2
        assert says in refused.error


def test_publish_takes_the_resources_of_an_instance(run: Run, small: Path, tmp_path: Path) -> None:
    flags = ("--resource", "cores=2", "--resource", "memory=1", "--priority", "2")
    done = run("publish", small, "--repository", tmp_path / "models", *flags, "--json")
    assert done.code == 0
    text = (tmp_path / "models/small/configs/cpu.pbtxt").read_text()
    for words in ("rate_limiter", 'name: "cores"', "count: 2", 'name: "memory"', "priority: 2"):
        assert words in text
    for wrong in ("cores", "cores=two", "=1"):
        refused = run("publish", small, "--repository", tmp_path / "models", "--resource", wrong)
        assert refused.code == 2
        assert "NAME=N was expected" in refused.error


def test_a_process_of_its_own_writes_one_object(small: Path, picture: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgeml", "predict", str(small), str(picture), "-", "--json"],
        input=np.zeros(9, dtype=np.uint8).tobytes(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert len(json.loads(done.stdout)["predictions"]) == 2
    assert done.stderr.startswith(b"error: 1 of 2 inputs were refused")
    assert done.stderr.count(b"\n") == 1
