"""Candidates measured on this machine and judged by the gate."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edgeml.core.gate import Gate
from edgeml.core.paired import compare_accuracy, compare_agreement
from edgeml.core.progress import Progress, ProgressEvent
from edgeml.core.timing import Latency, TimingPlan, compare_latency
from edgeml.errors import BundleError, InferenceError
from edgeml.exporting.checks import (
    PARITY_TOLERANCE,
    UNSURE_MARGIN,
    Invariance,
    check_invariance,
    check_parity,
    run_batches,
)
from edgeml.runtime.engine import OnnxEngine
from edgeml.tasks.samples import Samples
from edgeml.workflows.candidates import Candidate, LabelledSamples
from edgeml.workflows.sources import Source

_PARITY_SAMPLES = 64
_TIMING_ATTEMPTS = 3


# A variant that answers single items only must be this much faster to be worth a second one in
# memory for batches.
_WORTH_TWO = 1.05
# Candidates whose speeds differ by less are equally fast; of those the most faithful is taken.
_EQUALLY_FAST = 1.03


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """Threads for the answers (latency is taken with one), and how much to time."""

    num_threads: int
    plan: TimingPlan


def measure_candidates(
    candidates: list[Candidate],
    source: Source,
    selection: LabelledSamples,
    *,
    measuring: Measuring,
    progress: Progress,
) -> None:
    """Fill in parity, invariance, answers on the selection split, and latency.

    A candidate that cannot run, or answers with NaN, is marked broken and left out. One whose
    answers depend on their neighbours answers the selection split one by one.

    Args:
        candidates: fp32 first.
        source: What is exported.
        selection: What variants are compared on.
        measuring: Threads and timing.
        progress: Told of each candidate.
    """
    reference = source.reference(selection.inputs.first(_PARITY_SAMPLES), measuring.num_threads)
    single: dict[str, OnnxEngine] = {}
    unsure = _unsure(reference)
    for done, candidate in enumerate(candidates):
        note = candidate.name
        progress(ProgressEvent(stage="prove", done=done, total=len(candidates), note=note))
        if candidate.broken:
            continue
        try:
            engine = candidate.engine(source.signature, num_threads=1)
            single[candidate.name] = engine
            _check_parity(candidate, engine, selection.inputs, reference)
            invariance = _check_invariance(candidate, engine, source, selection.inputs, unsure)
            with contextlib.closing(
                candidate.engine(source.signature, num_threads=measuring.num_threads)
            ) as fast:
                candidate.probabilities = run_batches(
                    fast, selection.inputs, batch=None if invariance.ok else 1
                )
            if not np.isfinite(candidate.probabilities).all():
                candidate.broken = "it answers with NaN or infinity"
        except (BundleError, InferenceError) as exc:
            candidate.broken = f"ONNX Runtime cannot run it ({exc})"
            single.pop(candidate.name, None)
    progress(ProgressEvent(stage="prove", done=len(candidates), total=len(candidates)))
    if not candidates[0].broken:
        _time(candidates, single, selection.inputs, plan=measuring.plan, progress=progress)
    for engine in single.values():
        engine.close()


def _time(
    candidates: list[Candidate],
    engines: Mapping[str, OnnxEngine],
    inputs: Samples,
    *,
    plan: TimingPlan,
    progress: Progress,
) -> None:
    """Time what can be used, in turns, on a sample of middling cost."""
    one = inputs.feed([inputs.typical()])
    progress(ProgressEvent(stage="time", done=0, total=1, note="interleaved, one thread"))
    sound = [row for row in candidates if not row.broken]
    calls = {row.name: (lambda engine=engines[row.name]: engine.run(one)) for row in sound}
    timings, attempts = _steady(calls, baseline=candidates[0].name, plan=plan)
    for candidate in sound:
        candidate.latency = timings[candidate.name]
        candidate.evidence["latency"] = {
            **asdict(timings[candidate.name]),
            "attempts": attempts,
            "threads": 1,
            "batch": 1,
            "input": {name: list(array.shape) for name, array in one.items()},
            "baseline": candidates[0].name,
        }
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


def judge(
    candidate: Candidate, fp32: Candidate, selection: LabelledSamples, gate: Gate
) -> tuple[str, str]:
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
        selection.right(fp32.probabilities), selection.right(candidate.probabilities)
    )
    agreement = compare_agreement(
        fp32.probabilities, candidate.probabilities, multi_label=selection.targets.ndim == 2
    )
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
    alone = "" if candidate.batch_safe else "; for single items only: answers depend on neighbours"
    return "passed", f"{speed}; {why}{alone}"


def choose(
    candidates: list[Candidate], verdicts: Mapping[str, tuple[str, str]]
) -> tuple[Candidate, Candidate]:
    """Return what answers single items, and what answers batches.

    The fastest that passed answers both, unless one whose answers depend on their neighbours is
    faster by a twentieth: then it answers single items. Of several that are equally fast, within
    three per cent, the one whose probabilities are nearest fp32's is taken. What passed nothing
    leaves fp32.
    """
    fp32 = candidates[0]
    passed = [row for row in candidates if verdicts[row.name][0] == "passed"]
    together = _best([row for row in passed if row.batch_safe], otherwise=fp32)
    single = _best([row for row in passed if not row.batch_safe], otherwise=together)
    if _speed(single) < _WORTH_TWO * max(1.0, _speed(together)):
        single = together
    return single, together


def _best(candidates: list[Candidate], *, otherwise: Candidate) -> Candidate:
    """Return the most faithful of those that are as good as fastest."""
    if not candidates:
        return otherwise
    fastest = max(map(_speed, candidates))
    near = [row for row in candidates if _speed(row) * _EQUALLY_FAST >= fastest]
    return min(near, key=lambda row: row.evidence["agreement"]["mean_kl"])


def _speed(row: Candidate) -> float:
    return row.latency.speedup if row.latency else 0.0


def _check_parity(
    candidate: Candidate,
    engine: OnnxEngine,
    inputs: Samples,
    reference: npt.NDArray[np.float32],
) -> None:
    parity = check_parity(
        reference,
        run_batches(engine, inputs.first(len(reference)), batch=5),
        tolerance=PARITY_TOLERANCE[candidate.precision],
    )
    candidate.evidence["parity"] = parity.to_json()
    if not parity.ok:
        candidate.failures.append(
            f"differs from its source by {parity.max_abs_diff:.2g}, {parity.tolerance:g} allowed"
        )


def _check_invariance(
    candidate: Candidate,
    engine: OnnxEngine,
    source: Source,
    inputs: Samples,
    unsure: npt.NDArray[np.bool_],
) -> Invariance:
    few = inputs.first(min(source.invariance_samples, len(unsure)))
    invariance = check_invariance(
        engine,
        few,
        padded=source.padded(few),
        tolerance=source.invariance_tolerance[candidate.precision],
        unsure=unsure[: len(few)],
    )
    candidate.evidence["invariance"] = invariance.to_json()
    candidate.batch_safe = invariance.ok
    return invariance


def _unsure(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Return where the two best classes are so close that either is right."""
    best = np.sort(probabilities, axis=1)[:, -2:]
    return np.asarray(best[:, 1] - best[:, 0] < UNSURE_MARGIN)


class Settled(NamedTuple):
    """What an export comes to.

    Attributes:
        kept: What the bundle holds, fp32 first.
        verdicts: Name to verdict and reason, of all, under their final names.
        dropped: What was measured and is not kept.
        for_batches: Name of what answers batches.
    """

    kept: list[Candidate]
    verdicts: dict[str, tuple[str, str]]
    dropped: list[Candidate]
    for_batches: str


def settle(candidates: list[Candidate], verdicts: Mapping[str, tuple[str, str]]) -> Settled:
    """Choose, keep what a bundle holds, and name the best INT8 candidate ``int8``.

    A bundle holds fp32, fp16, what was chosen for single items and for batches, and the best INT8
    candidate: the one that answers single items if that is INT8; else the fastest that passed;
    where none did, the one that lost fewest answers.

    Args:
        candidates: All that were measured and judged, fp32 first.
        verdicts: Name to verdict and reason, as :func:`judge` gave them.
    """
    single, together = choose(candidates, verdicts)
    settled = dict(verdicts)
    quantized = [row for row in candidates if row.precision == "int8"]
    best = _best_int8(quantized, verdicts, single)
    wanted = {"fp32", "fp16", single.name, together.name} | ({best.name} if best else set())
    kept = [row for row in candidates if row.name in wanted]
    dropped = [row for row in candidates if row.name not in wanted]
    if single is candidates[0]:
        others = ", ".join(row.name for row in candidates[1:]) or "the others"
        enough = "faster by a twentieth" if _passed(verdicts) else "proven faster"
        settled[single.name] = ("chosen", f"none of {others} is no worse and {enough} here")
    else:
        fastest = max(_speed(row) for row in candidates if verdicts[row.name][0] == "passed")
        lead = "fastest" if _speed(single) >= fastest else "about as fast as the fastest"
        why = f"{lead} that is no worse: {verdicts[single.name][1]}"
        settled[single.name] = ("chosen", why)
    if together is not single and together is not candidates[0]:
        why = f"answers batches: {verdicts[together.name][1]}"
        settled[together.name] = ("passed", why)
    if best is not None:
        _rename(best, candidates, settled)
        best.evidence["other_candidates"] = [
            {
                "name": row.name,
                "recipe": row.recipe,
                "verdict": settled[row.name][0],
                "reason": settled[row.name][1],
            }
            for row in quantized
            if row is not best
        ]
    return Settled(kept, settled, dropped, together.name)


def _passed(verdicts: Mapping[str, tuple[str, str]]) -> bool:
    return any(verdict == "passed" for verdict, _ in verdicts.values())


def _best_int8(
    quantized: list[Candidate], verdicts: Mapping[str, tuple[str, str]], single: Candidate
) -> Candidate | None:
    def merit(row: Candidate) -> tuple[bool, bool, bool, float]:
        passed = verdicts[row.name][0] == "passed"
        drop = row.evidence["accuracy"]["drop"]
        return row is single, passed, row.batch_safe, _speed(row) if passed else -drop

    return max(quantized, key=merit, default=None)


def _rename(
    best: Candidate, candidates: list[Candidate], settled: dict[str, tuple[str, str]]
) -> None:
    """Give the best INT8 candidate its reserved name; who had it takes the other's."""
    old = best.name
    best.evidence["candidate"] = old
    if old == "int8":
        return
    holder = next((row for row in candidates if row.name == "int8"), None)
    mine = settled.pop(old)
    if holder is not None:
        holder.name = "int8-second"
        settled[holder.name] = settled.pop("int8")
    best.name = "int8"
    settled["int8"] = mine


def _speed_text(latency: Latency) -> str:
    text = f"{latency.speedup:.2f}x [{latency.speedup_low:.2f}, {latency.speedup_high:.2f}]"
    return text if latency.stable else f"{text}, unstable"
