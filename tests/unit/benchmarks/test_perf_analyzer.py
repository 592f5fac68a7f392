"""The wrapper around perf_analyzer: its command, its figures, and why it cannot be had."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from benchmarks.perf_analyzer import tool
from benchmarks.perf_analyzer.tool import Figures, ToolError, command_for, prepare, run

_TABLE = """Concurrency,Inferences/Second,Client Send,p50 latency,p90 latency,p99 latency
1,250.5,20,3950,4100,5120
"""


def program(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]), encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An environment without a prepared root, in which nobody is root."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program(folder / "id", "echo 1000")
    home = {"EDGEML_PERF_ANALYZER_HOME": str(tmp_path / "home")}
    return {**os.environ, **home, "PATH": f"{folder}:{os.environ['PATH']}"}


def test_without_root_it_says_why_in_one_line(bare):
    words = [str(tool.TOOL), "--root"]
    done = subprocess.run(words, env=bare, capture_output=True, text=True, check=False)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert line.startswith("error: perf_analyzer cannot be prepared: a Debian 13 root is made by")


def test_the_reason_reaches_who_measures(bare, monkeypatch):
    for name in ("PATH", "EDGEML_PERF_ANALYZER_HOME"):
        monkeypatch.setenv(name, bare[name])
    with pytest.raises(ToolError, match="root alone"):
        prepare()


def test_a_failed_debootstrap_leaves_no_root(bare, tmp_path):
    folder = tmp_path / "bin"
    program(folder / "id", "echo 0")
    program(folder / "unshare", '[ "$2" = true ] && exit 0', 'echo "E: no mirror"', "exit 1")
    program(folder / "debootstrap", "exit 1")
    program(folder / "apt-get", "exit 0")
    words = [str(tool.TOOL), "--root"]
    done = subprocess.run(words, env=bare, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "debootstrap failed (E: no mirror); check the network" in done.stderr
    assert not list((tmp_path / "home").glob("debian*"))


def test_a_root_that_is_there_is_used_by_anybody(bare, tmp_path):
    version = next(
        line.partition("=")[2]
        for line in tool.TOOL.read_text(encoding="utf-8").splitlines()
        if line.startswith("VERSION=")
    )
    place = tmp_path / "home" / f"debian-13-{version}"
    place.mkdir(parents=True)
    words = [str(tool.TOOL), "--root"]
    done = subprocess.run(words, env=bare, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(place)


def test_fixed_shapes_need_no_option_of_ours():
    words = command_for("clothing", url="grpc://127.0.0.1:8001", requests=100)
    assert words[:6] == ["-m", "clothing", "-u", "127.0.0.1:8001", "-i", "grpc"]
    assert not {"--shape", "--input-data"} & set(words)
    words = command_for("text", url="http://here:8", requests=9, input_data=Path("samples.json"))
    assert words[-2:] == ["--input-data", "samples.json"]


def test_figures_are_read_from_its_table(tmp_path, monkeypatch):
    (tmp_path / "table").write_text(_TABLE, encoding="utf-8")
    copy = f'while [ "$1" != -f ]; do shift; done; cp {tmp_path}/table "$2"'
    monkeypatch.setattr(tool, "TOOL", program(tmp_path / "tool", copy))
    assert run(["-m", "clothing"]) == Figures(p50_ms=3.95, p99_ms=5.12, per_s=250.5)


def test_an_error_of_the_tool_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "TOOL", program(tmp_path / "tool", "echo no model >&2", "exit 3"))
    with pytest.raises(ToolError, match="ended with 3: no model"):
        run(["-m", "ghost"])
