"""Starts and stops leave nothing, and a minute of calls does not make a server grow."""

from __future__ import annotations

import socket

import numpy as np
import pytest

from benchmarks.robustness.leaks import cycles, left_of, soak, trend
from benchmarks.robustness.subjects import make_subjects
from edgeml.serving.repository.publish import publish_bundle
from edgeml.serving.server.serve import start_triton

pytestmark = pytest.mark.triton

# Of a process of 40 to 75 MB. A copy of every answer that is kept would be some 20 times this.
MOST_KIB_PER_MIN = 2048


@pytest.fixture(scope="module")
def strained(triton, tmp_path_factory):
    root = tmp_path_factory.mktemp("strained")
    return root / "models", make_subjects(root / "bundles", repository=root / "models")


def test_what_is_left_is_found(triton, tiny, tmp_path):
    publish_bundle(tiny, tmp_path / "models")
    with start_triton(tmp_path / "models", installation=triton) as server:
        found = {text.split()[0] for text in left_of(server)}
    assert found == {"process", "segment", "port"}
    assert left_of(server) == []
    port = int(server.grpc.rsplit(":", 1)[1])
    with socket.create_server(("127.0.0.1", port)):
        assert left_of(server) == [f"port {port}"]


def test_a_trend_is_found_within_noise():
    seconds = np.arange(0, 1200.0)
    noise = np.random.default_rng(0).normal(0, 50, len(seconds))
    rows = list(zip(seconds, 50_000 + 10 * seconds / 60 + noise, strict=True))
    found = trend([(float(second), int(kib)) for second, kib in rows])
    assert abs(found["kib_per_min"] - 10) < 3 * found["error"] + 0.5
    assert found["error"] < 1


def test_three_cycles_leave_nothing(strained):
    repository, subjects = strained
    assert cycles(repository, subjects, count=3)["left"] == []


@pytest.mark.slow
def test_a_minute_of_calls(strained):
    repository, subjects = strained
    found = soak(repository, subjects, seconds=60)
    assert (found["faults"], found["left"]) == ([], [])
    assert (found["restarts"], found["cures"]) == (0, 0)
    assert found["answers"]["right"] > 1000
    for name, row in found["memory"].items():
        growth = row["kib_per_min"] - 3 * row["error"]
        assert growth < MOST_KIB_PER_MIN, (name, row)
