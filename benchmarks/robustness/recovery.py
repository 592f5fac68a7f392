"""How long a model is gone after each kind of crash, with the server watched as ``serve`` does."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import tritonclient.grpc as official
from tritonclient.utils import InferenceServerException

from benchmarks.robustness.drafts import HttpRequest, draft_of, to_json
from benchmarks.robustness.neighbours import arrays_of, inputs_of, known_answers, same
from benchmarks.robustness.sending import send_http
from benchmarks.robustness.subjects import Subject
from edgeml.serving.server.running import TritonServer
from edgeml.serving.server.serve import start_triton
from edgeml.serving.server.stubs import stubs_of

_AFTER_START_S = 1.5
_WITHIN_S = 30.0
_ASK_S = 0.5
Say = Callable[[str], None]


def recovery(
    repository: Path, subjects: Sequence[Subject], *, repeats: int, say: Say = lambda _: None
) -> dict[str, Any]:
    """Do each kind of harm to fresh servers and time what a caller sees.

    Returns:
        By fault, seconds from the harm until the first model answers rightly again; and for three
        crashes of one server in a row, the seconds of each.
    """
    found: dict[str, list[float]] = {}
    for name, harm in _harms(subjects).items():
        for _ in range(repeats):
            with _supervised(repository, subjects) as (server, known):
                seconds = _gone_for(server, subjects[0], known, harm)
            found.setdefault(name, []).append(seconds)
            say(f"{name}: {seconds:.2f} s")
    shape = _harms(subjects)["frontend, a shape of 2^63-1"]
    with _supervised(repository, subjects) as (server, known):
        in_a_row = [_gone_for(server, subjects[0], known, shape) for _ in range(3)]
    return {
        "models": len(subjects),
        "seconds": {name: [round(value, 2) for value in rows] for name, rows in found.items()},
        "median_s": {name: round(median(rows), 2) for name, rows in found.items()},
        "slowest_s": {name: round(max(rows), 2) for name, rows in found.items()},
        "three in a row": [round(value, 2) for value in in_a_row],
    }


def _harms(subjects: Sequence[Subject]) -> dict[str, Callable[[TritonServer], None]]:
    draft = draft_of(subjects[0].model, dict(subjects[0].feeds[0]))
    draft.inputs[0].shape, draft.inputs[0].data = [1, 2**63 - 1], [0]
    wide, levels = to_json(draft), 1_000_000
    deep = _post(wide, b"[" * levels + b"]" * levels)
    flood = _post(wide, b"1\r\n \r\n" * 600_000 + b"0\r\n\r\n", chunked=True)
    return {
        "frontend, a shape of 2^63-1": lambda server: _send(server, wide),
        "frontend, JSON a million deep": lambda server: _send(server, deep),
        "frontend, a body of 600,000 chunks": lambda server: _send(server, flood),
        "stub, SIGKILL": lambda server: _kill_stub(server, subjects[0].model),
        "server, SIGKILL": lambda server: os.kill(server.pid, signal.SIGKILL),
    }


def _post(request: HttpRequest, body: bytes, *, chunked: bool = False) -> HttpRequest:
    length = ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(body)))
    return HttpRequest(method="POST", target=request.target, headers=(length,), body=body)


def _send(server: TritonServer, request: HttpRequest) -> None:
    """Send what kills the server, and return when it has: the sending itself is not counted."""
    before = server.pid
    send_http(server.http, request)
    deadline = time.monotonic() + _WITHIN_S
    while server.pid == before and server.is_running() and time.monotonic() < deadline:
        time.sleep(0.005)


def _kill_stub(server: TritonServer, model: str) -> None:
    os.kill(stubs_of(server.token)[model][0].pid, signal.SIGKILL)


@contextlib.contextmanager
def _supervised(repository: Path, subjects: Sequence[Subject]) -> Any:
    with start_triton(repository, supervised=True) as server:
        known = known_answers(server.grpc, subjects)
        time.sleep(_AFTER_START_S)  # the watches look once a second
        yield server, known


def _gone_for(
    server: TritonServer, subject: Subject, known: Any, harm: Callable[[TritonServer], None]
) -> float:
    """Return seconds from the harm until the first right answer after it."""
    harm(server)
    started = time.monotonic()
    wanted = known[subject.model][0]
    while time.monotonic() - started < _WITHIN_S:
        with (
            contextlib.suppress(InferenceServerException),
            official.InferenceServerClient(server.grpc.removeprefix("grpc://")) as client,
        ):
            feed = inputs_of(subject.feeds[0])
            answer = client.infer(subject.model, feed, client_timeout=_ASK_S)
            if same(arrays_of(answer), wanted):
                return time.monotonic() - started
        time.sleep(0.01)
    raise TimeoutError(f"'{subject.model}' was not served again within {_WITHIN_S:g} s")
