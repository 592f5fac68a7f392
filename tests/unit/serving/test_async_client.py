"""The async twin against a server that misbehaves, and what it leaves to the loop."""

from __future__ import annotations

import asyncio
import threading
import time

import grpc
import numpy as np
import pytest

import edgeml
from edgeml.errors import (
    ClosedError,
    InputError,
    ModelNotReadyError,
    ServerError,
    ServerOverloadedError,
    ServerTimeoutError,
    ServerUnreachableError,
    SignatureError,
)
from edgeml.serving.repository.config import CPU_CONFIG
from edgeml.serving.repository.model_configs import build_configs
from edgeml.serving.repository.options import ServingOptions
from edgeml.workflows.serving import connect_async
from tests.unit.serving.fake_server import FakeTriton, serving

PICTURE = np.zeros((64, 64, 3), dtype=np.uint8)


def config_of(contract, version=1):
    named = {"name": "clothing", "policy": "allowed", "version": version}
    return build_configs(contract, **named, options=ServingOptions())[CPU_CONFIG]


@pytest.fixture
def fake(contract):
    return FakeTriton(config=config_of(contract))


@pytest.fixture
def url(fake):
    with serving(fake) as address:
        yield address


def run_with(url, work, **options):
    """Connect in a loop of its own and run a coroutine function on the predictor."""

    async def inside():
        async with await connect_async(url, model="clothing", **options) as predictor:
            return await work(predictor)

    return asyncio.run(inside())


def test_it_answers_as_the_other_one_does(url, fake, contract):
    async def work(predictor):
        assert predictor.signature.to_json() == contract["signature"]
        one = await predictor.predict(PICTURE)
        many = await predictor.predict_batch([PICTURE] * 70)
        tensors = await predictor.predict_tensors({"image": PICTURE[None]})
        return [one, *many, *tensors], predictor.served_by

    answers, served_by = run_with(url, work)
    with edgeml.connect(url, model="clothing") as other:
        assert set(map(repr, answers)) == {repr(other.predict(PICTURE))}
        assert served_by == other.served_by
    assert len(answers) == 72
    assert max(fake.batches) <= 32


def test_many_calls_are_under_way_in_one_thread(url, fake):
    async def work(predictor):
        fake.wait = threading.Event()
        calls = [asyncio.ensure_future(predictor.predict(PICTURE)) for _ in range(40)]
        started = time.monotonic()
        while time.monotonic() - started < 0.3:  # the loop goes on meanwhile
            await asyncio.sleep(0.01)
        assert not any(call.done() for call in calls)
        fake.wait.set()
        return await asyncio.gather(*calls)

    assert len(run_with(url, work)) == 40


def test_preparing_does_not_hold_the_loop(url, monkeypatch):
    async def work(predictor):
        kind = type(predictor._task)
        prepare = kind.prepare

        def slowly(task, item):
            time.sleep(0.3)
            return prepare(task, item)

        monkeypatch.setattr(kind, "prepare", slowly)
        call = asyncio.ensure_future(predictor.predict(PICTURE))
        ticks = 0
        while not call.done():
            await asyncio.sleep(0.01)
            ticks += 1
        await call
        return ticks

    assert run_with(url, work) > 10


def test_bad_items_cost_their_neighbours_nothing(url):
    async def work(predictor):
        answers = await predictor.predict_batch([PICTURE, b"", PICTURE], on_error="return")
        with pytest.raises(InputError) as caught:
            await predictor.predict_batch([PICTURE, b""])
        assert caught.value.__notes__ == ["item 1 of the batch"]
        with pytest.raises(InputError):
            await predictor.predict(b"")
        with pytest.raises(SignatureError):
            await predictor.predict_tensors({"image": PICTURE})
        with pytest.raises(InputError, match="on_error"):
            await predictor.predict_batch([], on_error="ignore")
        return answers

    assert [type(row).__name__ for row in run_with(url, work)] == [
        "Prediction",
        "InputError",
        "Prediction",
    ]


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size", ServerOverloadedError),
        (grpc.StatusCode.INTERNAL, "Stub process 'c' is not healthy.", ModelNotReadyError),
        (grpc.StatusCode.INTERNAL, "no luck", ServerError),
    ],
)
def test_a_refusal_is_the_same_error(url, fake, code, details, kind):
    async def work(predictor):
        fake.refusal = code, details
        with pytest.raises(ServerError) as caught:
            await predictor.predict(PICTURE)
        fake.refusal = None
        await predictor.predict(PICTURE)
        return caught.value

    error = run_with(url, work)
    assert type(error) is kind
    assert details in str(error)


def test_deadlines_end_a_call(url, fake):
    async def work(predictor):
        fake.wait = threading.Event()
        with pytest.raises(ServerTimeoutError):
            await predictor.predict(PICTURE)
        started = time.monotonic()
        with edgeml.deadline(0.1), pytest.raises(ServerTimeoutError):
            await predictor.predict(PICTURE)
        with edgeml.deadline(0.1), pytest.raises(ServerTimeoutError):
            await predictor.predict_batch([PICTURE])
        assert time.monotonic() - started < 1
        fake.wait.set()

    run_with(url, work, timeout_s=1.0)


def test_a_cancelled_call_stays_cancelled_and_harms_no_other(url, fake):
    async def work(predictor):
        fake.wait = threading.Event()
        for call in (predictor.predict(PICTURE), predictor.predict_batch([PICTURE] * 70)):
            task = asyncio.ensure_future(call)
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        fake.wait.set()
        fake.wait = None
        assert (await predictor.predict(PICTURE)).label is not None

    run_with(url, work)


def test_closing_ends_calls_under_way(url, fake):
    async def work(predictor):
        fake.wait = threading.Event()
        call = asyncio.ensure_future(predictor.predict(PICTURE))
        await asyncio.sleep(0.2)
        await predictor.close()
        with pytest.raises(ClosedError):
            await call
        for late in (
            predictor.predict(PICTURE),
            predictor.predict_batch([]),
            predictor.predict_tensors({"image": PICTURE[None]}),
        ):
            with pytest.raises(ClosedError):
                await late
        await predictor.close()

    run_with(url, work)


def test_it_follows_a_new_version_and_refuses_another_contract(url, fake, contract):
    async def work(predictor):
        fake.versions = ["2"]
        assert (await predictor.predict(PICTURE)).served_by == "triton/cpu/int8/2"
        fake.config, fake.versions = config_of({**contract, "labels": ["a", "b"]}), ["3"]
        for _ in range(2):
            with pytest.raises(ServerError, match=r"another contract \(labels\)"):
                await predictor.predict(PICTURE)

    run_with(url, work)


def test_a_server_that_goes_away(fake):
    async def inside():
        with serving(fake) as url:
            predictor = await connect_async(url, model="clothing")
            await predictor.predict(PICTURE)
        with pytest.raises(ServerUnreachableError):
            await predictor.predict(PICTURE)
        await predictor.close()

    asyncio.run(inside())


@pytest.mark.parametrize("url", ["http://localhost:8000", "https://localhost:8000"])
def test_http_is_named_as_not_spoken(url):
    async def inside():
        await connect_async(url, model="clothing")

    with pytest.raises(InputError, match="the async client speaks gRPC; use grpc://host:port"):
        asyncio.run(inside())
