"""The two ends of the pipe: a worker's loop, and a parent whose worker fails in each way."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.peers import environments
from benchmarks.peers.opened import OpenPeer
from benchmarks.peers.process import ONE_THREAD, PeerError, WorkerProcess
from benchmarks.peers.worker import Worker, serve

_FAKE = Path(__file__).with_name("fake_worker.py")


@pytest.fixture
def start(tmp_path: Path):
    started: list[WorkerProcess] = []

    def make(behaviour: str) -> WorkerProcess:
        command = [sys.executable, str(_FAKE), behaviour]
        started.append(WorkerProcess(command, log=tmp_path / "log"))
        return started[-1]

    yield make
    for worker in started:
        worker.close()


@dataclass(frozen=True, kw_only=True)
class FailureCase:
    """How a worker misbehaves, and what its row shall say."""

    id: str
    reason: str


FAILURES = (
    FailureCase(
        id="dies", reason=r"^the worker died at 'block' \(exit 3\): no memory in place\.py$"
    ),
    FailureCase(id="hangs", reason=r"^no answer to 'block' within 0\.5 s$"),
    FailureCase(id="babbles", reason=r"^the worker's answer to 'block' is not of the protocol$"),
    FailureCase(id="refuses", reason=r"^ValueError: x\.py says no$"),
)


def test_a_worker_answers_more_than_once(start: Callable[[str], WorkerProcess]) -> None:
    worker = start("answers")
    assert worker.ask("block", timeout_s=20, texts=["a", "b"])["ns"] == [1000, 1000]
    assert worker.ask("block", timeout_s=20, texts=["a"])["labels"] == ["good"]


@pytest.mark.parametrize("case", FAILURES, ids=lambda case: case.id)
def test_a_failure_is_one_line_without_paths(
    case: FailureCase, start: Callable[[str], WorkerProcess]
) -> None:
    worker = start(case.id)
    started = time.monotonic()
    with pytest.raises(PeerError, match=case.reason):
        worker.ask("block", timeout_s=0.5 if case.id == "hangs" else 20, texts=["a"])
    worker.close()
    worker.close()
    assert time.monotonic() - started < 15


def test_a_program_that_is_not_there_is_a_peer_error(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match="cannot be started"):
        WorkerProcess([str(tmp_path / "python")], log=tmp_path / "log")


def test_the_real_worker_keeps_its_stdout_for_answers(tmp_path: Path) -> None:
    # Whatever a library prints, by Python or below it, must not break the protocol.
    code = (
        "import os, benchmarks.peers.worker as w\n"
        "def block(self, request):\n"
        "    print('chatter'); os.system('echo more')\n"
        f"    return {{'threads': [os.environ[k] for k in {sorted(ONE_THREAD)!r}]}}\n"
        "w.Worker.block = block\n"
        "w.main()\n"
    )
    worker = WorkerProcess([sys.executable, "-c", code], log=tmp_path / "log")
    try:
        reply = worker.ask("block", timeout_s=20)
    finally:
        worker.close()
    assert reply["threads"] == [ONE_THREAD[key] for key in sorted(ONE_THREAD)]
    assert {"chatter", "more"} <= set((tmp_path / "log").read_text().split())


def _serve(worker: Worker, *requests: dict[str, object]) -> list[dict[str, object]]:
    out = io.StringIO()
    serve([json.dumps(request) for request in requests], out, worker)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def _worker(**options: object) -> Worker:
    ticks = iter(range(0, 100_000, 10))
    worker = Worker(clock=lambda: next(ticks))
    worker._peer = OpenPeer(answer=lambda text: (text.upper(), 0.5), **options)
    return worker


def test_a_block_has_a_time_and_a_label_for_each_sentence() -> None:
    (reply,) = _serve(_worker(), {"op": "block", "texts": ["a", "b"]})
    assert reply["ok"] is True
    assert reply["ns"] == [10, 10]
    assert reply["labels"] == ["A", "B"]
    assert reply["scores"] == [0.5, 0.5]


def test_a_split_times_answers_and_the_model_alone_on_the_same_sentences() -> None:
    ran: list[str] = []
    worker = _worker(model_alone=lambda text: lambda: ran.append(text))
    (reply,) = _serve(worker, {"op": "split", "texts": ["a", "b", "c"]})
    assert reply["answer_ns"] == reply["model_ns"] == [10, 10, 10]
    assert ran == ["a", "b", "c"]


def test_an_error_is_an_answer_and_the_worker_goes_on() -> None:
    unknown, unopened, missing, good = _serve(
        _worker(),
        {"op": "close"},
        {"op": "whole", "texts": ["a"]},
        {},
        {"op": "block", "texts": ["a"]},
    )
    assert "unknown op 'close'" in str(unknown["error"])
    assert "whole lists" in str(unopened["error"])
    assert "KeyError" in str(missing["error"])
    assert good["ok"] is True


def test_nothing_is_answered_before_open() -> None:
    (reply,) = _serve(Worker(), {"op": "block", "texts": ["a"]})
    assert reply == {"ok": False, "error": "ValueError: no peer is open; send 'open' first"}


def test_an_environment_that_cannot_be_built_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "broken.txt"
    file.write_text("this is not a requirement\n")
    monkeypatch.setattr(environments, "requirements", lambda name: tmp_path / f"{name}.txt")
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    tool = tmp_path / "tools" / "python-venv"
    tool.parent.mkdir()
    # An environment in name: pip is this interpreter's, and refuses the file.
    tool.write_text(f'#!/bin/sh\nmkdir -p "$2/bin" && ln -s {sys.executable} "$2/bin/python"\n')
    tool.chmod(0o755)
    with pytest.raises(PeerError, match=r"environment cannot be made: .*[Ii]nvalid requirement"):
        environments.python_of("broken", cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*/.complete"))


def test_our_environment_is_this_one(tmp_path: Path) -> None:
    assert environments.python_of(None, cache=tmp_path) == Path(sys.executable)


def test_the_memory_of_a_server_counts() -> None:
    """A worker leads a group of its own, and what it starts is in it."""
    script = (
        "import subprocess, sys\n"
        "from benchmarks.peers.worker import _resident_mb\n"
        "alone = _resident_mb()\n"
        "code = 'held = bytearray(80_000_000); print(1, flush=True); input()'\n"
        "pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE}\n"
        "child = subprocess.Popen([sys.executable, '-c', code], **pipes)\n"
        "child.stdout.readline()\n"
        "print(_resident_mb() - alone)\n"
        "child.kill()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        start_new_session=True,
    )
    assert 80 <= float(done.stdout) < 160
