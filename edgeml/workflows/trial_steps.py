"""What a child process does for one trial: build, prove cheaply, time, then count answers.

In this order, since each step costs more than the one before and may end the trial: a graph that
does not run quantized need not be timed, and one that is slower than fp32 need not be judged.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgeml.core.files import write_json
from edgeml.core.gate import Gate
from edgeml.core.memory import peak_memory_mb
from edgeml.core.predictor import Engine
from edgeml.core.sequential import decide, looks
from edgeml.core.timing import TimingPlan, compare_latency
from edgeml.errors import BundleError, ExportError, InferenceError, InputError
from edgeml.exporting.answers import Answers, Reading, collect_answers, compare_answers
from edgeml.exporting.assembly import Assembly
from edgeml.exporting.building import Workshop
from edgeml.exporting.checks import (
    NO_TOLERANCE,
    PARITY_TOLERANCE,
    check_invariance,
    check_parity,
    find_unsure,
)
from edgeml.exporting.clipping import find_clipping
from edgeml.exporting.trials import Trial
from edgeml.runtime.engine import SessionSettings
from edgeml.runtime.opening import open_runtime
from edgeml.tasks.samples import Samples
from edgeml.workflows.stored_samples import fully_padded, read_samples

SCREENING = TimingPlan(rounds=12, calls=3, warmup=3, budget_s=6.0, max_spread=0.5)
_PARITY_BATCH = 5
_CLIPPING_SAMPLES = 16


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What every trial of one search shares; it is stored in the work folder.

    Attributes:
        assembly: What goes around the core.
        reading: How outputs are read.
        gate: The limits.
        invariance_samples: How many samples invariance is tried on.
        invariance_tolerance: Precision to the largest difference allowed.
        batches: Whether several samples may share a feed at all.
        num_threads: Threads for answers; latency is taken with ``timing_threads``.
        timing_threads: Threads of one timed call.
    """

    assembly: Assembly
    reading: Reading
    gate: Gate
    invariance_samples: int
    invariance_tolerance: Mapping[str, float]
    batches: bool
    num_threads: int
    timing_threads: int

    def to_json(self) -> dict[str, Any]:
        """Return the surroundings as JSON values."""
        return {
            **asdict(self),
            "assembly": self.assembly.to_json(),
            "reading": self.reading.to_json(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Surroundings:
        """Read what :meth:`to_json` wrote."""
        return cls(
            **{
                **value,
                "assembly": Assembly.from_json(value["assembly"]),
                "reading": Reading.from_json(value["reading"]),
                "gate": Gate(**value["gate"]),
            }
        )


class Work:
    """A search's work folder, as parent and children see it.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def surroundings(self) -> Surroundings:
        """What all trials share."""
        text = (self.folder / "surroundings.json").read_text(encoding="utf-8")
        return Surroundings.from_json(json.loads(text))

    @cached_property
    def selection(self) -> Samples:
        """What candidates are compared on."""
        return read_samples(self.folder / "selection")

    @cached_property
    def calibration(self) -> Samples:
        """What ranges come from."""
        return read_samples(self.folder / "calibration")

    @cached_property
    def targets(self) -> npt.NDArray[Any] | None:
        """What is right; None without labels."""
        place = self.folder / "targets.npy"
        return np.load(place, allow_pickle=False) if place.is_file() else None

    @cached_property
    def reference(self) -> Answers:
        """The source's own answers to the first few samples."""
        return load_answers(self.folder / "reference.npz")

    @cached_property
    def workshop(self) -> Workshop:
        """Builds trials."""
        return Workshop(
            onnx.load(self.folder / "core.onnx"),
            self.surroundings.assembly,
            folder=self.folder,
            calibration=lambda: _single_feeds(self.calibration),
            compared=lambda: _single_feeds(fully_padded(self.calibration) or self.calibration),
            num_threads=self.surroundings.num_threads,
        )

    @property
    def baseline(self) -> Path:
        """The result folder of the baseline."""
        return self.folder / "baseline"

    def open(self, trial: Trial, model: Path, *, num_threads: int) -> Engine:
        """Open a trial's model in its engine."""
        return open_runtime(
            model,
            engine=trial.engine,
            settings=SessionSettings(num_threads=num_threads),
            signature=self.surroundings.assembly.signature,
            served_by=trial.name,
            options=trial.engine_options,
        )

    def right(self, answers: Answers) -> npt.NDArray[np.bool_]:
        """Return which of the first samples were answered rightly."""
        return right_answers(answers, self.targets)


def right_answers(answers: Answers, targets: npt.NDArray[Any] | None) -> npt.NDArray[np.bool_]:
    """Return which samples were answered rightly; for multi-label, with every label right."""
    assert targets is not None
    assert answers.probabilities is not None
    expected = targets[: len(answers)]
    if expected.ndim == 2:
        return np.asarray(((answers.probabilities >= 0.5) == expected).all(axis=1))
    return np.asarray(answers.probabilities.argmax(axis=1) == expected)


def run_trial(work: Work, trial: Trial, result: Path, *, thorough: bool) -> None:
    """Do a trial and write what was found into its folder.

    Args:
        work: The search's folder.
        trial: What to do.
        result: Folder of the trial; a model that lies there is not built again.
        thorough: Whether every answer is counted, whatever the speed and the first answers.
    """
    found: dict[str, Any] = {"broken": "", "failures": [], "evidence": {}, "batch_safe": True}
    try:
        _do_trial(work, trial, result, found, thorough=thorough)
    except BundleError as exc:  # without the path, which is a passing folder's
        found["broken"] = f"{trial.engine} cannot run it ({exc.reason})"
    except InferenceError as exc:
        found["broken"] = f"{trial.engine} cannot run it ({exc})"
    except (ExportError, InputError) as exc:
        found["broken"] = str(exc)
    found["peak_mb"] = peak_memory_mb()
    write_json(result / "result.json", found)


def _do_trial(
    work: Work, trial: Trial, result: Path, found: dict[str, Any], *, thorough: bool
) -> None:
    model = result / "model.onnx"
    evidence = found["evidence"]
    if not model.is_file():
        _build(work, trial, model, found)
    around = work.surroundings
    engine = work.open(trial, model, num_threads=around.timing_threads)
    with contextlib.closing(engine):
        _prove(work, trial, engine, found)
        is_baseline = trial == baseline_trial(work)
        if not is_baseline and (trial.recipe is not None or trial.kind == "file"):
            _check_clipping(work, model, found)
        if not is_baseline:
            evidence["screening"] = _screen(work, trial, engine)
    slower = not is_baseline and evidence["screening"]["speedup_high"] < 1.0
    if slower and not thorough and trial.precision != "fp16":
        evidence["stopped"] = "slower than fp32"
        return
    with contextlib.closing(work.open(trial, model, num_threads=around.num_threads)) as fast:
        batch = None if found["batch_safe"] and around.batches else 1
        answers = _answer(work, fast, evidence, batch=batch, thorough=thorough or is_baseline)
    if not answers.finite:
        found["broken"] = "it answers with NaN or infinity"
    store_answers(result / "answers.npz", answers)


def _build(work: Work, trial: Trial, model: Path, found: dict[str, Any]) -> None:
    made, proof = work.workshop.build(trial)
    onnx.save(made, model)
    if proof is not None:
        found["evidence"]["fusion"] = proof.to_json()
        if not proof.ok:
            found["failures"].append(
                f"only {proof.quantized} of {proof.requested} {proof.what} run quantized"
            )
    if trial.kind in ("lean", "linear", "weights"):
        found["rewriting"] = dict(work.workshop.rewriting)


def _prove(work: Work, trial: Trial, engine: Engine, found: dict[str, Any]) -> None:
    around, reference = work.surroundings, work.reference
    few = work.selection.first(len(reference))
    batch = _PARITY_BATCH if around.batches else 1
    answers = collect_answers(engine, few, around.reading, batch=batch)
    tolerance = PARITY_TOLERANCE.get(trial.precision, NO_TOLERANCE)
    parity = check_parity(reference, answers, tolerance=tolerance)
    found["evidence"]["parity"] = parity.to_json()
    if not parity.ok and trial.precision in PARITY_TOLERANCE:
        found["failures"].append(
            f"differs from its source by {parity.max_abs_diff:.2g}, {tolerance:g} allowed"
        )
    if not around.batches:
        return
    some = few.first(min(around.invariance_samples, len(reference)))
    invariance = check_invariance(
        engine,
        some,
        around.reading,
        padded=fully_padded(some),
        tolerance=around.invariance_tolerance.get(trial.precision, NO_TOLERANCE),
        unsure=find_unsure(reference)[: len(some)],
    )
    found["evidence"]["invariance"] = invariance.to_json()
    found["batch_safe"] = invariance.ok


def _check_clipping(work: Work, model: Path, found: dict[str, Any]) -> None:
    """Note how much real activations exceed what their integers can hold."""
    feeds = _single_feeds(work.selection.first(_CLIPPING_SAMPLES))
    source = onnx.load(work.baseline / "model.onnx")
    clipping = find_clipping(onnx.load(model), source, feeds)
    if clipping is None:
        return
    found["evidence"]["clipping"] = clipping.to_json()
    if not clipping.ok:
        found["failures"].append(
            f"saturates: {100 * clipping.share:.0f} % of '{clipping.tensor}' is clipped"
        )


def _screen(work: Work, trial: Trial, engine: Engine) -> dict[str, Any]:
    baseline = baseline_trial(work)
    one = work.selection.feed([work.selection.typical()])
    threads = work.surroundings.timing_threads
    model = work.baseline / "model.onnx"
    with contextlib.closing(work.open(baseline, model, num_threads=threads)) as fp32:
        calls = {"baseline": lambda: fp32.run(one), "trial": lambda: engine.run(one)}
        return asdict(compare_latency(calls, baseline="baseline", plan=SCREENING)["trial"])


def _answer(
    work: Work, engine: Engine, evidence: dict[str, Any], *, batch: int | None, thorough: bool
) -> Answers:
    """Answer the selection split, look by look, until the gate's verdict is clear."""
    samples, reading = work.selection, work.surroundings.reading
    schedule = looks(len(samples))
    answers: Answers | None = None
    start = 0
    for stop in schedule:
        more = collect_answers(engine, samples.part(start, stop), reading, batch=batch)
        answers = more if answers is None else answers.joined(more)
        start = stop
        clear = "open" if thorough or stop == len(samples) else _decide(work, answers, schedule)
        if clear != "open":
            evidence["stopped"] = f"clearly {clear} after {stop} of {len(samples)} samples"
            break
    assert answers is not None
    return answers


def _decide(work: Work, answers: Answers, schedule: list[int]) -> str:
    gate, reference = work.surroundings.gate, _baseline_answers(work).first(len(answers))
    if not answers.finite:
        return "out"
    if work.targets is not None:
        ours, theirs = work.right(reference), work.right(answers)
        limit = gate.max_accuracy_drop
        return decide(ours, theirs, limit=limit, num_looks=len(schedule))
    # Without labels: what can only grow, and has grown too far, ends it.
    found = compare_answers(reference, answers, work.surroundings.reading)
    flipped = found.flips * len(answers) > gate.max_flips * len(work.selection)
    return "out" if flipped or found.max_difference > gate.max_probability_difference else "open"


def _baseline_answers(work: Work) -> Answers:
    return load_answers(work.baseline / "answers.npz")


def baseline_trial(work: Work) -> Trial:
    """Return the trial that everything is compared with."""
    text = (work.folder / "baseline.json").read_text(encoding="utf-8")
    return Trial.from_json(json.loads(text))


def store_answers(place: Path, answers: Answers) -> None:
    """Write answers to a file of plain arrays."""
    arrays: dict[str, Any] = answers.to_arrays()
    np.savez(place, **arrays)


def load_answers(place: Path) -> Answers:
    """Read what :func:`store_answers` wrote."""
    with np.load(place, allow_pickle=False) as stored:
        return Answers.from_arrays({name: stored[name] for name in stored.files})


def _single_feeds(samples: Samples) -> Iterator[Mapping[str, npt.NDArray[Any]]]:
    return (samples.feed([index]) for index in range(len(samples)))
