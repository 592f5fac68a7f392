"""The recorded runs of faults: the proxy does as it says, and a late generator is no result."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.resilience.faults import Outcomes, _outcomes
from benchmarks.resilience.proxy import Proxy
from edgeml.bench.record import Record
from edgeml.errors import MeasurementError


@pytest.fixture
def echo():
    """A server that says what it was told."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def serve():
            while True:
                try:
                    there, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(there,), daemon=True).start()

        def answer(there):
            with there, contextlib.suppress(OSError):
                while data := there.recv(1000):
                    there.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def asked(connection, word=b"hello"):
    started = time.monotonic()
    connection.sendall(word)
    assert connection.recv(1000) == word
    return time.monotonic() - started


def test_the_proxy_delays_falls_silent_and_recovers(echo):
    with Proxy(echo) as proxy, socket.create_connection(("127.0.0.1", proxy.port)) as there:
        there.settimeout(5)
        asked(there)
        proxy.back_s = 0.1
        assert asked(there) >= 0.1
        proxy.there_s = 0.1
        assert asked(there) >= 0.2
        proxy.there_s = proxy.back_s = 0.0
        proxy.silent = True
        there.settimeout(0.2)
        with pytest.raises(TimeoutError):
            asked(there)
        with socket.create_connection(("127.0.0.1", proxy.port)) as late:
            late.settimeout(0.2)
            with pytest.raises(TimeoutError):
                asked(late)
        proxy.silent = False
        there.settimeout(5)
        assert there.recv(1000) == b"hello"  # late, and not lost


def record(*, lag_ms=0.0, slow_ms=5.0):
    due = np.arange(400, dtype=np.int64) * 50_000_000
    took = np.where((due >= 5e9) & (due < 6e9), slow_ms, 5.0) * 1e6
    return Record(
        due_ns=due,
        sent_ns=due + int(lag_ms * 1e6),
        done_ns=due + took.astype(np.int64),
        lag_ns=np.full(400, int(lag_ms * 1e6)),
        outcome=np.zeros(400, dtype=np.uint8),
        scenario="server",
        offered_per_s=20.0,
    )


def diary(back_ns):
    rows = [(int(due), "triton/cpu/int8/1") for due in np.arange(0, 20e9, 50e6)]
    return {
        "answers": [
            (due, "onnxruntime/cpu/int8/1" if 5e9 <= due < back_ns else by) for due, by in rows
        ]
    }


STORY = SimpleNamespace(harmed_ns=int(5e9), well_ns=int(8e9))


def test_outcomes_are_those_of_the_window():
    found = _outcomes(record(slow_ms=300.0), STORY, diary(9e9))
    assert found.num_calls == 221
    assert found.p99_ms == found.worst_ms == 300.0
    assert found.away_s == 3.0
    assert found.back_s == 1.0
    assert found.good


def test_what_is_late_or_slow_is_not_good():
    slow = _outcomes(record(slow_ms=501.0), STORY, diary(9e9))
    assert not slow.good
    late = _outcomes(record(), STORY, diary(13.1e9))
    assert late.back_s == pytest.approx(5.1)
    assert not late.good
    never = _outcomes(record(), STORY, diary(30e9))
    assert never.back_s is None
    assert not never.good
    assert not replace(slow, p99_ms=5.0, num_failed=1).good
    assert replace(slow, p99_ms=5.0).good


def test_a_late_generator_makes_a_run_invalid():
    found = _outcomes(record(lag_ms=20.0), STORY, diary(9e9))
    assert isinstance(found, Outcomes)
    assert not found.valid
    assert "the generator was late" in found.reason


def test_a_server_that_was_never_well_again_is_no_result():
    with pytest.raises(MeasurementError, match="not well again"):
        _outcomes(record(), SimpleNamespace(harmed_ns=int(5e9), well_ns=0), diary(9e9))
