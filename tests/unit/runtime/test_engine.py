"""ONNX Runtime as an engine: what it opens, what it refuses, and in whose words."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from edgeml.core.signature import ModelSignature, TensorSpec
from edgeml.errors import (
    BundleError,
    ClosedError,
    InferenceError,
    ProviderUnavailableError,
    SignatureError,
)
from edgeml.runtime.engine import OnnxEngine, SessionSettings
from edgeml.tasks.predictor import TaskPredictor
from tests.small import INPUT, OUTPUT, TASK, parse, small_classifier

MODEL = small_classifier().SerializeToString()
LOOKUP = """
<ir_version: 10, opset_import: ["": 18]>
lookup (int64[batch, n] ids) => (float[batch, n] values)
<float[3] table = {1.5, 2.5, 3.5}> { values = Gather<axis = 0>(table, ids) }
"""


def _images(batch: int = 2) -> np.ndarray[Any, Any]:
    return np.arange(batch * 192, dtype=np.uint8).reshape(batch, 8, 8, 3)


def test_answers_are_onnx_runtimes() -> None:
    engine = OnnxEngine(MODEL, served_by="me")
    session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    (expected,) = session.run([OUTPUT], {INPUT: _images()})
    assert engine.served_by == "me"
    assert list(engine.run({INPUT: _images()})) == [OUTPUT]
    np.testing.assert_array_equal(engine.run({INPUT: _images()})[OUTPUT], expected)


def test_without_a_signature_the_files_own_is_read() -> None:
    signature = OnnxEngine(MODEL).signature
    assert [spec.describe() for spec in signature.inputs] == ["uint8 (batch, 8, 8, 3)"]
    assert [spec.describe() for spec in signature.outputs] == ["float32 (batch, 4)"]


def test_any_mapping_is_a_feed() -> None:
    engine = OnnxEngine(MODEL)
    feed = {INPUT: _images()}
    np.testing.assert_array_equal(
        engine.run(MappingProxyType(feed))[OUTPUT], engine.run(feed)[OUTPUT]
    )


@dataclass(frozen=True, kw_only=True)
class DeclaredCase:
    """A signature that the small classifier has, or has not."""

    id: str
    shape: tuple[int | str, ...] = ("batch", 8, 8, 3)
    dtype: str = "uint8"
    name: str = "image"
    classes: int | str = 4
    fits: bool = False


@pytest.mark.parametrize(
    "case",
    [
        DeclaredCase(id="same", fits=True),
        DeclaredCase(id="another-word-for-batch", shape=("n", 8, 8, 3), fits=True),
        DeclaredCase(id="free-where-the-file-is-fixed", shape=("n", "h", "w", 3), fits=True),
        DeclaredCase(id="fixed-batch", shape=(1, 8, 8, 3), fits=True),
        DeclaredCase(id="height", shape=("batch", 9, 8, 3)),
        DeclaredCase(id="rank", shape=("batch", 8, 8)),
        DeclaredCase(id="dtype", dtype="float32"),
        DeclaredCase(id="name", name="picture"),
        DeclaredCase(id="classes", classes=5),
    ],
    ids=lambda case: case.id,
)
def test_a_file_that_is_not_what_is_declared_is_refused(case: DeclaredCase, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(MODEL)
    declared = ModelSignature(
        inputs=(TensorSpec(name=case.name, dtype=case.dtype, shape=case.shape),),
        outputs=(TensorSpec(name=OUTPUT, dtype="float32", shape=("batch", case.classes)),),
    )
    if case.fits:
        assert OnnxEngine(file, signature=declared).signature == declared
        return
    with pytest.raises(BundleError, match=r"the manifest says .*export the bundle again") as caught:
        OnnxEngine(file, signature=declared)
    assert caught.value.path == str(file)


@dataclass(frozen=True, kw_only=True)
class BrokenCase:
    """Contents that are no model."""

    id: str
    data: bytes


@pytest.mark.parametrize(
    "case",
    [
        BrokenCase(id="empty", data=b""),
        BrokenCase(id="text", data=b"this is not a graph"),
        BrokenCase(id="truncated", data=MODEL[: len(MODEL) // 2]),
        BrokenCase(id="pickle", data=b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00}\x94."),
    ],
    ids=lambda case: case.id,
)
def test_a_broken_file_is_named_in_one_line(case: BrokenCase, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(case.data)
    for model, name in ((file, str(file)), (case.data, "the model")):
        with pytest.raises(BundleError) as caught:
            OnnxEngine(model)
        assert caught.value.path == name
        assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"none\.onnx"):
        OnnxEngine(tmp_path / "none.onnx")


@dataclass(frozen=True, kw_only=True)
class UnservedCase:
    """A valid graph with tensors that edgeml does not serve."""

    id: str
    text: str
    says: str


@pytest.mark.parametrize(
    "case",
    [
        UnservedCase(
            id="strings",
            text='<ir_version: 10, opset_import: ["": 18]> g (string[n] a) => (string[n] b)'
            " { b = Identity(a) }",
            says=r"tensor\(string\)",
        ),
        UnservedCase(
            id="sequence",
            text='<ir_version: 10, opset_import: ["": 18]> g (float[n] a) => (seq(float[n]) b)'
            " { b = SequenceConstruct(a) }",
            says="seq",
        ),
        UnservedCase(
            id="no-batch-axis",
            text='<ir_version: 10, opset_import: ["": 18]> g (float[n] a) => (float b)'
            " { b = ReduceSum<keepdims = 0>(a) }",
            says="first one must be the batch",
        ),
    ],
    ids=lambda case: case.id,
)
def test_a_graph_that_cannot_be_served_is_named(case: UnservedCase, tmp_path: Path) -> None:
    file = tmp_path / "odd.onnx"
    onnx.save(parse(case.text), file)
    with pytest.raises(BundleError, match=case.says) as caught:
        OnnxEngine(file)
    assert caught.value.path == str(file)


@pytest.mark.parametrize("device", ["cuda", "tpu"])
def test_a_device_that_is_not_there_is_an_error_not_a_fallback(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ProviderUnavailableError, match="ask for another") as caught:
        OnnxEngine(MODEL, settings=SessionSettings(device=device))
    assert caught.value.requested == {"cuda": "CUDAExecutionProvider"}.get(device, device)
    assert caught.value.available == ("CPUExecutionProvider",)


def test_a_session_that_fell_back_by_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # ONNX Runtime names a provider as available and then silently takes the CPU's.
    monkeypatch.setattr(
        onnxruntime,
        "get_available_providers",
        lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
    )
    session = SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: session)
    with pytest.raises(ProviderUnavailableError, match="CUDAExecutionProvider"):
        OnnxEngine(MODEL, settings=SessionSettings(device="cuda"))


@pytest.mark.parametrize("asked", [1, 2, 4])
def test_threads_are_those_that_were_asked_for(asked: int) -> None:
    tasks = Path("/proc/self/task")
    before = {path.name for path in tasks.iterdir()}
    engine = OnnxEngine(MODEL, settings=SessionSettings(num_threads=asked))
    started = {path.name for path in tasks.iterdir()} - before
    assert len(started) == asked - 1  # the caller's thread is one of them
    engine.close()


def test_a_feed_that_the_graph_cannot_compute_is_an_inference_error() -> None:
    engine = OnnxEngine(parse(LOOKUP).SerializeToString())
    with pytest.raises(InferenceError) as caught:
        engine.run({"ids": np.array([[0, 7]])})
    assert "out of" in caught.value.reason
    assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(engine.run({"ids": np.array([[0, 2]])})["values"], [[1.5, 3.5]])


def test_a_feed_that_does_not_fit_never_reaches_the_graph() -> None:
    engine = OnnxEngine(MODEL)
    with pytest.raises(SignatureError, match="float32"):
        engine.run({INPUT: _images().astype(np.float32)})


def test_closed_is_closed() -> None:
    engine = OnnxEngine(MODEL)
    engine.close()
    engine.close()
    with pytest.raises(ClosedError):
        engine.run({INPUT: _images()})


def test_the_optimised_graph_is_written_on_request(tmp_path: Path) -> None:
    path = tmp_path / "optimised.onnx"
    OnnxEngine(MODEL, settings=SessionSettings(optimised_path=path))
    assert [node.op_type for node in onnx.load(path).graph.node][-1] == "Softmax"


def test_a_prediction_costs_little_beyond_the_session() -> None:
    predictor = TaskPredictor(TASK, OnnxEngine(MODEL, signature=TASK.signature))
    session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    feed = {INPUT: _images(1)}

    def median_ms(call: Any) -> float:
        times = []
        for _ in range(300):
            before = time.perf_counter_ns()
            call()
            times.append(time.perf_counter_ns() - before)
        return statistics.median(times) / 1e6

    bare = median_ms(lambda: session.run([OUTPUT], feed))
    assert median_ms(lambda: predictor.predict_tensors(feed)) - bare < 1.0


@pytest.mark.parametrize("arena", [True, False])
def test_the_arena_is_a_setting(arena: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[bool] = []
    opening = onnxruntime.InferenceSession

    def spy(source: Any, options: Any, **rest: Any) -> Any:
        given.append(options.enable_cpu_mem_arena)
        return opening(source, options, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    engine = OnnxEngine(MODEL, settings=SessionSettings(arena=arena))
    assert given == [arena]
    assert engine.run({INPUT: _images()})[OUTPUT].shape == (2, 4)
