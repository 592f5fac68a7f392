"""Candidates measured on this machine and judged by the gate."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt

from edgeml.core.gate import Gate
from edgeml.core.paired import compare_accuracy, compare_agreement
from edgeml.core.progress import Progress, ProgressEvent
from edgeml.core.timing import Latency, TimingPlan, compare_latency
from edgeml.errors import BundleError, InferenceError
from edgeml.exporting.checks import (
    PARITY_TOLERANCE,
    check_invariance,
    check_parity,
    run_batches,
)
from edgeml.runtime.engine import OnnxEngine
from edgeml.tasks.image import INPUT, ImageTask
from edgeml.workflows.candidates import Candidate, Samples

_PARITY_SAMPLES = 64
_INVARIANCE_SAMPLES = 24
_TIMING_ATTEMPTS = 3


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """Threads for the answers (latency is taken with one), and how much to time."""

    num_threads: int
    plan: TimingPlan


def measure_candidates(
    candidates: list[Candidate],
    task: ImageTask,
    selection: Samples,
    reference: npt.NDArray[np.float32],
    *,
    measuring: Measuring,
    progress: Progress,
) -> None:
    """Fill in parity, invariance, answers on the selection split, and latency.

    A candidate that cannot run, or answers with NaN, is marked broken and left out.

    Args:
        candidates: fp32 first.
        task: The contract.
        selection: What variants are compared on.
        reference: The source's probabilities for the first samples of the selection split.
        measuring: Threads and timing.
        progress: Told of each candidate.
    """
    single: dict[str, OnnxEngine] = {}
    for done, candidate in enumerate(candidates):
        note = candidate.name
        progress(ProgressEvent(stage="prove", done=done, total=len(candidates), note=note))
        if candidate.broken:
            continue
        try:
            with contextlib.closing(
                candidate.engine(task, num_threads=measuring.num_threads)
            ) as engine:
                candidate.probabilities = run_batches(engine, selection.images)
            if not np.isfinite(candidate.probabilities).all():
                candidate.broken = "it answers with NaN or infinity"
                continue
            single[candidate.name] = candidate.engine(task, num_threads=1)
            _check_answers(candidate, single[candidate.name], selection, reference)
        except (BundleError, InferenceError) as exc:
            candidate.broken = f"ONNX Runtime cannot run it ({exc})"
            single.pop(candidate.name, None)
    progress(ProgressEvent(stage="prove", done=len(candidates), total=len(candidates)))
    one = {INPUT: selection.images[:1]}
    progress(ProgressEvent(stage="time", done=0, total=1, note="interleaved, one thread"))
    calls = {name: (lambda engine=engine: engine.run(one)) for name, engine in single.items()}
    if candidates[0].broken:
        return
    timings, attempts = _steady(calls, baseline=candidates[0].name, plan=measuring.plan)
    for candidate in candidates:
        if candidate.broken:
            continue
        candidate.latency = timings[candidate.name]
        candidate.evidence["latency"] = {
            **asdict(timings[candidate.name]),
            "attempts": attempts,
            "threads": 1,
            "batch": 1,
            "baseline": candidates[0].name,
        }
        single[candidate.name].close()
    progress(ProgressEvent(stage="time", done=1, total=1))


def _steady(
    calls: Mapping[str, Callable[[], object]], *, baseline: str, plan: TimingPlan
) -> tuple[dict[str, Latency], int]:
    """Time in turns, again while a neighbour's load makes the ratios unstable, a few times."""
    for attempt in range(1, _TIMING_ATTEMPTS + 1):
        again = replace(plan, seed=plan.seed + attempt - 1)
        timings = compare_latency(calls, baseline=baseline, plan=again)
        if all(row.stable for row in timings.values()):
            break
    return timings, attempt


def judge(candidate: Candidate, fp32: Candidate, selection: Samples, gate: Gate) -> tuple[str, str]:
    """Return verdict and reason of one candidate, before the best is chosen.

    Returns:
        ``reference`` for fp32; ``passed`` for what is no worse and proven faster; else
        ``rejected``.
    """
    assert candidate.probabilities is not None
    assert fp32.probabilities is not None
    assert candidate.latency is not None
    if candidate is fp32:
        return "reference", "what the others are compared with"
    paired = compare_accuracy(
        fp32.probabilities.argmax(axis=1) == selection.targets,
        candidate.probabilities.argmax(axis=1) == selection.targets,
    )
    agreement = compare_agreement(fp32.probabilities, candidate.probabilities)
    accurate, why = gate.judge_accuracy(paired)
    candidate.evidence["accuracy"] = {
        **asdict(paired),
        "limit": gate.max_accuracy_drop,
        "proven": paired.proven(gate.max_accuracy_drop),
        "samples_needed": paired.samples_needed(gate.max_accuracy_drop),
    }
    candidate.evidence["agreement"] = asdict(agreement)
    candidate.evidence["no_worse"] = accurate and not candidate.failures
    speed = _speed_text(candidate.latency)
    if candidate.failures:
        return "rejected", f"{'; '.join(candidate.failures)}; {why}; {speed}"
    if not accurate:
        return "rejected", f"{why}; {speed}"
    if not candidate.latency.proven_faster:
        note = " (kept for GPUs; not run on a GPU)" if candidate.precision == "fp16" else ""
        return "rejected", f"not proven faster than fp32 on this host: {speed}; {why}{note}"
    return "passed", f"{speed}; {why}"


def _check_answers(
    candidate: Candidate,
    engine: OnnxEngine,
    selection: Samples,
    reference: npt.NDArray[np.float32],
) -> None:
    parity = check_parity(
        reference,
        run_batches(engine, selection.images[: len(reference)], batch=5),
        tolerance=PARITY_TOLERANCE[candidate.precision],
    )
    candidate.evidence["parity"] = parity.to_json()
    if not parity.ok:
        candidate.failures.append(
            f"differs from its source by {parity.max_abs_diff:.2g}, {parity.tolerance:g} allowed"
        )
    invariance = check_invariance(engine, selection.images[:_INVARIANCE_SAMPLES])
    candidate.evidence["invariance"] = invariance.to_json()
    if not invariance.ok:
        candidate.failures.append(
            f"answers depend on their neighbours in a batch (by {invariance.max_abs_diff:.2g})"
        )


def keep_best_int8(
    candidates: list[Candidate], verdicts: dict[str, tuple[str, str]]
) -> tuple[list[Candidate], dict[str, tuple[str, str]]]:
    """Keep one INT8 candidate, under the name ``int8``; the others become its evidence.

    The best is the fastest of those that passed; where none did, the one that lost fewest answers.

    Args:
        candidates: All that were measured and judged.
        verdicts: Name to verdict and reason, as :func:`judge` gave them.
    """
    quantized = [row for row in candidates if row.precision == "int8"]
    if not quantized:
        return candidates, verdicts

    def merit(row: Candidate) -> tuple[bool, float]:
        passed = verdicts[row.name][0] == "passed"
        assert row.latency is not None
        drop = row.evidence["accuracy"]["drop"]
        return passed, row.latency.speedup if passed else -drop

    best = max(quantized, key=merit)
    kept = [row for row in candidates if row.precision != "int8" or row is best]
    best.evidence["other_candidates"] = [
        {
            "name": row.name,
            "recipe": row.recipe,
            "verdict": verdicts[row.name][0],
            "reason": verdicts[row.name][1],
        }
        for row in quantized
        if row is not best
    ]
    settled = {row.name: verdicts[row.name] for row in kept}
    settled["int8"] = settled.pop(best.name)
    best.evidence["candidate"] = best.name
    best.name = "int8"
    return kept, settled


def parity_samples(selection: Samples) -> npt.NDArray[np.uint8]:
    """Return the pictures on which variants are compared with their source."""
    return selection.images[:_PARITY_SAMPLES]


def _speed_text(latency: Latency) -> str:
    text = f"{latency.speedup:.2f}x [{latency.speedup_low:.2f}, {latency.speedup_high:.2f}]"
    return text if latency.stable else f"{text}, unstable"
