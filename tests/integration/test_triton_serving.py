"""What the real Triton answers, alone, together, and beside bad neighbours."""

from __future__ import annotations

import queue
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc as official
from tritonclient.utils import InferenceServerException

from edgeml.errors import ModelNotReadyError, ServerError
from edgeml.serving.client.engine import TritonEngine
from edgeml.serving.client.golden import check_golden
from edgeml.serving.repository.contract import task_of
from edgeml.tasks.predictor import TaskPredictor
from tests.unit.serving.tiny_bundle import LABELS, run_file

pytestmark = pytest.mark.triton


@pytest.fixture
def client(server):
    with official.InferenceServerClient(server.grpc.removeprefix("grpc://")) as running:
        yield running


def tensor(name: str, array: np.ndarray, wire: str) -> official.InferInput:
    made = official.InferInput(name, array.shape, wire)
    made.set_data_from_numpy(array)
    return made


def burst(client, model: str, feeds: list[list[official.InferInput]]) -> list[tuple]:
    """Send every feed without waiting for an answer; give results and errors in their order."""
    answers: queue.Queue = queue.Queue()
    for position, inputs in enumerate(feeds):

        def keep(result, error, position=position):
            answers.put((position, result, error))

        client.async_infer(model, inputs, callback=keep)
    received = sorted((answers.get(timeout=30) for _ in feeds), key=lambda answer: answer[0])
    return [(result, error) for _, result, error in received]


def test_every_model_is_named_with_its_state(server):
    rows = {row.name: row for row in server.models()}
    served = {
        name: (row.state, row.version, row.device, row.artefact)
        for name, row in rows.items()
        if row.state == "ready"
    }
    assert served == {
        "tiny": ("ready", "1", "cpu", "int8.onnx"),
        "everywhere": ("ready", "1", "cpu", "int8.onnx"),
        "lookup": ("ready", "1", "cpu", "fp32.onnx"),
    }
    assert rows["needs_gpu"].state == rows["review"].state == "skipped"
    assert "needs a GPU" in rows["needs_gpu"].reason
    assert "no version folder" in rows["review"].reason
    assert rows["flipped"].state == "unavailable"
    assert rows["flipped"].reason.startswith("'int8.onnx' has the sha256")


def test_the_official_client_gets_what_onnx_runtime_gives_in_process(client, tiny, rng):
    images = rng.integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    answer = client.infer("tiny", [tensor("image", images, "UINT8")])
    expected = run_file(tiny.path / "variants/int8/model.onnx", images)
    np.testing.assert_array_equal(answer.as_numpy("probabilities"), expected)


def test_the_official_client_reads_our_labels(client, rng):
    image = rng.integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
    wanted = official.InferRequestedOutput("probabilities", class_count=1)
    answer = client.infer("tiny", [tensor("image", image, "UINT8")], outputs=[wanted])
    label = answer.as_numpy("probabilities")[0, 0].decode().split(":", 2)[2]
    assert label in LABELS


def test_our_engine_agrees_to_the_bit_and_says_who_answered(engine, tiny, rng):
    images = rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    expected = run_file(tiny.path / "variants/int8/model.onnx", images)
    np.testing.assert_array_equal(engine.run({"image": images})["probabilities"], expected)
    assert engine.served_by == "triton/cpu/int8/1"
    assert engine.signature == tiny.manifest.signature


def test_golden_values_pass_through_the_server(engine, tiny):
    check = check_golden(engine, tiny)
    assert check.ok, check.detail


def test_a_predictor_is_made_from_the_contract_alone(engine, tiny, rng):
    picture = rng.integers(0, 256, (30, 20, 3), dtype=np.uint8)
    task = task_of(engine.contract)
    prediction = TaskPredictor(task, engine).predict(picture)
    image = task.prepare(picture)[None]
    (expected,) = run_file(tiny.path / "variants/int8/model.onnx", image)
    assert prediction.label == LABELS[expected.argmax()]
    assert prediction.served_by == "triton/cpu/int8/1"


def test_a_scalar_a_sample_has_the_shape_of_the_signature(server, lookup):
    engine = TritonEngine(server.grpc, model="lookup")
    answers = engine.run(lookup.golden().tensors)
    assert {name: array.shape for name, array in answers.items()} == {
        "sums": (2, 3),
        "totals": (2,),
    }
    assert check_golden(engine, lookup).ok
    engine.close()


def test_concurrent_callers_get_their_own_answers(engine, tiny, rng):
    images = rng.integers(0, 256, (64, 1, 8, 8, 3), dtype=np.uint8)
    with ThreadPoolExecutor(max_workers=16) as pool:
        answers = list(pool.map(lambda image: engine.run({"image": image}), images))
    expected = run_file(tiny.path / "variants/int8/model.onnx", images[:, 0])
    got = np.concatenate([answer["probabilities"] for answer in answers])
    np.testing.assert_allclose(got, expected, atol=1e-6)


def executions(client, model: str) -> tuple[int, int]:
    (row,) = client.get_inference_statistics(model).model_stats
    return row.inference_count, row.execution_count


def test_requests_that_wait_are_joined(client, tiny, rng):
    images = rng.integers(0, 256, (64, 4, 8, 8, 3), dtype=np.uint8)
    feeds = [[tensor("image", image, "UINT8")] for image in images]
    for _ in range(40):  # so small a model may answer each before the next one comes
        before = executions(client, "tiny")
        answers = burst(client, "tiny", feeds)
        after = executions(client, "tiny")
        assert after[0] - before[0] == images.shape[0] * images.shape[1]
        if joined := after[1] - before[1] < 64:
            break
    assert joined
    expected = run_file(tiny.path / "variants/int8/model.onnx", images.reshape(-1, 8, 8, 3))
    got = np.concatenate([result.as_numpy("probabilities") for result, _ in answers])
    np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.fixture
def busy_neighbour():
    """A process that keeps one core busy: wake-ups are lost only where threads have to wait."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        yield
        process.kill()


@pytest.mark.usefixtures("busy_neighbour")
def test_a_lone_caller_is_not_kept_waiting(engine):
    """A queue policy loses a wake-up in one of some hundred calls, each worth half a second.

    The half second is Triton's own and does not depend on the machine; a busy machine may make a
    call or two as long by chance.
    """
    image = {"image": np.zeros((1, 8, 8, 3), dtype=np.uint8)}
    lost_wakeups = 0
    for _ in range(2000):
        started = time.perf_counter()
        engine.run(image)
        lost_wakeups += 0.45 < time.perf_counter() - started < 0.65
    assert lost_wakeups <= 2


def test_bad_requests_harm_no_neighbour(client):
    good, unknown, nan = (1, 0.5), (9, 0.0), (2, np.nan)
    wanted = [good, good, unknown, good, nan, good] * 8
    feeds = [
        [
            tensor("ids", np.int64([[row]]), "INT64"),
            tensor("bias", np.full((1, 3), bias, dtype=np.float32), "FP32"),
        ]
        for row, bias in wanted
    ]
    for feed, (result, error) in zip(wanted, burst(client, "lookup", feeds), strict=True):
        if feed is good:
            assert error is None
            np.testing.assert_array_equal(result.as_numpy("sums"), [[3.5, 4.5, 5.5]])
        else:
            text = "out of data bounds" if feed is unknown else "holds NaN"
            assert text in str(error)


@pytest.mark.parametrize(
    ("array", "wire"),
    [
        (np.zeros((1, 8, 9, 3), dtype=np.uint8), "UINT8"),
        (np.zeros((1, 8, 8, 3), dtype=np.float32), "FP32"),
        (np.zeros((33, 8, 8, 3), dtype=np.uint8), "UINT8"),
    ],
    ids=["shape", "dtype", "batch"],
)
def test_a_request_that_does_not_fit_is_refused_and_the_next_one_served(
    client, engine, tiny, array, wire
):
    with pytest.raises(InferenceServerException):
        client.infer("tiny", [tensor("image", array, wire)])
    assert check_golden(engine, tiny).ok


@pytest.mark.parametrize("model", ["needs_gpu", "flipped", "review", "ghost"])
def test_a_model_that_is_not_served_is_not_ready(server, model):
    with pytest.raises(ModelNotReadyError, match=f"does not serve the model '{model}'"):
        TritonEngine(server.grpc, model=model)


def test_the_wrong_port_is_an_error_of_ours(server):
    with pytest.raises(ServerError):
        TritonEngine(server.http.replace("http", "grpc", 1), model="tiny", timeout_s=2)
