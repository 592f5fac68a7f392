"""The search itself, with jobs that say what they are told: budget, mixing, finalists, order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgeml.core.files import write_json
from edgeml.core.gate import Gate
from edgeml.core.progress import ProgressEvent, silent
from edgeml.core.signature import ModelSignature, TensorSpec
from edgeml.core.timing import TimingPlan
from edgeml.exporting.answers import Answers, Reading
from edgeml.exporting.assembly import Assembly
from edgeml.exporting.quantizing import IntegerTypes, StaticRecipe
from edgeml.exporting.trials import Trial
from edgeml.tasks.samples import TensorSamples
from edgeml.workflows import searching
from edgeml.workflows.candidates import Candidate, LabelledSamples
from edgeml.workflows.jobs import Outcome
from edgeml.workflows.judging import Standards, judge, settle
from edgeml.workflows.search_plan import Found, SearchPlan
from edgeml.workflows.searching import run_search
from edgeml.workflows.trial_steps import Surroundings, store_answers

_COUNT = 200
_TYPES = IntegerTypes(activations="uint8", weights="int8", reduce_range=False)
_RIGHT = np.eye(2, dtype=np.float32)[np.arange(_COUNT) % 2]
_BLOCKS = [
    {"nodes": [name], "error": error, "saved_ms": 1.0}
    for name, error in (("a", 1.0), ("b", 5.0), ("c", 2.0))
]


def _latency(speed: float) -> dict[str, Any]:
    return {
        "p50_ms": 1 / speed,
        "p90_ms": 1 / speed,
        "p99_ms": None,
        "speedup": speed,
        "speedup_low": speed * 0.99,
        "speedup_high": speed * 1.01,
        "stable": True,
        "num_calls": 9,
    }


class Script:
    """What the jobs of a search shall find, and which were done.

    Args:
        screening: Trial to its speed in the short timing.
        final: Trial to its speed when it is timed beside others; the short one's unless given.
        confirmed: Trial to its speed when it is timed again, likewise.
        wrong: Trial to how many answers are wrong.
    """

    def __init__(
        self,
        screening: dict[str, float],
        *,
        final: dict[str, float] | None = None,
        confirmed: dict[str, float] | None = None,
        wrong: dict[str, int] | None = None,
    ) -> None:
        self.screening = {"fp32": 1.0, **screening}
        self.final = {**self.screening, **(final or {})}
        self.confirmed = {**self.final, **(confirmed or {})}
        self.wrong = wrong or {}
        self.refused: Callable[[dict[str, Any]], bool] = lambda _: False
        self.blocks: list[dict[str, Any]] = _BLOCKS
        self.sizes: dict[str, int] = {}
        self.done: list[str] = []

    def __call__(self, work: Path, results: Path) -> Runner:
        return Runner(self, results)


class Runner:
    """Stands for the processes."""

    def __init__(self, script: Script, results: Path) -> None:
        self.script = script
        self.results = results

    def place(self, key: str) -> Path:
        return self.results / key

    def run(self, key: str, job: dict[str, Any], *, output: str, **_: Any) -> Outcome:
        script = self.script
        finalists = job.get("finalists", [])
        names = [row["trial"]["name"] for row in finalists] or [job["trial"]["name"]]
        script.done.append(f"{job['do']} {' '.join(names)}")
        if script.refused(job):
            return Outcome(value=None, reason="crashes: its process was ended by SIGSEGV")
        if job["do"] == "sensitivity":
            return Outcome(value={"trial": names[0], "blocks": script.blocks, "complete": True})
        if job["do"] == "time":
            again = sum(row.startswith("time") for row in script.done) > 1
            speeds = script.confirmed if again else script.final
            rows = {row["id"]: _latency(speeds[row["trial"]["name"]]) for row in finalists}
            return Outcome(value={"rows": rows, "conditions": {"threads": 1}})
        return self._trial(key, names[0], thorough=job["thorough"])

    def _trial(self, key: str, name: str, *, thorough: bool) -> Outcome:
        place = self.place(key)
        place.mkdir(parents=True, exist_ok=True)
        (place / "model.onnx").write_bytes(b"x" * self.script.sizes.get(name, 100))
        speed = self.script.screening[name]
        evidence: dict[str, Any] = {"peak_mb": 1.0}
        if name != "fp32":
            evidence["screening"] = _latency(speed)
        if name == "fp32" or speed > 1 or thorough:
            answers = _RIGHT.copy()
            count = self.script.wrong.get(name, 0)
            answers[:count] = answers[:count, ::-1]
            store_answers(place / "answers.npz", Answers(probabilities=answers))
        else:
            evidence["stopped"] = "slower than fp32"
        value = {
            "broken": "",
            "failures": [],
            "evidence": evidence,
            "batch_safe": True,
            "peak_mb": 1.0,
        }
        write_json(place / "result.json", value)
        return Outcome(value=value, seconds=0.1)


def _trial(name: str) -> Trial:
    # Trials that differ in nothing but their names are one.
    recipe = StaticRecipe(types=_TYPES, num_samples=int.from_bytes(name.encode(), "big"))
    return Trial(name=name, kind="static", precision="int8", recipe=recipe)


def _plan(*names: str, goal: str = "latency", **changes: Any) -> SearchPlan:
    signature = ModelSignature(
        inputs=(TensorSpec(name="x", dtype="float32", shape=("batch", 2)),),
        outputs=(TensorSpec(name="y", dtype="float32", shape=("batch", 2)),),
    )
    samples = TensorSamples({"x": _RIGHT})
    reading = Reading(scores="y")
    right = LabelledSamples(inputs=samples, targets=np.arange(_COUNT) % 2)
    plan = SearchPlan(
        core=onnx.ModelProto(),
        trials=[Trial(name="fp32", kind="float", precision="fp32"), *map(_trial, names)],
        surroundings=Surroundings(
            assembly=Assembly(frame="none", signature=signature),
            reading=reading,
            gate=Gate(),
            invariance_samples=4,
            invariance_tolerance={},
            batches=True,
            num_threads=1,
            timing_threads=1,
        ),
        standards=Standards(gate=Gate(), selection=right, reading=reading, goal=goal),
        calibration=samples,
        reference=Answers(probabilities=_RIGHT),
        timing=TimingPlan(rounds=1),
        budget_s=100.0,
    )
    return replace(plan, **changes)


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Found]:
    monkeypatch.setenv("EDGEML_SEARCH_CACHE", str(tmp_path / "cache"))

    def run(script: Script, plan: SearchPlan, progress: Any = silent) -> Found:
        monkeypatch.setattr(searching, "JobRunner", script)
        work = tmp_path / f"work-{len(list(tmp_path.iterdir()))}"
        work.mkdir()
        return run_search(plan, work, progress)

    return run


Search = Callable[..., Found]


def _chosen(found: Found, plan: SearchPlan) -> Candidate:
    rows = [row for row in found.candidates if row.usable]
    verdicts = {row.name: judge(row, rows[0], plan.standards) for row in rows}
    settled = settle(rows, verdicts, goal=plan.standards.goal)
    return next(row for row in rows if settled.verdicts[row.name][0] == "chosen")


def test_the_fastest_is_timed_in_the_finals_and_once_more(search: Search) -> None:
    script, plan = Script({"one": 2.0, "two": 1.9, "slow": 0.5}), _plan("one", "two", "slow")
    found = search(script, plan)
    assert script.done == [
        *(f"trial {name}" for name in ("fp32", "one", "two", "slow")),
        "time fp32 one two",
        "time fp32 one",
    ]
    assert _chosen(found, plan).trial.name == "one"
    assert found.jobs == 6


def test_luck_in_the_finals_is_not_taken_for_speed(search: Search) -> None:
    script = Script({"lucky": 2.0, "good": 1.9}, confirmed={"lucky": 0.9})
    plan = _plan("lucky", "good")
    found = search(script, plan)
    assert _chosen(found, plan).trial.name == "good"
    assert script.done[-2:] == ["time fp32 lucky", "time fp32 good"]
    lucky = found.candidates[1]
    assert lucky.evidence["first_timing"]["speedup"] == 2.0
    assert not judge(lucky, found.candidates[0], plan.standards)[1].startswith("2.00x")


def test_nothing_is_chosen_on_the_word_of_a_short_timing(search: Search) -> None:
    # Too slow for the finals, whose only entrant turns out to be slow.
    script = Script({"bold": 4.0, "modest": 2.0}, final={"bold": 0.5, "modest": 0.5})
    plan = _plan("bold", "modest")
    found = search(script, plan)
    assert _chosen(found, plan).name == "fp32"
    assert "time fp32 modest" in script.done
    script = Script({"bold": 4.0, "modest": 2.0}, final={"bold": 0.5})
    found = search(script, plan)
    chosen = _chosen(found, plan)
    assert chosen.trial.name == "modest"
    assert "timing" not in chosen.evidence["latency"]  # no longer the short one


def test_luck_has_an_end(search: Search) -> None:
    names = [f"n{'x' * index}" for index in range(6)]
    slow = dict.fromkeys(names, 0.5)
    script = Script(dict.fromkeys(names, 2.0), confirmed=slow)
    plan = _plan(*names)
    found = search(script, plan)
    assert _chosen(found, plan).name == "fp32"
    assert sum(row.startswith("time") for row in script.done) <= 5
    assert any("was not confirmed" in " ".join(row.failures) for row in found.candidates)


def test_a_finalist_that_ends_the_timing_costs_itself_alone(search: Search) -> None:
    script, plan = Script({"deadly": 2.0, "good": 1.9}), _plan("deadly", "good")
    script.refused = lambda job: "deadly" in str(job.get("finalists", ""))
    found = search(script, plan)
    assert _chosen(found, plan).trial.name == "good"
    deadly = found.candidates[1]
    assert deadly.failures == ["cannot be timed (crashes: its process was ended by SIGSEGV)"]
    assert found.candidates[0].failures == []


def test_a_spent_budget_leaves_rows_that_say_so(search: Search) -> None:
    script, plan = Script({"one": 2.0}), _plan("one", "other", budget_s=1e-6)
    found = search(script, plan)
    why = "not tried: the budget of 0 s was spent"
    assert [row.untried for row in found.candidates] == ["", why, why]
    assert _chosen(found, plan).name == "fp32"
    assert script.done == ["trial fp32", "time fp32"]


def test_what_is_known_already_needs_no_budget(search: Search) -> None:
    script = Script({"one": 2.0, "other": 1.5})
    search(script, _plan("one"))
    plan = _plan("one", "other", budget_s=1e-6)
    found = search(script, plan)
    assert [bool(row.untried) for row in found.candidates] == [False, False, True]
    assert _chosen(found, plan).trial.name == "one"


def test_a_baseline_that_breaks_ends_the_search(search: Search) -> None:
    script = Script({"one": 2.0})
    script.refused = lambda job: job["do"] == "trial"
    found = search(script, _plan("one"))
    assert [row.broken[:7] for row in found.candidates] == ["crashes"]


def test_one_that_lost_accuracy_is_mixed_the_dearest_block_first(search: Search) -> None:
    names = [f"int8-mixed-{count}" for count in (1, 2)]
    script = Script(
        {"int8": 2.0, **dict.fromkeys(names, 1.8)}, wrong={"int8": 20, "int8-mixed-1": 20}
    )
    plan = _plan("int8")
    found = search(script, plan)
    tried = [row for row in found.candidates if row.name.startswith("int8-mixed")]
    recipes = [row.trial.recipe for row in tried]
    assert [row.name for row in tried] == names
    assert [recipe.float_nodes for recipe in recipes] == [("b",), ("b", "c")]  # type: ignore[union-attr]
    assert _chosen(found, plan).trial.name == "int8-mixed-2"
    assert found.sensitivity["blocks"] == _BLOCKS


@pytest.mark.parametrize(
    "script",
    [
        Script({"int8": 2.0}),
        Script({"int8": 0.9}, wrong={"int8": 20}),
        Script({"int8": 1.5, "other": 2.0}, wrong={"int8": 20}),
    ],
    ids=["accurate", "slow", "no faster than what passes"],
)
def test_where_nothing_is_to_be_won_no_block_is_measured(search: Search, script: Script) -> None:
    found = search(script, _plan(*[name for name in script.screening if name != "fp32"]))
    assert not any(row.startswith("sensitivity") for row in script.done)
    assert found.sensitivity == {}


def test_blocks_are_measured_where_that_is_asked_for(search: Search) -> None:
    script = Script({"int8": 2.0})
    found = search(script, _plan("int8", sensitivity=True))
    assert "sensitivity int8" in script.done
    assert found.sensitivity["blocks"] == _BLOCKS
    assert not any(row.name.startswith("int8-mixed") for row in found.candidates)


def test_a_measurement_of_blocks_that_crashes_costs_only_itself(search: Search) -> None:
    script, plan = Script({"int8": 2.0}, wrong={"int8": 20}), _plan("int8")
    script.refused = lambda job: job["do"] == "sensitivity"
    found = search(script, plan)
    assert found.sensitivity["reason"].startswith("crashes")
    assert _chosen(found, plan).name == "fp32"


def test_the_smallest_that_is_no_worse_is_chosen_however_slow(search: Search) -> None:
    script = Script({"fast": 2.0, "slow": 0.7, "wrong": 0.6}, wrong={"wrong": 20})
    script.sizes = {"fp32": 100, "fast": 60, "slow": 30, "wrong": 10}
    plan = _plan("fast", "slow", "wrong", goal="size")
    found = search(script, plan)
    assert _chosen(found, plan).trial.name == "slow"
    plan = _plan("fast", "slow", "wrong")
    assert _chosen(search(script, plan), plan).trial.name == "fast"


def test_progress_names_the_best_so_far(search: Search) -> None:
    told: list[ProgressEvent] = []
    search(Script({"one": 1.5, "two": 2.0}), _plan("one", "two"), told.append)
    notes = [event.note for event in told if event.stage == "search"]
    assert notes[0] == "one"
    assert notes[1] == "two; best so far one 1.50x"
    assert notes[-1].endswith("best so far two 2.00x")
