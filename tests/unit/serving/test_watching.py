"""What counts as dead, what is done about it, and what is left alone."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator

import numpy as np
import pytest

from edgeml.serving.server import watching
from edgeml.serving.server.probing import make_probe
from edgeml.serving.server.watching import ModelWatch
from tests.unit.serving.fake_models import CONFIG, UNHEALTHY, FakeModel, serving_model

WARM = [
    {
        "name": "golden-1",
        "inputs": {"x": {"data_type": "TYPE_FP32", "dims": [2], "input_data_file": "1/0.raw"}},
    }
]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(watching, "INTERVAL_S", 0.02)
    monkeypatch.setattr(watching, "TIMEOUT_S", 0.3)
    monkeypatch.setattr(watching, "_BETWEEN_CURES_S", 0.01)


@pytest.fixture
def folder(tmp_path):
    """A model's folder with a golden sample."""
    (tmp_path / "warmup/1").mkdir(parents=True)
    (tmp_path / "warmup/1/0.raw").write_bytes(np.float32([0.5, 2]).tobytes())
    return tmp_path


@contextlib.contextmanager
def watched(fake: FakeModel, folder) -> Iterator[tuple[ModelWatch, list[tuple[str, str]]]]:
    events: list[tuple[str, str]] = []
    with serving_model(fake) as url:
        watch = ModelWatch(
            "m", url=url, folder=folder, tell=lambda event, _, text: events.append((event, text))
        )
        watch.start()
        try:
            yield watch, events
        finally:
            watch.halt()
            fake.go_on.set()
            watch.join(timeout=5)
            assert not watch.is_alive()


def wait_for(condition) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_live_model_is_asked_and_left_alone(folder):
    fake = FakeModel()
    with watched(fake, folder) as (_, events):
        wait_for(lambda: len(fake.bodies) > 3)
    assert set(fake.calls) == {"infer"}
    assert events == []


def test_the_golden_sample_is_what_is_sent(folder):
    fake = FakeModel(config={**CONFIG, "model_warmup": WARM})
    with watched(fake, folder):
        wait_for(lambda: fake.bodies)
    assert fake.bodies[0].endswith(np.float32([0.5, 2]).tobytes())


def test_a_dead_model_is_unloaded_and_loaded(folder):
    fake = FakeModel(state="dead")
    with watched(fake, folder) as (_, events):
        wait_for(lambda: len(events) == 2)
    assert fake.calls[:4] == ["infer", "unload", "load", "infer"]
    assert events[0] == ("death", UNHEALTHY)
    assert events[1][0] == "cure"


def test_a_model_that_stays_dead_is_left_after_three_cures(folder):
    fake = FakeModel(state="dead", after_load="dead")
    with watched(fake, folder) as (watch, events):
        wait_for(lambda: not watch.is_alive())
    assert [event for event, _ in events] == ["death", "left"]
    assert fake.calls.count("load") == 3


def test_a_model_that_answers_others_is_sent_nothing(folder):
    fake = FakeModel()
    with watched(fake, folder):
        wait_for(lambda: fake.bodies)
        before = len(fake.bodies)
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            fake.answered += 5
            time.sleep(0.005)
        assert len(fake.bodies) - before <= 1


def test_a_model_that_hangs_is_dead_and_one_that_is_busy_is_not(folder):
    with watched(FakeModel(state="busy"), folder) as (_, events):
        time.sleep(0.8)
        assert events == []
    fake = FakeModel(state="hung")
    with watched(fake, folder) as (_, events):
        wait_for(lambda: len(events) == 2)
    assert "answered nothing" in events[0][1]


def test_a_refusal_is_an_answer(folder):
    fake = FakeModel(state="refusing")
    with watched(fake, folder) as (_, events):
        wait_for(lambda: len(fake.bodies) > 2)
    assert events == []


def test_only_a_real_sample_has_to_give_finite_answers(folder):
    fake = FakeModel(state="nan")
    with watched(fake, folder) as (_, events):
        wait_for(lambda: len(fake.bodies) > 2)
        assert events == []
    fake = FakeModel(state="nan", config={**CONFIG, "model_warmup": WARM})
    with watched(fake, folder) as (_, events):
        wait_for(lambda: len(events) == 2)
    assert "NaN" in events[0][1]


def test_a_model_that_somebody_unloaded_is_not_loaded(folder):
    fake = FakeModel(state="unloaded")
    with watched(fake, folder) as (watch, events):
        watch.suspect(0)
        time.sleep(0.2)
    assert (fake.calls, events) == ([], [])


def test_a_stub_that_has_ended_is_believed_at_once_if_instances_are_missing(folder):
    fake = FakeModel()
    with watched(fake, folder) as (watch, events):
        watch.suspect(2)  # as many as the configuration has: it was replaced
        time.sleep(0.2)
        assert events == []
        watch.suspect(1)
        wait_for(lambda: len(events) == 2)
    assert "stub" in events[0][1]


def test_a_server_that_has_gone_is_not_this_watchs_business(folder):
    events = []
    url = "http://127.0.0.1:9"
    watch = ModelWatch("m", url=url, folder=folder, tell=lambda *event: events.append(event))
    watch.start()
    time.sleep(0.2)
    watch.halt()
    watch.join(timeout=5)
    assert events == []


@pytest.mark.parametrize(
    "change",
    [
        {"sequence_batching": {}},
        {"ensemble_scheduling": {"step": []}},
        {"model_transaction_policy": {"decoupled": True}},
        {"input": [{"name": "x", "data_type": "TYPE_BF16", "dims": [2]}]},
    ],
)
def test_what_cannot_be_asked_without_harm_is_not_asked(tmp_path, change):
    assert make_probe({**CONFIG, **change}, tmp_path) is None


def test_zeros_stand_in_for_a_sample(tmp_path):
    rows = [
        {"name": "ids", "data_type": "TYPE_INT64", "dims": ["-1"]},
        {"name": "text", "data_type": "TYPE_STRING", "dims": ["2"]},
    ]
    probe = make_probe({"input": rows, "max_batch_size": "4"}, tmp_path)
    assert probe.body == bytes(8) + bytes(8)
    assert [row["shape"] for row in json.loads(probe.head)["inputs"]] == [[1, 1], [1, 2]]
    assert not probe.golden


@pytest.mark.parametrize("content", [b"", bytes(7)])
def test_a_damaged_sample_is_not_sent(folder, content):
    (folder / "warmup/1/0.raw").write_bytes(content)
    assert not make_probe({**CONFIG, "model_warmup": WARM}, folder).golden
