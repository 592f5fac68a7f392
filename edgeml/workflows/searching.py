"""The search: trials in order, each in a child process, within a budget, best found so far kept.

The space is fixed before anything runs. Cheap proofs, then a short timing beside fp32, then answers
until the gate's verdict is clear. Where a faster candidate lost too much accuracy, its blocks are
measured and mixed precision is tried. At the end the finalists are timed side by side, and the one
that would be chosen is timed once more, alone with fp32, so that luck is not taken for speed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgeml.core.files import write_json
from edgeml.core.manifest import ENGINE
from edgeml.core.progress import Progress, ProgressEvent
from edgeml.core.timing import Latency
from edgeml.exporting.linear_quantizing import LinearRecipe
from edgeml.exporting.mixing import Block, mix
from edgeml.exporting.quantizing import StaticRecipe
from edgeml.exporting.trials import Trial
from edgeml.workflows.candidates import Candidate
from edgeml.workflows.finals import NEAR_BEST, Finals
from edgeml.workflows.jobs import (
    HANGS,
    JobRunner,
    Outcome,
    conditions,
    hash_of_files,
    key_of,
    results_folder,
)
from edgeml.workflows.judging import (
    infidelity_of,
    judge_answers,
    speed_of,
)
from edgeml.workflows.search_plan import Found, SearchPlan, key_of_trial
from edgeml.workflows.stored_samples import store_samples
from edgeml.workflows.trial_steps import load_answers, store_answers

# A trial that takes so many times as long as fp32's own is taken to hang.
_PATIENCE = 10.0
_LEAST_PATIENCE_S = 120.0
_BASELINE_TIMEOUT_S = 1800.0
_WORTH_MIXING = 1.03
_TRIALS_SHARE = 2 / 3
_SENSITIVITY_SHARE = 0.25


def run_search(plan: SearchPlan, folder: Path, progress: Progress) -> Found:
    """Try every trial that the budget allows.

    Args:
        plan: What to do.
        folder: An empty folder for what the trials share; it must outlive what is found.
        progress: Told of each trial, its verdict and the best so far.
    """
    return _Search(plan, folder, progress).run()


class _Search:
    """One search."""

    def __init__(self, plan: SearchPlan, folder: Path, progress: Progress) -> None:
        self.plan = plan
        self.folder = folder
        self.progress = progress
        self.start = time.monotonic()
        self.found = Found(candidates=[])
        self.runner = JobRunner(folder, self._store())
        self.found.results = self.runner.results
        self.patience_s = _LEAST_PATIENCE_S

    def run(self) -> Found:
        plan = self.plan
        trials = list(plan.trials)
        baseline = self.try_trial(trials[0], timeout_s=_BASELINE_TIMEOUT_S)
        self.found.candidates.append(baseline)
        if baseline.broken or baseline.answers is None:
            return self._finish()
        for done, trial in enumerate(trials[1:], start=1):
            self._tell(trial.name, done, len(trials))
            self.found.candidates.append(self._within_budget(trial))
        self._mix()
        Finals(self).run()
        self._tell("", len(trials), len(trials))
        return self._finish()

    def _store(self) -> Path:
        """Write what trials share, and return where results of this very search are kept."""
        plan, folder = self.plan, self.folder
        onnx.save(plan.core, folder / "core.onnx")
        write_json(folder / "surroundings.json", plan.surroundings.to_json())
        write_json(folder / "baseline.json", plan.trials[0].to_json())
        store_samples(folder / "calibration", plan.calibration)
        store_samples(folder / "selection", plan.standards.selection.inputs)
        if plan.standards.selection.targets is not None:
            np.save(folder / "targets.npy", plan.standards.selection.targets)
        if plan.reporting is not None:
            store_samples(folder / "reporting", plan.reporting.inputs)
            if plan.reporting.targets is not None:
                np.save(folder / "reporting" / "targets.npy", plan.reporting.targets)
        store_answers(folder / "reference.npz", plan.reference)
        files = hash_of_files(path for path in folder.rglob("*") if path.is_file())
        return results_folder(key_of(files, conditions()))

    def _within_budget(self, trial: Trial) -> Candidate:
        left = self._left_s()
        if left <= 0 and not self._is_known(trial):
            why = f"not tried: the budget of {self.plan.budget_s:.0f} s was spent"
            return Candidate(trial=trial, name=trial.name, recipe=trial.describe(), untried=why)
        limit_s = min(self.patience_s, max(left, 5.0))
        made = self.try_trial(trial, timeout_s=limit_s, thorough=self._counts_all)
        if made.broken.startswith(HANGS) and limit_s < self.patience_s:
            made.broken = ""
            made.untried = f"cut off: the budget of {self.plan.budget_s:.0f} s was spent"
        return made

    def _left_s(self) -> float:
        """Return the seconds in which a further candidate may begin; the finals need the rest."""
        return _TRIALS_SHARE * self.plan.budget_s - (time.monotonic() - self.start)

    @property
    def _counts_all(self) -> bool:
        """Whether slower candidates are judged, too: the smallest may be one."""
        return self.plan.standards.goal == "size"

    def _is_known(self, trial: Trial) -> bool:
        key = key_of_trial(trial, thorough=self._counts_all)
        return (self.runner.place(key) / "result.json").is_file()

    def try_trial(self, trial: Trial, *, timeout_s: float, thorough: bool = False) -> Candidate:
        key = key_of_trial(trial, thorough=thorough)
        job = {"do": "trial", "trial": trial.to_json(), "thorough": thorough}
        outcome = self.run_job(key, job, "result.json", timeout_s, self._same_file(trial, thorough))
        place = self.runner.place(key)
        made = Candidate(trial=trial, name=trial.name, recipe=trial.describe())
        if outcome.value is None:
            made.broken = outcome.reason
            return made
        if not self.found.candidates and not thorough:  # the baseline: the others need its files
            (self.folder / "baseline").symlink_to(place.absolute())
            self.patience_s = max(_LEAST_PATIENCE_S, _PATIENCE * outcome.seconds)
        return self._read(made, outcome.value, place)

    def _read(self, made: Candidate, value: dict[str, Any], place: Path) -> Candidate:
        made.broken, made.failures = value["broken"], list(value["failures"])
        made.evidence, made.batch_safe = dict(value["evidence"]), value["batch_safe"]
        made.evidence["peak_mb"] = value["peak_mb"]
        made.recipe = {**made.recipe, **value.get("rewriting", {})}
        if made.trial.engine != ENGINE:
            made.recipe = {**made.recipe, "engine": made.trial.engine}
        if made.recipe.get("kind") in ("static", "linear") and self.plan.lint:
            made.evidence["calibration"] = list(self.plan.lint)
        model = place / "model.onnx"
        made.path = model if model.is_file() else None
        if (place / "answers.npz").is_file() and not made.broken:
            made.answers = load_answers(place / "answers.npz")
        if "screening" in made.evidence:
            made.latency = Latency(**made.evidence["screening"])
            made.evidence["latency"] = {**made.evidence.pop("screening"), "timing": "screening"}
        return made

    def _same_file(self, trial: Trial, thorough: bool) -> dict[str, Path]:  # noqa: FBT001
        """Return the model where an earlier trial made the very same file."""
        wanted = trial.engine if thorough else ENGINE
        for row in self.found.candidates:
            other = row.trial
            same = (other.kind, other.recipe, other.file) == (trial.kind, trial.recipe, trial.file)
            if same and other.engine == wanted and row.path is not None:
                return {"model.onnx": row.path}
        return {}

    def run_job(
        self,
        key: str,
        job: dict[str, Any],
        output: str,
        timeout_s: float,
        seed_files: dict[str, Path] | None = None,
    ) -> Outcome:
        outcome = self.runner.run(
            key, job, output=output, timeout_s=timeout_s, seed_files=seed_files
        )
        self.found.jobs += 1
        self.found.cached += outcome.cached
        return outcome

    def _mix(self) -> None:
        """Measure blocks where a faster candidate lost too much, and try mixed precision."""
        lost = self._fastest_that_lost()
        wanted = lost or (self._any_quantized() if self.plan.sensitivity else None)
        left = self._left_s()
        if wanted is None or left <= 0:
            return
        budget_s = _SENSITIVITY_SHARE * self.plan.budget_s
        job = {"do": "sensitivity", "trial": wanted.trial.to_json(), "budget_s": budget_s}
        self._tell(f"blocks of {wanted.name}", len(self.plan.trials), len(self.plan.trials))
        timeout_s = 2 * budget_s + self.patience_s
        outcome = self.run_job(
            f"{key_of_trial(wanted.trial)}-blocks", job, "sensitivity.json", timeout_s
        )
        if outcome.value is None:
            self.found.sensitivity = {"trial": wanted.name, "reason": outcome.reason, "blocks": []}
            return
        self.found.sensitivity = outcome.value
        if lost is None or not outcome.value["complete"]:
            return
        for trial in _mixed(lost.trial, outcome.value["blocks"]):
            self._tell(trial.name, len(self.plan.trials), len(self.plan.trials))
            candidate = self._within_budget(trial)
            self.found.candidates.append(candidate)
            if self.is_good(candidate):
                break

    def _fastest_that_lost(self) -> Candidate | None:
        """Return the most faithful of the fastest that only accuracy keeps from being the best."""
        rows = [row for row in self.found.candidates[1:] if _can_mix(row)]
        lost = [row for row in rows if not row.failures and not self._is_accurate(row)]
        best = max(
            (speed_of(row) for row in self.found.candidates if self.is_good(row)), default=1.0
        )
        worth = [row for row in lost if speed_of(row) > _WORTH_MIXING * best]
        fastest = max(map(speed_of, worth), default=0.0)
        near = [row for row in worth if speed_of(row) >= NEAR_BEST * fastest]
        return min(near, key=infidelity_of, default=None)

    def _any_quantized(self) -> Candidate | None:
        rows = [row for row in self.found.candidates[1:] if _can_mix(row)]
        return max(rows, key=speed_of, default=None)

    def _is_accurate(self, row: Candidate) -> bool:
        if not row.usable or row.answers is None:
            return False
        return judge_answers(row, self.found.candidates[0], self.plan.standards)[0]

    def is_good(self, row: Candidate) -> bool:
        """Return whether a candidate may pass, as far as the short timing tells."""
        baseline = self.found.candidates[0]
        if row is baseline or not row.usable or row.failures or row.latency is None:
            return False
        return self._is_accurate(row) and row.latency.speedup > 1.0

    def _tell(self, note: str, done: int, total: int) -> None:
        good = [row for row in self.found.candidates if self.is_good(row)]
        best = max(good, key=speed_of, default=None)
        text = f"{note}; best so far {best.name} {speed_of(best):.2f}x" if best else note
        self.progress(ProgressEvent(stage="search", done=done, total=total, note=text))

    def _finish(self) -> Found:
        self.found.seconds = time.monotonic() - self.start
        return self.found


def _can_mix(row: Candidate) -> bool:
    recipe = row.trial.recipe
    return (
        row.usable
        and row.trial.engine == ENGINE
        and isinstance(recipe, (StaticRecipe, LinearRecipe))
        and not row.name.startswith("int8-mixed")
    )


def _mixed(trial: Trial, rows: Sequence[dict[str, Any]]) -> list[Trial]:
    """Return trials that leave the dearest blocks in float, the fastest first."""
    recipe = trial.recipe
    assert isinstance(recipe, (StaticRecipe, LinearRecipe))
    blocks = [
        Block(nodes=tuple(row["nodes"]), error=row["error"], saved_ms=row["saved_ms"])
        for row in rows
    ]
    return [
        replace(
            trial,
            name=f"int8-mixed-{len(names)}",
            recipe=replace(recipe, float_nodes=(*recipe.float_nodes, *names)),
        )
        for names in mix(blocks)
    ]
