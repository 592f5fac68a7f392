"""One command with ``--resume``, run until it succeeds, ends with one result wherever killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import edgeml
from edgeml.core.progress import ProgressEvent
from edgeml.errors import DataError, InputError
from edgeml.training import loop
from edgeml.training.checkpoint import read_checkpoint
from edgeml.training.unfinished import finished_history, state_place
from tests.unit.cli.conftest import Run, run
from tests.unit.training.stopwatches import rigged
from tests.unit.workflows.test_training_pictures import (
    SETTINGS,
    _finetune,
    folder,
    make_folder,
    threads,
    tiny,
)

__all__ = ["folder", "run", "threads", "tiny"]  # fixtures, used by name

_ROOT = Path(__file__).parents[3]
_FACTORY = """
from torch import nn

def make(num_classes):
    return nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, groups=16),
        nn.Conv2d(16, 24, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(24, num_classes),
    ), {"image_size": 24}
"""
# The command line, in a process whose stopwatch finds the other memory layout the faster one. After
# as many states as are given first it waits for its end: it cannot be done before it is killed.
_COMMAND = """
import sys, time
from edgeml.cli import main
from edgeml.training import loop, unfinished
from tests.unit.training.stopwatches import rigged

most, *asked = sys.argv[1:]
written, write_state = [], unfinished.write_state

def write_some(*state):
    if len(written) == int(most):
        time.sleep(600)
    written.append(write_state(*state))

unfinished.write_state = write_some
loop.choose_compute = rigged("fp32 channels_last")
sys.exit(main(asked))
"""


class KilledError(Exception):
    """Stands for the end of the process."""


def _killed(folder: Path, out: Path, **options: Any) -> Path:
    """Train as far as the second epoch; return where the unfinished training lies."""

    def kill(event: ProgressEvent) -> None:
        if event.stage == "train" and event.done == 4:
            raise KilledError

    with pytest.raises(KilledError):
        _finetune(folder, out, progress=kill, **options)
    return state_place(out)


def _weights(out: Path) -> bytes:
    return (out / "model.safetensors").read_bytes()


def _until(process: subprocess.Popen[bytes], happened: Callable[[], bool]) -> None:
    """Wait for something, and kill a process at that moment."""
    deadline = time.monotonic() + 120
    try:
        while not happened():
            assert process.poll() is None, "it ended before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.kill()
    assert process.wait(timeout=30) == -signal.SIGKILL


def _epochs(place: Path) -> int:
    try:
        value = json.loads((place / "state.json").read_bytes())
    except (OSError, ValueError):
        return 0
    return len(value["progress"]["history"]["epochs"])


@pytest.mark.slow
def test_processes_that_are_killed_end_with_the_weights_of_one_that_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resumed_model.py").write_text(_FACTORY)
    data, out = make_folder(tmp_path / "data"), tmp_path / "killed"
    asked = [
        *("finetune", "--data", str(data), "--model", "resumed_model:make", "--threads", "1"),
        *("--precision", "fp32", "--epochs", "40", "--seed", "5", "--frozen-epochs", "2"),
        *("--resume", "--json"),
    ]
    environment = {**os.environ, "PYTHONPATH": f"{_ROOT}{os.pathsep}{tmp_path}"}
    began = time.monotonic()
    for most, happened in (
        ("0", lambda: time.monotonic() > began + 0.3),  # before there is anything
        ("4", lambda: _epochs(state_place(out)) >= 2),  # the first is of no epoch
    ):
        command = [sys.executable, "-c", _COMMAND, most, *asked, "--out", str(out)]
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
            _until(process, happened)
        assert not out.exists()
    monkeypatch.setattr(loop, "choose_compute", rigged("fp32 contiguous"))
    assert run(*asked, "--out", out).code == 0
    whole = run(*asked, "--out", tmp_path / "whole")
    assert whole.code == 0
    assert re.search(r"^warning: \S*whole\.partial: there is nothing to resume", whole.err, re.M)
    assert _weights(out) == _weights(tmp_path / "whole")
    read, _ = read_checkpoint(out)
    assert read.training["history"]["resumed"] == 1


def test_with_nothing_to_resume_a_training_begins_and_says_so(
    folder: Path, tmp_path: Path, tiny: str
) -> None:
    _finetune(folder, tmp_path / "whole")
    with pytest.warns(RuntimeWarning, match=r"c\.partial: there is nothing to resume; starting"):
        _finetune(folder, tmp_path / "c", resume=True)
    assert _weights(tmp_path / "c") == _weights(tmp_path / "whole")


def test_an_unfinished_training_is_not_replaced_without_a_word(
    folder: Path, tmp_path: Path, tiny: str
) -> None:
    place = _killed(folder, tmp_path / "c")

    def stop(event: ProgressEvent) -> None:
        raise KilledError

    with (
        pytest.warns(RuntimeWarning, match=r"\(1 of 2 epochs\) and will be replaced.*--resume"),
        pytest.raises(KilledError),
    ):
        _finetune(folder, tmp_path / "c", progress=stop)
    assert _epochs(place) == 1  # whoever stops in time loses nothing
    _finetune(folder, tmp_path / "c", resume=True)
    (place / "state.json").parent.mkdir()
    (place / "state.json").write_text("{")
    with pytest.warns(RuntimeWarning, match=r"\(damaged\) and will be replaced"):
        _finetune(folder, tmp_path / "c")


@pytest.mark.parametrize("pid", [999_999_999, os.getpid()], ids=["gone", "reborn"])
def test_a_kill_between_two_renames_loses_nothing(
    folder: Path, tmp_path: Path, tiny: str, pid: int
) -> None:
    # In a container a process often has the number that the killed one before it had.
    _finetune(folder, tmp_path / "whole")
    place = _killed(folder, tmp_path / "c")
    place.rename(tmp_path / f".{place.name}.old-{pid}-0a1b2c3d")
    made = _finetune(folder, tmp_path / "c", resume=True)
    assert edgeml.load_checkpoint(made)
    assert read_checkpoint(tmp_path / "c")[0].training["history"]["resumed"] == 1
    assert _weights(tmp_path / "c") == _weights(tmp_path / "whole")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_finished_training_is_kept_and_another_ones_is_refused(
    folder: Path, tmp_path: Path, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "c"
    made = _finetune(folder, out)
    monkeypatch.setattr(loop, "train", lambda *_, **__: pytest.fail("it trains again"))
    with pytest.warns(RuntimeWarning, match="was finished before; its checkpoint is kept"):
        assert _finetune(folder, out, resume=True) == made
    with pytest.raises(InputError, match="the checkpoint that is there differs in patience; "):
        _finetune(folder, out, resume=True, settings=edgeml.TrainingSettings(
            **{**vars(SETTINGS), "patience": 7}))  # fmt: skip
    described = out / "checkpoint.json"
    value = json.loads(described.read_bytes())
    del value["training"]["identity"]  # as of a version before this one
    described.write_text(json.dumps(value))
    with pytest.raises(InputError, match="differs in an unknown way"):
        finished_history(out, {})
    for damaged in ("{", '{"training": []}'):
        described.write_text(damaged)
        with pytest.raises(DataError, match="damaged"):
            finished_history(out, {})
