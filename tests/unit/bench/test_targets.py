"""Targets: named, made elsewhere, and compared with what is right."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgeml.bench.job import Job, write_job
from edgeml.bench.scenarios import SingleStream
from edgeml.bench.settings import RunSettings
from edgeml.bench.targets import CallTarget, TargetSpec, predictor_target
from edgeml.core.predictor import Prediction
from edgeml.errors import InputError


class _Predictor:
    """Answers a word's length, as a label."""

    served_by = "words/cpu/fp32/1"
    closed = False

    def predict(self, item: str) -> Prediction:
        return Prediction(label=str(len(item)))

    def close(self) -> None:
        self.closed = True


def test_a_predictor_is_asked_for_items_and_closed() -> None:
    predictor: Any = _Predictor()
    target = predictor_target(predictor, ["a", "bc"], expected_labels=["1", "3"])
    call = target.connect()
    assert [call(0), call(1)] == ["1", "2"]
    assert target.check(0, call(0)) is None
    assert target.check(1, call(1)) == "sample 1: '2' where '3' is right"
    assert target.conditions == {"served_by": "words/cpu/fp32/1"}
    assert target.checks_answers
    target.close()
    assert predictor.closed


def test_answers_without_an_expectation_are_not_checked() -> None:
    target = CallTarget(lambda sample: sample, num_samples=2)
    assert not target.checks_answers
    assert target.check(0, "anything") is None


def test_a_comparison_of_ones_own() -> None:
    target = CallTarget(
        lambda _sample: 1.04, expected=[1.0], same=lambda right, said: abs(right - said) < 0.05
    )
    assert target.check(0, 1.04) is None
    assert target.check(0, 1.06) is not None


def test_expected_answers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="2 samples and 1 expected"):
        CallTarget(lambda sample: sample, num_samples=2, expected=[1])
    with pytest.raises(InputError, match="do not fit"):
        CallTarget(lambda sample: sample, num_samples=0)


def test_a_generator_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    spec = TargetSpec(factory="tests.unit.bench.targets:marking", options={"file": str(asked)})
    scenario = SingleStream(seconds=120.0)
    write_job(tmp_path, Job(spec=spec, scenario=scenario, settings=RunSettings()))
    code = (
        "import subprocess, sys\n"
        "command = [sys.executable, '-m', 'edgeml.bench.worker', sys.argv[1]]\n"
        "child = subprocess.Popen(command)\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        _wait_until(asked.exists)
        parent.send_signal(signal.SIGKILL)
    _wait_until(lambda: not _command(child))


def _command(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def _wait_until(holds: Any) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)
