"""OpenVINO as an engine: the same answers, the same refusals, nothing rounded in silence."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
from onnx import helper, numpy_helper

from edgeml.core.predictor import Engine
from edgeml.core.signature import ModelSignature, TensorSpec
from edgeml.errors import (
    BundleError,
    ClosedError,
    EdgemlError,
    HostError,
    HostMismatchWarning,
    InferenceError,
    InputError,
    ProviderUnavailableError,
    SignatureError,
)
from edgeml.runtime.engine import OnnxEngine, SessionSettings
from edgeml.runtime.openvino_engine import OpenVinoEngine
from tests.small import INPUT, OUTPUT, TASK, parse, small_classifier

MODEL = small_classifier().SerializeToString()
HEAD = '<ir_version: 10, opset_import: ["": 18, "com.microsoft": 1]>'
WORDS = (
    HEAD
    + """
words (int64[batch, sequence] ids, bool[batch, sequence] mask) => (float[batch] sums)
<float[4] table = {0.5, 1.5, 2.5, 3.5}, int64[1] last = {1}>
{
    values = Gather<axis = 0>(table, ids)
    kept = Cast<to = 1>(mask)
    masked = Mul(values, kept)
    sums = ReduceSum<keepdims = 0>(masked, last)
}
"""
)


def _images(batch: int = 2) -> np.ndarray[Any, Any]:
    return np.arange(batch * 192, dtype=np.uint8).reshape(batch, 8, 8, 3)


def _wide_model() -> bytes:
    """A product large enough for bf16 to show."""
    weights = np.random.default_rng(0).normal(0, 1, (64, 64)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "wide",
        [helper.make_tensor_value_info("x", 1, ["batch", 64])],
        [helper.make_tensor_value_info("y", 1, ["batch", 64])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def _values(batch: int = 4) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).normal(0, 1, (batch, 64)).astype(np.float32)


def test_answers_are_onnx_runtimes_for_every_batch(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(MODEL)
    reference = OnnxEngine(MODEL)
    for model in (file, MODEL):
        engine = OpenVinoEngine(model, signature=TASK.signature, served_by="me")
        assert isinstance(engine, Engine)
        assert engine.served_by == "me"
        assert engine.signature == TASK.signature
        for batch in (1, 3, 2):
            feed = {INPUT: _images(batch)}
            answers = engine.run(feed)
            assert list(answers) == [OUTPUT]
            np.testing.assert_allclose(answers[OUTPUT], reference.run(feed)[OUTPUT], atol=1e-6)


def test_every_axis_may_change_from_call_to_call() -> None:
    engine, reference = (kind(parse(WORDS).SerializeToString()) for kind in _ENGINES)
    rng = np.random.default_rng(0)
    for shape in ((1, 5), (3, 2), (2, 9)):
        feed = {"ids": rng.integers(0, 4, shape), "mask": rng.random(shape) > 0.5}
        np.testing.assert_allclose(engine.run(feed)["sums"], reference.run(feed)["sums"], rtol=1e-6)


_ENGINES = (OpenVinoEngine, OnnxEngine)


def test_a_later_call_leaves_earlier_answers_alone() -> None:
    engine = OpenVinoEngine(MODEL)
    first = engine.run({INPUT: _images(1)})[OUTPUT]
    kept = first.copy()
    second = engine.run({INPUT: 255 - _images(1)})[OUTPUT]
    assert not np.array_equal(second, kept)
    np.testing.assert_array_equal(first, kept)
    first[:] = 0  # the caller's own, to write to as well


@pytest.mark.parametrize("how", ["read-only", "every-second", "fortran", "offset"])
def test_memory_of_any_layout_is_a_feed(how: str) -> None:
    plain = _images(2)
    given: np.ndarray[Any, Any]
    if how == "read-only":
        given = plain.copy()
        given.flags.writeable = False
    elif how == "every-second":
        given = np.repeat(plain, 2, axis=0)[::2]
    elif how == "fortran":
        given = np.asfortranarray(plain)
    else:
        given = np.frombuffer(bytearray(b"x" + plain.tobytes()), np.uint8, offset=1)
        given = given.reshape(plain.shape)
    engine = OpenVinoEngine(MODEL)
    expected = engine.run({INPUT: plain})[OUTPUT]
    np.testing.assert_array_equal(engine.run({INPUT: given})[OUTPUT], expected)


def test_threads_share_one_engine() -> None:
    engine = OpenVinoEngine(_wide_model())
    feeds = [{"x": _values(1 + index % 3) + index} for index in range(24)]
    alone = [engine.run(feed)["y"] for feed in feeds]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(engine.run, feeds * 4))
    for index, answers in enumerate(together):
        np.testing.assert_allclose(answers["y"], alone[index % len(feeds)], rtol=1e-6)


def test_the_precision_is_the_one_that_is_named() -> None:
    feed = {"x": _values()}
    exact = OnnxEngine(_wide_model()).run(feed)["y"]
    plain = OpenVinoEngine(_wide_model()).run(feed)["y"]
    named = OpenVinoEngine(_wide_model(), options={"inference_precision": "f32"}).run(feed)["y"]
    np.testing.assert_array_equal(plain, named)
    # Left to itself OpenVINO computes in bf16 where the processor has it: 100 times as far off.
    assert np.abs(plain - exact).max() < 1e-4
    capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    options = {"inference_precision": "bf16"}
    if "BF16" in capabilities:
        half = OpenVinoEngine(_wide_model(), options=options).run(feed)["y"]
        assert 1e-3 < np.abs(half - exact).max() < 1
    else:
        with pytest.raises(HostError, match="bf16 was asked for"):
            OpenVinoEngine(_wide_model(), options=options)


def test_a_precision_that_this_machine_lacks_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Compiled:
        def get_property(self, name: str) -> openvino.Type:
            assert name == "INFERENCE_PRECISION_HINT"
            return openvino.Type.f32

    monkeypatch.setattr(openvino.Core, "compile_model", lambda *_: Compiled())
    with pytest.raises(HostError, match="computes in f32 on this machine and bf16 was asked for"):
        OpenVinoEngine(MODEL, options={"inference_precision": "bf16"})


@dataclass(frozen=True, kw_only=True)
class RefusedCase:
    """What OpenVINO has no setting or option for."""

    id: str
    says: str
    settings: SessionSettings = field(default_factory=SessionSettings)
    options: dict[str, Any] = field(default_factory=dict)
    error: type[EdgemlError] = InputError


@pytest.mark.parametrize(
    "case",
    [
        RefusedCase(id="option", options={"streams": 4}, says="the option 'streams'"),
        RefusedCase(id="f16", options={"inference_precision": "f16"}, says="f32 or bf16"),
        RefusedCase(id="list", options={"inference_precision": ["f32"]}, says="f32 or bf16"),
        RefusedCase(id="spinning", settings=SessionSettings(spinning=True), says="'spinning'"),
        RefusedCase(id="arena", settings=SessionSettings(arena=False), says="'arena'"),
        RefusedCase(
            id="written", settings=SessionSettings(optimised_path=Path("x")), says="optimised_path"
        ),
        RefusedCase(
            id="device",
            settings=SessionSettings(device="cuda"),
            says="'cuda' is not available",
            error=ProviderUnavailableError,
        ),
    ],
    ids=lambda case: case.id,
)
def test_what_it_has_not_is_refused(case: RefusedCase) -> None:
    with pytest.raises(case.error, match=case.says):
        OpenVinoEngine(MODEL, settings=case.settings, options=case.options)


@pytest.mark.parametrize("asked", [1, 2])
def test_threads_are_explicit(asked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    compiling = openvino.Core.compile_model

    def spy(core: Any, model: Any, device: str, config: dict[str, Any]) -> Any:
        given.update(config)
        return compiling(core, model, device, {**config, "INFERENCE_NUM_THREADS": 1})

    monkeypatch.setattr(openvino.Core, "compile_model", spy)
    if asked == 1:
        OpenVinoEngine(MODEL)
    else:  # fewer than were asked for: told
        with pytest.warns(HostMismatchWarning, match="runs 1 threads .* 2 were asked for"):
            OpenVinoEngine(MODEL, settings=SessionSettings(num_threads=2))
    assert given["INFERENCE_NUM_THREADS"] == asked
    assert given["NUM_STREAMS"] == 1
    assert given["PERFORMANCE_HINT"] == "LATENCY"
    assert given["ENABLE_CPU_PINNING"] is False


def test_an_operator_that_it_does_not_know_is_one_line(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        HEAD + " g (float[n] a) => (float[n] b) { b = com.microsoft.NoSuchOperator(a) }"
    )
    file = tmp_path / "odd.onnx"
    onnx.save(model, file)
    with pytest.raises(BundleError, match=r"com\.microsoft\.NoSuchOperator") as caught:
        OpenVinoEngine(file)
    assert caught.value.path == str(file)
    assert "use a variant for onnxruntime" in str(caught.value)
    assert "Exception from" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"this is not a graph", MODEL[: len(MODEL) // 2]], ids=len)
def test_a_broken_file_is_refused(data: bytes) -> None:
    with pytest.raises(BundleError, match="OpenVINO cannot open it") as caught:
        OpenVinoEngine(data)
    assert caught.value.path == "the model"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"none\.onnx"):
        OpenVinoEngine(tmp_path / "none.onnx")


@dataclass(frozen=True, kw_only=True)
class UnservedCase:
    """A valid graph that is not served, or not with this engine."""

    id: str
    graph: str
    says: str


@pytest.mark.parametrize(
    "case",
    [
        UnservedCase(
            id="strings", graph="(string[n] a) => (string[n] b) { b = Identity(a) }", says="string"
        ),
        # It would be computed in 32 bits.
        UnservedCase(
            id="double", graph="(double[n] a) => (double[n] b) { b = Add(a, a) }", says="f64"
        ),
        UnservedCase(
            id="no-batch-axis",
            graph="(float[n] a) => (float b) { b = ReduceSum<keepdims = 0>(a) }",
            says="first one must be the batch",
        ),
    ],
    ids=lambda case: case.id,
)
def test_a_graph_that_cannot_be_served_is_named(case: UnservedCase) -> None:
    with pytest.raises(BundleError, match=case.says):
        OpenVinoEngine(parse(f"{HEAD} g {case.graph}").SerializeToString())


def test_a_file_that_is_not_what_is_declared_is_refused() -> None:
    declared = ModelSignature(
        inputs=TASK.signature.inputs,
        outputs=(TensorSpec(name=OUTPUT, dtype="float32", shape=("batch", 5)),),
    )
    with pytest.raises(BundleError, match=r"the manifest says .*export the bundle again"):
        OpenVinoEngine(MODEL, signature=declared)


def test_integers_beyond_32_bits_are_refused_and_not_wrapped() -> None:
    graph = "(int64[n, k] a) => (int64[n, k] b) { b = Add(a, a) }"
    engine = OpenVinoEngine(parse(f"{HEAD} g {graph}").SerializeToString())
    np.testing.assert_array_equal(engine.run({"a": np.array([[3, -4]])})["b"], [[6, -8]])
    for value in (2**40, -(2**40)):
        with pytest.raises(InferenceError, match="'a' has values beyond 32 bits"):
            engine.run({"a": np.array([[1, value]])})


def test_a_feed_that_does_not_fit_never_reaches_the_graph() -> None:
    engine = OpenVinoEngine(MODEL)
    with pytest.raises(SignatureError, match="float32"):
        engine.run({INPUT: _images().astype(np.float32)})
    with pytest.raises(SignatureError, match="missing"):
        engine.run({})


def test_a_failure_inside_is_an_inference_error(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = OpenVinoEngine(MODEL)

    def broken(*_: Any) -> None:
        raise RuntimeError("Exception from src/a.cpp:1:\nCheck 'x' failed at b:\nit is too wide\n")

    monkeypatch.setattr(openvino.InferRequest, "infer", broken)
    with pytest.raises(InferenceError) as caught:
        engine.run({INPUT: _images()})
    assert caught.value.reason == "it is too wide"


def test_closed_is_closed() -> None:
    engine = OpenVinoEngine(MODEL)
    engine.close()
    engine.close()
    with pytest.raises(ClosedError):
        engine.run({INPUT: _images()})


def test_a_call_costs_little_beyond_openvino() -> None:
    engine = OpenVinoEngine(MODEL, signature=TASK.signature)
    request = (
        openvino.Core()
        .compile_model(openvino.Core().read_model(MODEL), "CPU", {"INFERENCE_NUM_THREADS": 1})
        .create_infer_request()
    )
    feed = {INPUT: _images(1)}

    def median_ms(call: Any) -> float:
        times = []
        for _ in range(300):
            before = time.perf_counter_ns()
            call()
            times.append(time.perf_counter_ns() - before)
        return statistics.median(times) / 1e6

    bare = median_ms(lambda: request.infer(feed))
    assert median_ms(lambda: engine.run(feed)) - bare < 0.5
