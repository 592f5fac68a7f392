"""The end of a search: finalists side by side, and the one that would be chosen once more.

The fastest of many is partly lucky, so its speed must hold alone with fp32, too. What only the
short timing of a trial knows is never chosen on its word.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Protocol

from edgeml.core.manifest import ENGINE
from edgeml.core.progress import Progress, ProgressEvent
from edgeml.core.timing import Latency
from edgeml.exporting.trials import Trial
from edgeml.workflows.candidates import Candidate
from edgeml.workflows.jobs import Outcome, key_of
from edgeml.workflows.judging import choose, judge, speed_of
from edgeml.workflows.search_plan import Found, SearchPlan, key_of_trial

_TIMEOUT_S = 300.0
_MOST_FINALISTS = 6
# A short timing is only so exact: what is within this share of the best may be the best.
NEAR_BEST = 0.85
_MOST_CONFIRMATIONS = 3


class Search(Protocol):
    """What the finals need of a search."""

    plan: SearchPlan
    found: Found
    progress: Progress

    def try_trial(self, trial: Trial, *, timeout_s: float, thorough: bool = False) -> Candidate:
        """Do a trial, or find what it gave before."""
        ...

    def run_job(self, key: str, job: dict[str, Any], output: str, timeout_s: float) -> Outcome:
        """Do a job in a child process, or find what it gave before."""
        ...

    def is_good(self, row: Candidate) -> bool:
        """Return whether a candidate may pass, as far as the short timing tells."""
        ...


class Finals:
    """Times what may be chosen.

    Args:
        search: Whose candidates.
    """

    def __init__(self, search: Search) -> None:
        self.search = search

    def run(self) -> None:
        """Complete, time and confirm; candidates are changed in place."""
        baseline = self.search.found.candidates[0]
        good = sorted(
            filter(self.search.is_good, self.search.found.candidates), key=speed_of, reverse=True
        )
        near = [row for row in good if speed_of(row) >= NEAR_BEST * speed_of(good[0])]
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
            for row in self.search.found.candidates[1:]
            if row.usable and row.precision == "int8" and row.trial.engine == ENGINE
        ]
        return max(
            rows,
            key=lambda row: (self.search.is_good(row), not row.failures, speed_of(row)),
            default=None,
        )

    def _complete(self, rows: Sequence[Candidate]) -> list[Candidate]:
        """Count every answer of candidates that a clear beginning let off."""
        whole = []
        for row in rows:
            if "stopped" in row.evidence:
                done = self.search.try_trial(row.trial, timeout_s=_TIMEOUT_S, thorough=True)
                if done.usable and done.answers is not None:
                    # What was found of the file itself when it was made still holds.
                    done.failures = list(dict.fromkeys([*row.failures, *done.failures]))
                    done.evidence = {**row.evidence, **done.evidence}
                    done.recipe = row.recipe
                    del done.evidence["stopped"]
                    self.search.found.candidates[self.search.found.candidates.index(row)] = done
                    row = done
            whole.append(row)
        return whole

    def _timed(self, rows: Sequence[Candidate], what: str) -> dict[str, Any]:
        finalists = [
            {"id": row.trial.name, "trial": row.trial.to_json(), "model": str(row.path)}
            for row in rows
        ]
        plan = asdict(self.search.plan.timing)
        # Its rows are called by name, so another name is another timing.
        key = key_of(what, plan, [[row.trial.name, key_of_trial(row.trial)] for row in rows])
        job = {"do": "time", "finalists": finalists, "plan": plan}
        self.search.progress(
            ProgressEvent(stage="time", done=0, total=1, note=f"{what}, interleaved")
        )
        limit = _TIMEOUT_S + 4 * self.search.plan.timing.budget_s
        outcome = self.search.run_job(key, job, "timing.json", limit)
        self.search.progress(ProgressEvent(stage="time", done=1, total=1))
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
                "baseline": self.search.plan.trials[0].name,
            }

    def _confirm(self) -> None:
        """Time what would be chosen once more, alone with fp32: the fastest of many is lucky.

        Where the finalists fall, what only the short timing knows comes up: nothing is chosen on
        its word.
        """
        baseline = self.search.found.candidates[0]
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
        rows = [row for row in self.search.found.candidates if row.usable]
        baseline, standards = rows[0], self.search.plan.standards
        verdicts = {row.name: judge(row, baseline, standards) for row in rows}
        return list(dict.fromkeys(choose(rows, verdicts, goal=standards.goal)))
