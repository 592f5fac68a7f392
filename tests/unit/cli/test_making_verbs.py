"""``finetune`` and ``export``: their JSON, their gates and their progress."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeml.errors import ParityError
from edgeml.workflows import exporting
from tests.trained import SIDE, TIMING, Trained
from tests.unit.cli.conftest import Run


@pytest.fixture
def quick(
    trained: Trained, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Trained:
    """Exports that trace and quantize nothing anew and time little."""
    # All of these export alike: what one found is there for the next.
    trained.quicken(monkeypatch, tmp_path_factory.getbasetemp() / "searches-of-verbs")
    settings = exporting.ExportSettings

    def brief(**options: Any) -> exporting.ExportSettings:
        return settings(**{"timing": TIMING, **options})

    monkeypatch.setattr(exporting, "ExportSettings", brief)
    return trained


def test_finetune_prints_what_others_rely_on(run: Run, trained: Trained, tmp_path: Path) -> None:
    arguments = ("finetune", "--data", trained.pictures, "--out", tmp_path / "c", "--epochs", 1)
    done = run(
        *arguments, "--image-size", SIDE, "--weights", "random", "--batch-size", 24, "--json"
    )
    assert (done.code, done.err) == (0, "")
    assert set(done.json) == {"checkpoint", "accuracy", "epochs", "seconds"}
    assert (tmp_path / "c/checkpoint.json").is_file()
    seen = json.loads((tmp_path / "c/checkpoint.json").read_text())
    assert seen["preprocessing"]["height"] == SIDE
    assert seen["training"]["settings"]["batch_size"] == 24


def test_export_prints_what_others_rely_on(run: Run, quick: Trained, tmp_path: Path) -> None:
    done = run("export", quick.checkpoint, "--out", tmp_path / "b", "--threads", 1, "--json")
    assert (done.code, done.err) == (0, "")
    assert set(done.json) == {
        "bundle",
        "chosen",
        "chosen_for_batches",
        "chosen_by_device",
        "chosen_by_engine",
        "data",
        "proven",
        "variants",
        "report",
        "seconds",
        "notes",
    }
    assert done.json["bundle"] == str(tmp_path / "b")
    rows = {row["name"]: row for row in done.json["variants"]}
    assert list(rows) == ["fp32", "fp16", "int8"]
    assert rows["fp32"]["speedup"] == 1.0
    assert rows[done.json["chosen"]]["verdict"] == "chosen"


def test_export_shows_people_a_table_and_progress(run: Run, quick: Trained, tmp_path: Path) -> None:
    done = run("export", quick.checkpoint, "--out", tmp_path / "b", "--threads", 1)
    assert done.code == 0
    for text in ("fp32", "int8", "verdict", "chosen: "):
        assert text in done.out
    assert "trace: 1/1" in done.err
    assert "prepare images: 48/48" in done.err
    assert "error:" not in done.err


@pytest.mark.parametrize(
    "gate",
    [
        ("--require-speedup", "1000"),
        ("--max-latency-ms", "0.0001"),
        ("--max-size-mb", "0.001"),
        ("--min-accuracy", "1.01"),
    ],
    ids=lambda gate: gate[0],
)
def test_a_gate_that_was_asked_for_ends_with_1(
    run: Run, quick: Trained, tmp_path: Path, gate: tuple[str, str]
) -> None:
    place = tmp_path / "b"
    done = run("export", quick.checkpoint, "--out", place, "--threads", 1, *gate, "--json")
    assert done.code == 1
    assert done.error.startswith(f"error: {gate[0]}: the chosen variant '")
    assert f"{float(gate[1]):g} was asked for; the bundle is written" in done.error
    # The figures are the answer to "how far off?".
    assert done.json["bundle"] == str(place)
    assert run("verify", place, "--json").json["ok"] is True


def test_gates_that_hold_end_with_0(run: Run, quick: Trained, tmp_path: Path) -> None:
    done = run(
        *("export", quick.checkpoint, "--out", tmp_path / "b", "--threads", 1, "--json"),
        *("--require-speedup", 0.001, "--max-latency-ms", 1e6),
        *("--max-size-mb", 100, "--min-accuracy", 0.0),
    )
    assert (done.code, done.err) == (0, "")


def test_fp32_that_is_not_its_source_is_code_1(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: Any, **__: Any) -> None:
        raise ParityError(variant="fp32", max_abs_diff=0.5, tolerance=0.0001, sample=3)

    monkeypatch.setattr(exporting, "export", wrong)
    done = run("export", "c", "--out", tmp_path / "b", "--json")
    assert (done.code, done.out) == (1, "")
    assert "differs from its source by 0.5 at sample 3" in done.error


def test_somebody_elses_folder_is_code_2(run: Run, trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("irreplaceable")
    for arguments in (
        ("export", trained.checkpoint, "--out", tmp_path),
        ("finetune", "--data", trained.pictures, "--out", tmp_path),
    ):
        done = run(*arguments, "--json")
        assert (done.code, done.out) == (2, "")
        assert "move it away" in done.error
