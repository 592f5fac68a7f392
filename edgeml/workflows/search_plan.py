"""What a search works with, what it finds, and the names of its results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from edgeml.core.timing import TimingPlan
from edgeml.exporting.answers import Answers
from edgeml.exporting.trials import Trial
from edgeml.tasks.samples import Samples
from edgeml.workflows.candidates import Candidate, LabelledSamples
from edgeml.workflows.jobs import hash_of_files, key_of
from edgeml.workflows.judging import Standards
from edgeml.workflows.trial_steps import Surroundings


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """What a search works with.

    Attributes:
        core: The float core, or the model as it is.
        trials: The space, what everything is compared with first.
        surroundings: What all trials share.
        standards: What candidates are judged by.
        calibration: Samples to calibrate on.
        reference: The source's own answers to the first samples of the selection split.
        timing: The final timing.
        budget_s: How long it is meant to take; trials begin in its first two thirds.
        sensitivity: Whether blocks are measured even where nothing depends on it.
        lint: What is wrong with the calibration samples.
        reporting: What will be read once at the end; here only so that results belong to it too.
    """

    core: onnx.ModelProto
    trials: Sequence[Trial]
    surroundings: Surroundings
    standards: Standards
    calibration: Samples
    reference: Answers
    timing: TimingPlan
    budget_s: float
    sensitivity: bool = False
    lint: Sequence[dict[str, Any]] = ()
    reporting: LabelledSamples | None = None


@dataclass(kw_only=True)
class Found:
    """What a search found.

    Attributes:
        candidates: One for each trial, in order; those that mixed precision added come last.
        sensitivity: Blocks with their errors and gains; empty where they were not measured.
        cached: How many jobs had been done before.
        jobs: How many there were.
        seconds: How long it took.
        results: Where results of this very search are kept.
    """

    candidates: list[Candidate]
    sensitivity: dict[str, Any] = field(default_factory=dict)
    cached: int = 0
    jobs: int = 0
    seconds: float = 0.0
    results: Path = Path()


def key_of_trial(trial: Trial, *, thorough: bool = False) -> str:
    """Return the name of a trial's result: what it is, not what it is called."""
    value = {**trial.to_json(), "name": ""}
    if trial.file:
        value["file"] = hash_of_files([Path(trial.file)])
    return key_of(value) + ("-thorough" if thorough else "")
