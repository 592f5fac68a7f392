"""Inputs through shared memory: what is sent, and what is left when things go wrong."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest

from edgeml.errors import (
    ClosedError,
    HostError,
    InputError,
    ServerError,
    ServerTimeoutError,
    ServerUnreachableError,
)
from edgeml.serving.client import shared_memory
from edgeml.serving.client.engine import TritonEngine
from edgeml.serving.repository.config import CPU_CONFIG
from edgeml.serving.repository.model_configs import build_configs
from edgeml.serving.repository.options import ServingOptions
from tests.unit.serving.fake_server import FakeTriton, serving


def images(batch: int, value: int = 7) -> dict[str, np.ndarray]:
    return {"image": np.full((batch, 64, 64, 3), value, dtype=np.uint8)}


def segments(pid: int | None = None) -> list[str]:
    return [path.name for path in Path("/dev/shm").glob(f"edgeml_*_{pid or os.getpid()}_*_inputs")]


@pytest.fixture
def fake(contract):
    named = {"name": "clothing", "policy": "allowed", "version": 1}
    return FakeTriton(config=build_configs(contract, **named, options=ServingOptions())[CPU_CONFIG])


@pytest.fixture
def url(fake):
    with serving(fake) as address:
        yield address


@pytest.fixture
def engine(url):
    engine = TritonEngine(url, model="clothing", timeout_s=5.0, shared_memory=True)
    yield engine
    engine.close()
    assert segments() == []


def test_the_server_reads_what_was_fed_and_one_segment_serves_one_caller(engine, fake):
    for value in (1, 2, 3):
        outputs = engine.run(images(2, value))
        np.testing.assert_array_equal(outputs["probabilities"], np.float32([[0.25, 0.75]] * 2))
    assert fake.shared == [images(2, value)["image"].tobytes() for value in (1, 2, 3)]
    assert len(fake.regions) == 1
    assert segments() == []  # its name goes as soon as the server has it
    engine.close()
    assert fake.regions == {}


def test_it_grows_on_demand_and_the_outgrown_one_is_forgotten(engine, fake):
    for batch in (1, 8, 3, 70):
        assert engine.run(images(batch))["probabilities"].shape == (batch, 2)
    assert fake.batches == [1, 8, 3, 32, 32, 6]
    (region,) = fake.regions.values()
    assert len(region) == 1 << 19
    assert fake.shared[-1] == images(6)["image"].tobytes()


def test_every_thread_has_its_own(engine, fake):
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(lambda value: engine.run(images(1, value)), range(100)))
    assert sorted(fake.shared) == sorted(
        images(1, value)["image"].tobytes() for value in range(100)
    )
    assert len(fake.regions) <= 8


def test_a_view_is_copied_in_its_own_order(engine, fake, rng):
    wide = rng.integers(0, 256, (1, 64, 128, 3), dtype=np.uint8)
    engine.run({"image": wide[:, :, ::2]})
    assert fake.shared == [wide[:, :, ::2].tobytes()]


def test_a_server_that_was_replaced_is_told_again(engine, fake):
    engine.run(images(1))
    fake.regions.clear()
    engine.run(images(1))
    assert len(fake.regions) == 1
    assert fake.batches == [1, 1]


def test_a_request_that_was_given_up_keeps_its_segment_for_a_while(url, fake, monkeypatch):
    engine = TritonEngine(url, model="clothing", timeout_s=0.3, shared_memory=True)
    engine.run(images(1, 1))
    fake.wait = threading.Event()
    with pytest.raises(ServerTimeoutError):
        engine.run(images(1, 2))
    fake.wait.set()
    fake.wait = None
    engine.run(images(1, 3))
    assert len(fake.regions) == 2  # the server may still read the other one
    monkeypatch.setattr(shared_memory.time, "monotonic", lambda now=time.monotonic: now() + 61)
    engine.run(images(1, 4))
    assert len(fake.regions) == 2
    engine.close()
    assert fake.regions == {}


def test_none_is_taken_from_under_a_request_at_the_end(url, fake):
    engine = TritonEngine(url, model="clothing", timeout_s=5, shared_memory=True)
    engine.run(images(1))
    fake.wait = threading.Event()
    with ThreadPoolExecutor(max_workers=1) as pool:
        call = pool.submit(engine.run, images(1))
        time.sleep(0.2)
        engine.close()
        with pytest.raises(ClosedError):
            call.result(timeout=5)
    assert len(fake.regions) == 1
    assert segments() == []


def test_a_refusal_leaves_nothing_and_the_next_call_is_answered(engine, fake):
    fake.refusal = grpc.StatusCode.INTERNAL, "no memory for you"
    with pytest.raises(ServerError, match="no memory for you") as caught:
        engine.run(images(1))
    assert "another user" in caught.value.__notes__[0]
    assert segments() == []
    fake.refusal = None
    engine.run(images(1))


def test_a_server_that_goes_away_leaves_nothing(fake):
    with serving(fake) as url:
        engine = TritonEngine(url, model="clothing", timeout_s=5, shared_memory=True)
        engine.run(images(1))
    with pytest.raises(ServerUnreachableError):
        engine.run(images(1))
    engine.close()
    assert segments() == []


def test_memory_that_is_not_there_is_an_error_of_this_machine():
    path = shared_memory.SHARED_MEMORY / "edgeml_test_too_much"
    try:
        with pytest.raises(HostError, match=rf"/dev/shm, is full; {1 << 50} bytes are needed"):
            shared_memory._allocate(path, 1 << 50)
    finally:
        path.unlink(missing_ok=True)


def test_a_segment_has_its_memory_before_it_is_written():
    path = shared_memory.SHARED_MEMORY / f"edgeml_test_whole_{os.getpid()}"
    try:
        with shared_memory._allocate(path, 1 << 20):
            assert path.stat().st_blocks * 512 >= 1 << 20
            assert path.stat().st_mode & 0o777 == 0o600
    finally:
        path.unlink(missing_ok=True)


def test_several_inputs_lie_behind_one_another():
    with mmap.mmap(-1, 4096) as memory:
        region = shared_memory.Region(name="r", memory=memory)
        rows = [
            ("one", "BOOL", (3,), np.array([True, False, True])),
            ("none", "FP32", (1, 0), np.zeros((1, 0), dtype=np.float32)),
            ("two", "FP16", (2, 2), np.float16([[1, 2], [3, 4]])),
        ]
        for row, (name, datatype, shape, place) in zip(rows, region.fill(rows), strict=True):
            assert (name, datatype, shape) == row[:3]
            assert place.region == "r"
            content = memory[place.offset : place.offset + place.size_bytes]
            assert content == row[3].tobytes()


def test_a_full_shared_memory_leaves_no_name(engine, monkeypatch):
    monkeypatch.setattr(shared_memory, "_SMALLEST_BYTES", 1 << 50)
    with pytest.raises(HostError, match="is full"):
        engine.run(images(1))
    monkeypatch.undo()
    assert segments() == []
    engine.run(images(1))


@pytest.mark.parametrize("url", ["grpc://10.0.0.1:8001", "http://triton.example:8000"])
def test_another_machine_is_refused(url):
    with pytest.raises(InputError, match="loopback address was expected"):
        TritonEngine(url, model="clothing", shared_memory=True)


CHILD = """
import sys, time
import numpy as np
from edgeml.serving.client.engine import TritonEngine
engine = TritonEngine(sys.argv[1], model="clothing", shared_memory=True)
engine.run({"image": np.zeros((1, 64, 64, 3), dtype=np.uint8)})
print("ready", flush=True)
time.sleep(float(sys.argv[2]))
"""


def child(url: str, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", CHILD, url, str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("kill", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_process_leaves_no_file(url, fake, kill):
    with child(url, 60) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(kill)
        process.wait(timeout=10)
    assert segments(process.pid) == []


def test_a_process_that_forgets_to_close_is_forgotten(url, fake):
    with child(url, 0) as process:
        assert process.wait(timeout=20) == 0
    assert fake.regions == {}
