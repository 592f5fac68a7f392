"""``edgeml profile`` as a command: its JSON, its table, its errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeml.cli.main import main
from edgeml.workflows.profiling import settings


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    def few(preset: str, **more: int) -> settings.ProfileSettings:
        return settings.ProfileSettings(
            preset=preset, repeats=1, run_s=0.1, server_s=0.3, offline_s=0.1, starts=1,
            retry_s=0.001, **more,
        )  # fmt: skip

    monkeypatch.setattr(settings, "settings_of", few)


@pytest.mark.usefixtures("short")
def test_json_is_all_of_stdout_and_progress_goes_to_stderr(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--targets", "edge", "--p99", "200ms", "--rate", "20", "--out", str(tmp_path)]
    assert main(["profile", str(small), "--json", *words]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert [row["scenario"] for row in found["rows"]] == ["single-stream", "server", "offline"]
    assert found["recommendation"]["target"] == "edge"
    assert found["recommendation"]["asked"]["p99_ms"] == pytest.approx(200)
    assert "edge, single-stream, run 1 of 1" in said.err


@pytest.mark.usefixtures("short")
def test_people_get_a_table_and_the_advice(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--targets", "edge", "--scenarios", "single-stream", "--out", str(tmp_path)]
    assert main(["profile", str(small), *words]) == 0
    said = capsys.readouterr().out
    assert "recommended: edge" in said
    assert "report.html" in said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--targets", "ray"], "'ray' cannot be profiled"),
        (["--targets", ""], "no target was named"),
        (["--scenarios", "fast"], "'fast' is no scenario"),
        (["--preset", "slow"], "'quick' or 'full'"),
        (["--rate", "-1"], "rate_per_s is -1"),
        (["--p99", "soon"], "is no time"),
        (["--threads", "0"], "num_threads is 0"),
        (["--min-accuracy", "90"], "a share up to 1"),
    ],
)
def test_a_wrong_request_is_one_line(
    small: Path, words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", str(small), *words]) == 2
    said = capsys.readouterr().err
    assert (said.count("\n"), expected in said) == (1, True), said
