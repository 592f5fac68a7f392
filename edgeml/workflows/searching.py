"""The search: trials in order, each in a child process, within a budget, best found so far kept.

The space is fixed before anything runs. Cheap proofs, then a short timing beside fp32, then answers
until the gate's verdict is clear. Where a faster candidate lost too much accuracy, its blocks are
measured and mixed precision is tried. At the end the finalists are timed side by side, and the one
that would be chosen is timed once more, alone with fp32, so that luck is not taken for speed.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgeml.core.files import write_json
from edgeml.core.manifest import ENGINE
from edgeml.core.progress import Progress, ProgressEvent
from edgeml.core.timing import Latency, TimingPlan
from edgeml.exporting.linear_quantizing import LinearRecipe
from edgeml.exporting.mixing import Block, mix
from edgeml.exporting.quantizing import StaticRecipe
from edgeml.exporting.trials import Trial
from edgeml.workflows.candidates import Candidate
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
    Standards,
    choose,
    infidelity_of,
    judge,
    judge_answers,
    speed_of,
)
from edgeml.workflows.stored_samples import store_samples
from edgeml.workflows.trial_steps import Surroundings, load_answers, store_answers

# A trial that takes so many times as long as fp32's own is taken to hang.
_PATIENCE = 10.0
_LEAST_PATIENCE_S = 120.0
_BASELINE_TIMEOUT_S = 1800.0
_LAST_TIMEOUT_S = 300.0
_MOST_FINALISTS = 6
# A short timing is only so exact: what is within this share of the best may be the best.
_NEAR_BEST = 0.85
_WORTH_MIXING = 1.03
_SENSITIVITY_SHARE = 0.25
_MOST_CONFIRMATIONS = 3


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
        budget_s: After so long no further trial is begun.
        sensitivity: Whether blocks are measured even where nothing depends on it.
        lint: What is wrong with the calibration samples.
    """

    core: onnx.ModelProto
    trials: Sequence[Trial]
    surroundings: Surroundings
    standards: Standards
    calibration: Any
    reference: Any
    timing: TimingPlan
    budget_s: float
    sensitivity: bool = False
    lint: Sequence[dict[str, Any]] = ()


@dataclass(kw_only=True)
class Found:
    """What a search found.

    Attributes:
        candidates: One for each trial, in order; those that mixed precision added come last.
        sensitivity: Blocks with their errors and gains; empty where they were not measured.
        cached: How many jobs had been done before.
        jobs: How many there were.
        seconds: How long it took.
    """

    candidates: list[Candidate]
    sensitivity: dict[str, Any] = field(default_factory=dict)
    cached: int = 0
    jobs: int = 0
    seconds: float = 0.0


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
        self.keys: dict[str, str] = {}
        self.runner = JobRunner(folder, self._store())
        self.patience_s = _LEAST_PATIENCE_S

    def run(self) -> Found:
        plan = self.plan
        trials = list(plan.trials)
        baseline = self._try(trials[0], timeout_s=_BASELINE_TIMEOUT_S)
        self.found.candidates.append(baseline)
        if baseline.broken or baseline.answers is None:
            return self._finish()
        for done, trial in enumerate(trials[1:], start=1):
            self._tell(trial.name, done, len(trials))
            self.found.candidates.append(self._within_budget(trial))
        self._mix()
        self._time_finalists()
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
        store_answers(folder / "reference.npz", plan.reference)
        files = hash_of_files(path for path in folder.rglob("*") if path.is_file())
        return results_folder(key_of(files, conditions()))

    def _within_budget(self, trial: Trial) -> Candidate:
        left = self.plan.budget_s - (time.monotonic() - self.start)
        if left <= 0 and not self._is_known(trial):
            why = f"not tried: the budget of {self.plan.budget_s:.0f} s was spent"
            return Candidate(trial=trial, name=trial.name, recipe=trial.describe(), untried=why)
        limit_s = min(self.patience_s, max(left, 5.0))
        made = self._try(trial, timeout_s=limit_s, thorough=self._counts_all)
        if made.broken.startswith(HANGS) and limit_s < self.patience_s:
            made.broken = ""
            made.untried = f"cut off: the budget of {self.plan.budget_s:.0f} s was spent"
        return made

    @property
    def _counts_all(self) -> bool:
        """Whether slower candidates are judged, too: the smallest may be one."""
        return self.plan.standards.goal == "size"

    def _is_known(self, trial: Trial) -> bool:
        key = _key(trial, thorough=self._counts_all)
        return (self.runner.place(key) / "result.json").is_file()

    def _try(self, trial: Trial, *, timeout_s: float, thorough: bool = False) -> Candidate:
        key = _key(trial, thorough=thorough)
        job = {"do": "trial", "trial": trial.to_json(), "thorough": thorough}
        outcome = self._run(key, job, "result.json", timeout_s, self._same_file(trial, thorough))
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

    def _run(
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
        left = self.plan.budget_s - (time.monotonic() - self.start)
        if wanted is None or left <= 0:
            return
        budget_s = _SENSITIVITY_SHARE * self.plan.budget_s
        job = {"do": "sensitivity", "trial": wanted.trial.to_json(), "budget_s": budget_s}
        self._tell(f"blocks of {wanted.name}", len(self.plan.trials), len(self.plan.trials))
        timeout_s = 2 * budget_s + self.patience_s
        outcome = self._run(f"{_key(wanted.trial)}-blocks", job, "sensitivity.json", timeout_s)
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
            if self._is_good(candidate):
                break

    def _fastest_that_lost(self) -> Candidate | None:
        """Return the most faithful of the fastest that only accuracy keeps from being the best."""
        rows = [row for row in self.found.candidates[1:] if _can_mix(row)]
        lost = [row for row in rows if not row.failures and not self._is_accurate(row)]
        best = max(
            (speed_of(row) for row in self.found.candidates if self._is_good(row)), default=1.0
        )
        worth = [row for row in lost if speed_of(row) > _WORTH_MIXING * best]
        fastest = max(map(speed_of, worth), default=0.0)
        near = [row for row in worth if speed_of(row) >= _NEAR_BEST * fastest]
        return min(near, key=infidelity_of, default=None)

    def _any_quantized(self) -> Candidate | None:
        rows = [row for row in self.found.candidates[1:] if _can_mix(row)]
        return max(rows, key=speed_of, default=None)

    def _is_accurate(self, row: Candidate) -> bool:
        if not row.usable or row.answers is None:
            return False
        return judge_answers(row, self.found.candidates[0], self.plan.standards)[0]

    def _is_good(self, row: Candidate) -> bool:
        """Return whether a candidate may pass, as far as the short timing tells."""
        baseline = self.found.candidates[0]
        if row is baseline or not row.usable or row.failures or row.latency is None:
            return False
        return self._is_accurate(row) and row.latency.speedup > 1.0

    def _time_finalists(self) -> None:
        baseline = self.found.candidates[0]
        good = sorted(filter(self._is_good, self.found.candidates), key=speed_of, reverse=True)
        near = [row for row in good if speed_of(row) >= _NEAR_BEST * speed_of(good[0])]
        finalists = self._complete(near[:_MOST_FINALISTS])
        quantized = self._best_quantized()
        extra = [quantized] if quantized is not None and quantized not in finalists else []
        rows = [baseline, *finalists, *self._complete(extra)]
        self._time_together(rows)
        self._confirm()

    def _best_quantized(self) -> Candidate | None:
        """Return the INT8 candidate whose row must be whole even where none passes."""
        rows = [
            row
            for row in self.found.candidates[1:]
            if row.usable and row.precision == "int8" and row.trial.engine == ENGINE
        ]
        return max(
            rows,
            key=lambda row: (self._is_good(row), not row.failures, speed_of(row)),
            default=None,
        )

    def _complete(self, rows: Sequence[Candidate]) -> list[Candidate]:
        """Count every answer of candidates that a clear beginning let off."""
        whole = []
        for row in rows:
            if "stopped" in row.evidence:
                done = self._try(row.trial, timeout_s=_LAST_TIMEOUT_S, thorough=True)
                if done.usable and done.answers is not None:
                    # What was found of the file itself when it was made still holds.
                    done.failures = list(dict.fromkeys([*row.failures, *done.failures]))
                    done.evidence = {**row.evidence, **done.evidence}
                    done.recipe = row.recipe
                    del done.evidence["stopped"]
                    self.found.candidates[self.found.candidates.index(row)] = done
                    row = done
            whole.append(row)
        return whole

    def _timed(self, rows: Sequence[Candidate], what: str) -> dict[str, Any]:
        finalists = [
            {"id": row.trial.name, "trial": row.trial.to_json(), "model": str(row.path)}
            for row in rows
        ]
        plan = asdict(self.plan.timing)
        key = key_of(what, plan, [_key(row.trial) for row in rows])
        job = {"do": "time", "finalists": finalists, "plan": plan}
        self.progress(ProgressEvent(stage="time", done=0, total=1, note=f"{what}, interleaved"))
        limit = _LAST_TIMEOUT_S + 4 * self.plan.timing.budget_s
        outcome = self._run(key, job, "timing.json", limit)
        self.progress(ProgressEvent(stage="time", done=1, total=1))
        return outcome.value or {"rows": {}, "conditions": {"failed": outcome.reason}}

    def _time_together(self, rows: Sequence[Candidate]) -> None:
        """Time finalists in turns; where one of them ends the process, each alone with fp32."""
        timing = self._timed(rows, "final")
        if timing["rows"] or len(rows) == 1:
            self._apply(timing, rows)
            return
        baseline = rows[0]
        self._apply(self._timed([baseline], "final"), [baseline])
        for row in rows[1:]:
            self._apply(self._timed([baseline, row], "final"), [row])

    def _apply(self, timing: dict[str, Any], rows: Sequence[Candidate]) -> None:
        for row in rows:
            value = timing["rows"].get(row.trial.name)
            if value is None:  # never called faster on the word of a short timing
                row.failures.append(f"cannot be timed ({timing['conditions'].get('failed', '')})")
                continue
            row.latency = Latency(**value)
            row.evidence["latency"] = {
                **value,
                **timing["conditions"],
                "baseline": self.plan.trials[0].name,
            }

    def _confirm(self) -> None:
        """Time what would be chosen once more, alone with fp32: the fastest of many is lucky.

        Where the finalists fall, what only the short timing knows comes up: nothing is chosen on
        its word.
        """
        baseline = self.found.candidates[0]
        confirmed = {baseline.trial.name}
        for attempt in itertools.count():
            todo = [row for row in self._picked() if row.trial.name not in confirmed]
            if not todo:
                return
            for row in self._complete(todo):
                confirmed.add(row.trial.name)
                if attempt >= _MOST_CONFIRMATIONS:
                    row.failures.append("its speed was not confirmed, as those before it were not")
                    continue
                timing = self._timed([baseline, row], "confirm")
                row.evidence["first_timing"] = row.evidence["latency"]
                self._apply(timing, [baseline, row] if timing["rows"] else [row])

    def _picked(self) -> list[Candidate]:
        """Return what would be chosen of all that was tried, each once."""
        rows = [row for row in self.found.candidates if row.usable]
        baseline, standards = rows[0], self.plan.standards
        verdicts = {row.name: judge(row, baseline, standards) for row in rows}
        return list(dict.fromkeys(choose(rows, verdicts, goal=standards.goal)))

    def _tell(self, note: str, done: int, total: int) -> None:
        good = [row for row in self.found.candidates if self._is_good(row)]
        best = max(good, key=speed_of, default=None)
        text = f"{note}; best so far {best.name} {speed_of(best):.2f}x" if best else note
        self.progress(ProgressEvent(stage="search", done=done, total=total, note=text))

    def _finish(self) -> Found:
        self.found.seconds = time.monotonic() - self.start
        return self.found


def _key(trial: Trial, *, thorough: bool = False) -> str:
    """Return the name of a trial's result: what it is, not what it is called."""
    value = {**trial.to_json(), "name": ""}
    if trial.file:
        value["file"] = hash_of_files([Path(trial.file)])
    return key_of(value) + ("-thorough" if thorough else "")


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
