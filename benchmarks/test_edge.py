"""In-process: a picture's file in, a label out; batches; and callers who queue for one model."""

from __future__ import annotations

from typing import Any

import pytest

import edgeml
from benchmarks.recording import Model, answering, keep, keep_summary
from edgeml.bench.arrivals import poisson
from edgeml.bench.floors import null_floor
from edgeml.bench.running import run
from edgeml.bench.scenarios import Server
from edgeml.bench.summary import summarise
from edgeml.bench.targets import TargetSpec

_GROUP = "edge: one picture's file to its label, one thread"


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_one_picture(benchmark, model: Model, items: list[bytes], variant: str) -> None:
    """Decode, compute and read the answer."""
    benchmark.group = _GROUP
    with edgeml.load(model.bundle, variant=variant, num_threads=1) as predictor:
        answer = benchmark.pedantic(
            answering(predictor, items), rounds=1500, iterations=1, warmup_rounds=50
        )
        keep(benchmark, model, predictor.served_by, threads=1, batch=1)
    assert answer.label in model.bundle.manifest.labels


def test_decoding_alone(benchmark, model: Model, items: list[bytes]) -> None:
    """From a file to the model's input: what no runtime makes faster."""
    from edgeml.workflows.loading import task_of

    task = task_of(model.bundle)
    benchmark.group = _GROUP
    prepared = benchmark.pedantic(task.prepare, args=(items[0],), rounds=500, warmup_rounds=20)
    keep(benchmark, model, f"-/-/{model.bundle.manifest.chosen}/-", threads=1, batch=1)
    assert prepared.dtype == "uint8"


def test_a_batch_of_eight(benchmark, model: Model, items: list[bytes]) -> None:
    """Eight files at once, through the variant that batches run."""
    batch = [items[number % len(items)] for number in range(8)]
    benchmark.group = "edge: eight pictures"
    with edgeml.load(model.bundle, num_threads=1) as predictor:
        answers = benchmark.pedantic(
            predictor.predict_batch, args=(batch,), rounds=150, warmup_rounds=5
        )
        keep(benchmark, model, answers[0].served_by, threads=1, batch=8)
    benchmark.extra_info["throughput_per_s"] = 8e3 / benchmark.extra_info["p50_ms"]
    assert len(answers) == 8


def test_callers_in_a_queue(benchmark, model: Model) -> None:
    """Poisson arrivals at 40 % of what one model can answer; waiting counts."""
    options: dict[str, Any] = {"bundle": str(model.path.absolute()), "num_threads": 1}
    spec = TargetSpec(factory="edgeml.workflows.profiling.factories:edge", options=options)
    rate = _rate(model)
    schedule = poisson(rate, num_queries=max(680, int(5 * rate)), seed=0)
    scenario = Server(schedule=schedule, callers=1, when_busy="queue")
    record = benchmark.pedantic(run, args=(spec, scenario), rounds=1, iterations=1)
    summary = summarise(record, floor=null_floor("in-process", seconds=0.5))
    keep_summary(benchmark, model, record.conditions["served_by"], summary, threads=1, batch=1)
    assert summary.errors == 0
    service, response = summary.service["p50"], summary.response["p50"]
    assert service.value_ms is not None
    assert response.value_ms is not None
    assert response.value_ms >= service.value_ms


def _rate(model: Model) -> float:
    from time import perf_counter

    item = model.bundle.open_file(model.bundle.golden().inputs[0])
    with edgeml.load(model.bundle, num_threads=1) as predictor:
        for _ in range(20):
            predictor.predict(item)
        begun = perf_counter()
        for _ in range(50):
            predictor.predict(item)
    return min(200.0, 0.4 * 50 / (perf_counter() - begun))
