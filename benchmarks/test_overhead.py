"""What edgeml adds: over the bare session in-process, and over in-process through Triton."""

from __future__ import annotations

import numpy as np
import onnxruntime

import edgeml
from benchmarks.conftest import Deploy
from benchmarks.recording import Model
from edgeml.core.timing import TimingPlan, compare_latency

_PLAN = TimingPlan(rounds=200, calls=5, budget_s=15.0)


def test_predict_tensors_beyond_the_bare_session(
    benchmark,
    deploy: Deploy,
) -> None:
    """Take turns with the same file in a session of the same settings."""
    bundle = deploy(64).bundle
    image = bundle.golden().tensors["image"][:1]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        str(bundle.path / "variants/int8/model.onnx"),
        options,
        providers=["CPUExecutionProvider"],
    )
    with edgeml.load(bundle, variant="int8", num_threads=1) as predictor:
        feed = {"image": image}
        rows = compare_latency(
            {
                "bare": lambda: session.run(None, feed),
                "edgeml": lambda: predictor.predict_tensors(feed),
            },
            baseline="bare",
            plan=_PLAN,
        )
        benchmark.extra_info["bare_p50_ms"] = rows["bare"].p50_ms
        benchmark.extra_info["edgeml_p50_ms"] = rows["edgeml"].p50_ms
        benchmark.extra_info["added_us"] = 1e3 * (rows["edgeml"].p50_ms - rows["bare"].p50_ms)
        answer = benchmark.pedantic(
            predictor.predict_tensors, args=(feed,), rounds=200, iterations=1, warmup_rounds=10
        )
    expected = session.run(None, feed)[0][0]
    assert np.array_equal(np.float32(list(answer[0].scores.values())), expected)


def test_triton_grpc_beyond_in_process(
    benchmark,
    model: Model,
    triton: edgeml.Predictor,
) -> None:
    """Take turns with the same variant in-process: one thread, one instance, one caller."""
    bundle = model.bundle
    variant = triton.served_by.split("/")[2]
    image = bundle.golden().tensors["image"][:1]
    feed = {"image": image}
    with edgeml.load(bundle, variant=variant, num_threads=1) as here:
        rows = compare_latency(
            {
                "edge": lambda: here.predict_tensors(feed),
                "triton": lambda: triton.predict_tensors(feed),
            },
            baseline="edge",
            plan=_PLAN,
        )
        benchmark.extra_info["variant"] = variant
        benchmark.extra_info["edge_p50_ms"] = rows["edge"].p50_ms
        benchmark.extra_info["triton_p50_ms"] = rows["triton"].p50_ms
        benchmark.extra_info["added_ms"] = rows["triton"].p50_ms - rows["edge"].p50_ms
        answer = benchmark.pedantic(
            triton.predict_tensors, args=(feed,), rounds=200, iterations=1, warmup_rounds=10
        )
        assert answer[0].scores == here.predict_tensors(feed)[0].scores
