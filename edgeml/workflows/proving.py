"""Everything between an opened source and a bundle: split, search, verdicts, one last report."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.core.files import write_json
from edgeml.core.gate import Gate
from edgeml.core.paired import compare_accuracy
from edgeml.core.progress import Progress, ProgressEvent
from edgeml.errors import ExportError, ParityError
from edgeml.exporting.answers import Answers, collect_answers, compare_answers
from edgeml.exporting.space import SpaceOptions, keep_as_is, make_space
from edgeml.runtime.host import detect_host
from edgeml.workflows.candidates import Candidate, LabelledSamples
from edgeml.workflows.confirming import find_contradiction, is_fully_timed
from edgeml.workflows.exporting import ExportSettings
from edgeml.workflows.judging import Settled, Standards, judge, settle
from edgeml.workflows.search_plan import Found, SearchPlan, key_of_trial
from edgeml.workflows.searching import run_search
from edgeml.workflows.sources import Source
from edgeml.workflows.trial_steps import Surroundings

_CALIBRATION_SAMPLES = 300


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What proving a source came to.

    Attributes:
        source: What was proven.
        plan: What was searched, and by which standards.
        found: Every candidate, with what was measured.
        settled: Verdicts, and what is kept.
    """

    source: Source
    plan: SearchPlan
    found: Found
    settled: Settled


def prove(
    source: Source, gate: Gate, settings: ExportSettings, folder: Path, progress: Progress
) -> Proof:
    """Search for the best variant of a source and judge every candidate.

    Args:
        source: The model and its data.
        gate: When a variant is no worse than fp32.
        settings: Budget, engines, threads, timing, seed.
        folder: An empty folder; it must outlive the use of what is found.
        progress: Told of each step.

    Raises:
        DataError: The data overlaps what the model was trained on.
        ParityError: The fp32 variant answers differently from the source.
        ExportError: The fp32 variant is unusable.
    """
    parts = _prepare(source, settings)
    plan = _plan(source, parts, gate, settings, progress)
    found = run_search(plan, folder, progress)
    _require_sound(found.candidates[0], source)
    settled = _decide(found.candidates, plan.standards)
    _report_once(settled.kept, source, plan, found.results)
    while _take_back(settled, gate):
        for row in found.candidates:
            good = row.usable and row.evidence.get("no_worse") and not row.failures
            if good and not is_fully_timed(row):
                row.failures.append("its speed was not timed to the end")
        settled = _decide(found.candidates, plan.standards)
        _report_once(settled.kept, source, plan, found.results)
    return Proof(source=source, plan=plan, found=found, settled=settled)


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """Three disjoint parts: indices to calibrate on, samples to choose by and to report."""

    calibration: npt.NDArray[np.int64]
    selection: LabelledSamples
    reporting: LabelledSamples


def _prepare(source: Source, settings: ExportSettings) -> _Parts:
    def samples(indices: npt.NDArray[np.int64]) -> LabelledSamples:
        targets = None if source.targets is None else source.targets[indices]
        return LabelledSamples(inputs=source.prepare(indices), targets=targets)

    rng = np.random.default_rng(settings.seed)
    shuffled = rng.permutation(source.split.train)
    parts = _Parts(
        calibration=np.sort(shuffled[:_CALIBRATION_SAMPLES]),
        selection=samples(rng.permutation(source.split.validation)),
        reporting=samples(source.split.test),
    )
    if source.foreign:
        source.refuse_seen([parts.selection.inputs, parts.reporting.inputs])
    return parts


def _plan(
    source: Source, parts: _Parts, gate: Gate, settings: ExportSettings, progress: Progress
) -> SearchPlan:
    core = source.make_core()
    calibration = source.prepare(parts.calibration)
    lint = source.lint(calibration, parts.calibration)
    host = detect_host()
    threads = settings.num_threads or 1
    options = SpaceOptions(
        instruction_set=host.instruction_set,
        engines=settings.engines,
        goal="size" if settings.goal == "size" else "latency",
        calibrated=not source.synthetic,
        num_samples=len(parts.calibration),
        files=settings.files,
    )
    trials = (
        make_space(core, source.assembly, options) if not source.quantized else keep_as_is(options)
    )
    names = ", ".join(row.name for row in trials)
    progress(ProgressEvent(stage="space", done=0, total=len(trials), note=names))
    few = parts.selection.inputs.first(source.parity_samples)
    return SearchPlan(
        core=core,
        trials=trials,
        surroundings=Surroundings(
            assembly=source.assembly,
            reading=source.reading,
            gate=gate,
            invariance_samples=source.invariance_samples,
            invariance_tolerance=source.invariance_tolerance,
            batches=source.batches,
            num_threads=threads,
            timing_threads=1,
        ),
        standards=Standards(
            gate=gate, selection=parts.selection, reading=source.reading, goal=settings.goal
        ),
        calibration=calibration,
        reference=source.reference(few, threads),
        timing=settings.timing,
        budget_s=settings.budget_s,
        sensitivity=settings.sensitivity,
        lint=lint,
        reporting=parts.reporting,
    )


def _require_sound(fp32: Candidate, source: Source) -> None:
    """Stop the export where even fp32 is not what was trained."""
    if fp32.broken:
        raise ExportError(
            f"the {fp32.name} variant is unusable: {fp32.broken}; a model that answers with finite "
            "numbers was expected; train or convert it again"
        )
    if source.quantized:  # it is its own reference, and the one-by-one way is there for it
        return
    parity = fp32.evidence["parity"]
    if parity["max_abs_diff"] > parity["tolerance"]:
        raise ParityError(
            variant="fp32",
            max_abs_diff=parity["max_abs_diff"],
            tolerance=parity["tolerance"],
            sample=parity["sample"],
        )
    if fp32.failures:
        raise ExportError(f"the fp32 variant is unusable: {'; '.join(fp32.failures)}")
    if not fp32.batch_safe:  # it answers batches where nothing else may
        worst = fp32.evidence["invariance"]["max_abs_diff"]
        raise ExportError(
            f"the fp32 variant is unusable: its answers depend on their neighbours in a batch or "
            f"on padding (by {worst:.2g}); a model that answers each sample by itself was expected"
        )


def _take_back(settled: Settled, gate: Gate) -> bool:
    """Mark what was chosen and fails on both splits together; return whether there was any."""
    named = {settled.for_batches, *settled.by_engine.values()}
    found = False
    for row in settled.kept[1:]:
        if settled.verdicts[row.name][0] != "chosen" and row.name not in named:
            continue
        why = find_contradiction(row, gate)
        if why is not None:
            row.failures.append(why)
            found = True
    return found


def _decide(made: list[Candidate], standards: Standards) -> Settled:
    """Judge each usable candidate, choose, and keep what the bundle holds."""
    candidates = [row for row in made if row.usable]
    fp32 = candidates[0]
    verdicts = {row.name: judge(row, fp32, standards) for row in candidates}
    settled = settle(candidates, verdicts, goal=standards.goal)
    for row in made:  # the best INT8 candidate may have taken the name of one that is broken
        if not row.usable and row.name in settled.verdicts:
            row.name = f"{row.name}-broken"
    return settled


def _report_once(
    candidates: list[Candidate], source: Source, plan: SearchPlan, results: Path
) -> None:
    """Read the reporting split, after every choice is made, and note what it says.

    What it said of a candidate is kept with the search's other results.
    """
    places = {row.name: results / f"reported-{key_of_trial(row.trial)}.json" for row in candidates}
    missing = [row for row in candidates if not places[row.name].is_file()]
    if missing:
        reference = _reported_answers(candidates[0], source, plan)
        for candidate in missing:
            answers = (
                reference
                if candidate is candidates[0]
                else _reported_answers(candidate, source, plan)
            )
            write_json(places[candidate.name], _reported(reference, answers, source, plan))
    for candidate in candidates:
        text = places[candidate.name].read_text(encoding="utf-8")
        candidate.evidence.update(json.loads(text))


def _reported_answers(candidate: Candidate, source: Source, plan: SearchPlan) -> Answers:
    assert plan.reporting is not None
    engine = candidate.engine(source.signature, num_threads=plan.surroundings.num_threads)
    batch = None if candidate.batch_safe and source.batches else 1
    with contextlib.closing(engine):
        return collect_answers(engine, plan.reporting.inputs, source.reading, batch=batch)


def _reported(
    reference: Answers, answers: Answers, source: Source, plan: SearchPlan
) -> dict[str, Any]:
    assert plan.reporting is not None
    if plan.reporting.targets is None:
        agreement = compare_answers(reference, answers, source.reading)
        return {"reported_agreement": asdict(agreement)}
    paired = compare_accuracy(plan.reporting.right(reference), plan.reporting.right(answers))
    return {"reported_accuracy": paired.candidate, "reported": asdict(paired)}
