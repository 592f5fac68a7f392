"""``edgeml predict`` for bundles that take named arrays."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeml.core.archives import read_archive
from tests.tensors import LOGS, TWO, make_tensor_bundle
from tests.unit.cli.conftest import Run


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tensors") / "logs.bundle"
    return make_tensor_bundle(place, LOGS, [{"x": [1, 2, 3]}]).path


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tensors") / "two.bundle"
    return make_tensor_bundle(place, TWO, [{"values": [1, 2], "weights": [3, 4]}]).path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "x.npz"
    np.savez(
        path,
        values=np.arange(80, dtype=np.float64).reshape(40, 2),
        weights=np.ones((40, 2), dtype=np.int16),
        labels=np.zeros(40, dtype=np.int64),
    )
    return path


def test_a_sample_is_a_prediction(run: Run, two: Path, data: Path) -> None:
    done = run("predict", two, data, "--json")
    assert (done.code, done.err) == (0, "")
    rows = done.json["predictions"]
    assert len(rows) == 40
    assert rows[7] == {
        "input": f"{data}[7]",
        "label": None,
        "score": 0.0,
        "scores": {},
        "outputs": {"products": [14.0, 15.0], "totals": 29.0},
        "served_by": "onnxruntime/cpu/fp32/1",
        "error": None,
    }
    people = run("predict", two, data)
    assert people.code == 0
    assert "products 2: 14 15, totals 29" in people.out


def test_lines_are_the_same(run: Run, two: Path, data: Path) -> None:
    done = run("predict", two, data, "--jsonl")
    assert done.code == 0
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert rows == run("predict", two, data, "--json").json["predictions"]


def test_good_samples_are_kept_when_some_are_bad(run: Run, logs: Path, tmp_path: Path) -> None:
    x = np.array([[1, 1, 1], [1, np.nan, 1], [1, 1, -1], [1, 1, 1]], dtype=np.float32)
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "bad.npz").write_text("no archive")
    for flag in ("--json", "--jsonl"):
        done = run("predict", logs, tmp_path / "bad.npz", tmp_path / "x.npy", flag)
        rows = [json.loads(line) for line in done.out.splitlines()]
        rows = rows[0]["predictions"] if flag == "--json" else rows
        assert [row["error"] is None for row in rows] == [False, True, False, False, True]
        assert rows[0]["input"] == str(tmp_path / "bad.npz")
        assert [row["outputs"] for row in rows] == [None, {"y": [0.0] * 3}, None, None,
                                                    {"y": [0.0] * 3}]  # fmt: skip
        assert "holds NaN" in rows[2]["error"]
        assert "output 'y' holds NaN or infinity" in rows[3]["error"]
        assert done.code == 2
        assert "3 of 5 inputs were refused, first: " in done.error


def test_a_dash_reads_stdin(
    run: Run, two: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data.read_bytes())))
    rows = run("predict", two, "-", "--json").json["predictions"]
    assert (len(rows), rows[3]["input"]) == (40, "-[3]")


def test_outputs_become_arrays(run: Run, two: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "y.npz"
    done = run("predict", two, data, "--out", out, "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json == {
        "samples": 40,
        "out": str(out),
        "outputs": {"products": [40, 2], "totals": [40]},
        "served_by": "onnxruntime/cpu/fp32/1",
    }
    found = read_archive(out)
    assert found["products"].dtype == np.float32
    assert np.array_equal(found["products"], np.arange(80).reshape(40, 2))
    assert found["totals"].tolist() == [4 * row + 1 for row in range(40)]
    people = run("predict", two, data, "--out", out)  # replaced
    assert "40 samples, products, totals" in people.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.npz", "y.npz"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("x.npy", "--out", "y.csv"), 2, "suffix '.csv' is not .npz"),
        (("x.npz", "--out", "x.npz"), 2, "this is the file that is read"),
        (("x.npy", "--out", "none/y.npz"), 2, "no file can be written"),
        (("x.npy", "x.npy", "--out", "y.npz"), 2, "--out takes one input; 2 were given"),
        (("none.npy", "--out", "y.npz"), 2, "none.npy: this is not there"),
        (("x.npy", "--out", "y.npz"), 1, "(x.npy[1]; nothing was written"),
        (("x.npz", "--out", "y.npz"), 2, "x.npz: it has an unknown array 'more'"),
        (("x.npy", "--jsonl", "--text-column", "x"), 2, "--text-column is for texts"),
    ],
)
def test_requests_that_cannot_be_are_one_line(
    run: Run,
    logs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    x = np.array([[1, 1, 1], [1, 1, -1]], dtype=np.float32)
    np.save("x.npy", x)
    np.savez("x.npz", x=x, more=x)
    done = run("predict", logs, *arguments)
    assert (done.code, done.out) == (code, "")
    assert says in done.error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.npy", "x.npz"]


def test_outputs_of_many_shapes_are_refused_as_one_array(
    run: Run, two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeml.core.predictor import Prediction

    def answers(*_: Any, **__: Any) -> Any:
        yield Prediction(outputs={"y": np.zeros(1)})
        yield Prediction(outputs={"y": np.zeros(2)})

    monkeypatch.setattr("edgeml.tasks.predictor.TaskPredictor.predict_stream", answers)
    monkeypatch.setattr(
        "edgeml.workflows.offline.answer_stream",
        lambda *_: ((None, answer) for answer in answers()),
    )
    done = run("predict", two, tmp_path / "x.npz", "--out", tmp_path / "y.npz")
    assert done.code == 2
    assert "shapes such as (1,) and (2,)" in done.error
