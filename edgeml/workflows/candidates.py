"""The variants of one export: made from a core, measured on this machine, judged by the gate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgeml.core.gate import Gate
from edgeml.core.paired import compare_accuracy, compare_agreement
from edgeml.core.progress import Progress, ProgressEvent
from edgeml.core.timing import Latency, TimingPlan, compare_latency
from edgeml.exporting.assembling import assemble_image_classifier, scalar_normalisation
from edgeml.exporting.checks import (
    PARITY_TOLERANCE,
    check_invariance,
    check_parity,
    run_batches,
)
from edgeml.exporting.fusion import prove_fusion
from edgeml.exporting.half import halve_core
from edgeml.exporting.quantizing import (
    TYPES_BY_INSTRUCTION_SET,
    StaticRecipe,
    early_convolutions,
    quantize_core,
)
from edgeml.runtime.engine import OnnxEngine, SessionSettings
from edgeml.tasks.image import INPUT, ImageTask

_PARITY_SAMPLES = 64
_INVARIANCE_SAMPLES = 24
_TIMING_ATTEMPTS = 3


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Prepared pictures of one split, uint8 ``(samples, height, width, 3)``, and their classes."""

    images: npt.NDArray[np.uint8]
    targets: npt.NDArray[np.int64]


@dataclass(kw_only=True)
class Candidate:
    """One variant on its way to a verdict; fields fill up as it is measured.

    Attributes:
        name: Its name in the bundle.
        precision: ``fp32``, ``fp16`` or ``int8``.
        model: The assembled ONNX model.
        recipe: How it was made.
        tuned_for: Instruction set that it was made for, or None.
        failures: Proofs that it did not pass; each a sentence.
        evidence: What was measured, by name, as JSON values.
        probabilities: float32 ``(samples, classes)`` on the selection split.
        latency: Its latency beside fp32's.
    """

    name: str
    precision: str
    model: onnx.ModelProto
    recipe: Mapping[str, Any]
    tuned_for: str | None = None
    failures: list[str] = field(default_factory=list)
    evidence: dict[str, Any] = field(default_factory=dict)
    probabilities: npt.NDArray[np.float32] | None = None
    latency: Latency | None = None

    def engine(self, task: ImageTask, *, num_threads: int) -> OnnxEngine:
        """Open this candidate's model."""
        return OnnxEngine(
            self.model.SerializeToString(),
            settings=SessionSettings(num_threads=num_threads),
            signature=task.signature,
            served_by=f"onnxruntime/cpu/{self.name}",
        )


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """Threads for the answers (latency is taken with one), and how much to time."""

    num_threads: int
    plan: TimingPlan


def make_candidates(
    core: onnx.ModelProto,
    task: ImageTask,
    calibration: npt.NDArray[np.uint8],
    *,
    instruction_set: str,
) -> list[Candidate]:
    """Make fp32, fp16 and two forms of INT8 from one core.

    Args:
        core: Normalised pixels to logits, float32.
        task: The contract.
        calibration: Prepared training pictures, uint8 ``(samples, height, width, 3)``.
        instruction_set: What INT8 is made for, as ``edgeml.runtime.host`` names it.

    Returns:
        The candidates, fp32 first.
    """
    contract, signature = task.preprocessing, task.signature
    types = TYPES_BY_INSTRUCTION_SET[instruction_set]
    # The exact integer input needs unsigned activations: 0..255 is what an image holds.
    scale = scalar_normalisation(contract) if types.activations == "uint8" else None
    everything = StaticRecipe(types=types, num_samples=len(calibration), input_scale=scale)
    samples = contract.normalise(calibration)
    quantized = [_quantize(core, task, samples, everything, name="int8")]
    if early := early_convolutions(core):
        recipe = replace(everything, float_nodes=early)
        quantized.append(_quantize(core, task, samples, recipe, name="int8-early-float"))
    for candidate in quantized:
        candidate.tuned_for = instruction_set
    return [
        Candidate(
            name="fp32",
            precision="fp32",
            model=assemble_image_classifier(core, signature, contract),
            recipe={"kind": "float"},
        ),
        Candidate(
            name="fp16",
            precision="fp16",
            model=assemble_image_classifier(halve_core(core), signature, contract),
            recipe={"kind": "half", "keep_io_types": True},
        ),
        *quantized,
    ]


def _quantize(
    core: onnx.ModelProto,
    task: ImageTask,
    samples: npt.NDArray[np.float32],
    recipe: StaticRecipe,
    *,
    name: str,
) -> Candidate:
    model = assemble_image_classifier(
        quantize_core(core, samples, recipe),
        task.signature,
        task.preprocessing,
        integer_input=recipe.input_scale is not None,
    )
    candidate = Candidate(name=name, precision="int8", model=model, recipe=recipe.to_json())
    proof = prove_fusion(model, core, op_types=recipe.op_types, float_nodes=recipe.float_nodes)
    candidate.evidence["fusion"] = proof.to_json()
    if not proof.ok:
        candidate.failures.append(
            f"only {proof.quantized} of {proof.requested} Conv/MatMul/Gemm run quantized"
        )
    return candidate


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
        engine = candidate.engine(task, num_threads=measuring.num_threads)
        candidate.probabilities = run_batches(engine, selection.images)
        engine.close()
        single[candidate.name] = candidate.engine(task, num_threads=1)
        _check_answers(candidate, single[candidate.name], selection, reference)
    progress(ProgressEvent(stage="prove", done=len(candidates), total=len(candidates)))
    one = {INPUT: selection.images[:1]}
    progress(ProgressEvent(stage="time", done=0, total=1, note="interleaved, one thread"))
    calls = {name: (lambda engine=engine: engine.run(one)) for name, engine in single.items()}
    timings, attempts = _steady(calls, baseline=candidates[0].name, plan=measuring.plan)
    for candidate in candidates:
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
