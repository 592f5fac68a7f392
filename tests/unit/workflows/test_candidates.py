"""From a measured candidate to its verdict, with made-up measurements."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from edgeml.core.gate import Gate
from edgeml.core.timing import Latency
from edgeml.exporting.answers import Answers, Reading
from edgeml.exporting.quantizing import TYPES_BY_INSTRUCTION_SET, StaticRecipe
from edgeml.exporting.trials import Trial
from edgeml.runtime.host import instruction_set
from edgeml.tasks.samples import ArraySamples
from edgeml.workflows.candidates import Candidate, LabelledSamples
from edgeml.workflows.judging import Settled, Standards, choose, judge, settle

COUNT = 1000
TARGETS = (np.arange(COUNT) % 4).astype(np.int64)
INPUTS = ArraySamples("image", np.zeros((COUNT, 1, 1, 3), dtype=np.uint8))
STANDARDS = Standards(
    gate=Gate(), selection=LabelledSamples(inputs=INPUTS, targets=TARGETS), reading=Reading()
)
RECIPE = StaticRecipe(types=TYPES_BY_INSTRUCTION_SET["generic"])


def latency(speedup: float, *, low: float | None = None, stable: bool = True) -> Latency:
    return Latency(
        p50_ms=1 / speedup,
        p90_ms=2 / speedup,
        p99_ms=None,
        speedup=speedup,
        speedup_low=speedup - 0.05 if low is None else low,
        speedup_high=speedup + 0.05,
        stable=stable,
        num_calls=300,
    )


def _answers(wrong: int) -> Answers:
    """Answers of which the first few are wrong."""
    given = np.where(np.arange(COUNT) < wrong, (TARGETS + 1) % 4, TARGETS)
    rows = np.full((COUNT, 4), 0.1, dtype=np.float32) + 0.6 * np.eye(4, dtype=np.float32)[given]
    return Answers(probabilities=rows)


def candidate(name: str = "int8", *, wrong: int = 20, **options: Any) -> Candidate:
    precision = name.partition("-")[0]
    kind = {"fp32": "float", "fp16": "half", "int8": "static"}[precision]
    recipe = RECIPE if kind == "static" else None
    trial = Trial(name=name, kind=kind, precision=precision, recipe=recipe)
    values: dict[str, Any] = {"latency": latency(2.0), **options}
    return Candidate(trial=trial, name=name, answers=_answers(wrong), **values)


FP32 = candidate("fp32", latency=latency(1.0, low=1.0))
Verdicts = dict[str, tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class JudgeCase:
    """A candidate beside an fp32 that is wrong 20 times in 1,000, and its verdict."""

    id: str
    verdict: str
    says: str
    name: str = "int8"
    wrong: int = 20
    latency: Latency = field(default_factory=lambda: latency(2.0))
    failures: tuple[str, ...] = ()
    batch_safe: bool = True
    gate: Gate = field(default_factory=Gate)


@pytest.mark.parametrize(
    "case",
    [
        JudgeCase(id="as-good-and-faster", verdict="passed", says="2.00x [1.95, 2.05]; accuracy"),
        JudgeCase(id="at-the-limit", wrong=25, verdict="passed", says="drop +0.50 points"),
        JudgeCase(id="worse", wrong=26, verdict="rejected", says="accuracy drop +0.60 points of"),
        JudgeCase(
            id="a-looser-gate",
            wrong=26,
            gate=Gate(max_accuracy_drop=0.01),
            verdict="passed",
            says="of 1.00 allowed",
        ),
        JudgeCase(
            id="proof-asked-for",
            wrong=24,
            gate=Gate(require_proof=True),
            verdict="rejected",
            says="not proven: ",
        ),
        JudgeCase(
            id="slower",
            latency=latency(0.8),
            verdict="rejected",
            says="not proven faster than fp32 on this host: 0.80x",
        ),
        JudgeCase(
            id="perhaps-faster",
            latency=latency(1.2, low=0.99),
            verdict="rejected",
            says="not proven faster than fp32 on this host: 1.20x [0.99, 1.25]",
        ),
        JudgeCase(
            id="unstable",
            latency=latency(3.0, stable=False),
            verdict="rejected",
            says="not proven faster than fp32 on this host: 3.00x [2.95, 3.05], unstable",
        ),
        JudgeCase(
            id="a-failed-proof-outweighs-all",
            failures=("only 0 of 50 run quantized",),
            verdict="rejected",
            says="only 0 of 50 run quantized; accuracy drop +0.00",
        ),
        JudgeCase(
            id="answers-depend-on-neighbours",
            batch_safe=False,
            verdict="passed",
            says="; for single items only: answers depend on neighbours",
        ),
        JudgeCase(
            id="fp16-is-kept-for-gpus",
            name="fp16",
            latency=latency(0.8),
            verdict="rejected",
            says="(kept for GPUs; not run on a GPU)",
        ),
    ],
    ids=lambda case: case.id,
)
def test_a_verdict_has_its_reason(case: JudgeCase) -> None:
    row = candidate(
        case.name,
        wrong=case.wrong,
        latency=case.latency,
        failures=list(case.failures),
        batch_safe=case.batch_safe,
    )
    verdict, reason = judge(row, FP32, replace(STANDARDS, gate=case.gate))
    assert verdict == case.verdict
    assert case.says in reason
    assert row.evidence["accuracy"]["lost"] == max(0, case.wrong - 20)
    assert row.evidence["accuracy"]["limit"] == case.gate.max_accuracy_drop
    json.dumps(row.evidence, allow_nan=False)


def test_fp32_is_the_reference() -> None:
    assert judge(FP32, FP32, STANDARDS)[0] == "reference"


def _judged(*rows: Candidate) -> tuple[list[Candidate], Verdicts]:
    everything = [replace(FP32, evidence={}), *rows]
    fp32 = everything[0]
    return everything, {row.name: judge(row, fp32, STANDARDS) for row in everything}


def _settle(*rows: Candidate) -> Settled:
    return settle(*_judged(*rows))


def _names(rows: list[Candidate]) -> list[str]:
    return [row.name for row in rows]


@dataclass(frozen=True, kw_only=True)
class ChoiceCase:
    """Speeds of an int8 that may answer batches and of one that may not; who answers what."""

    id: str
    safe: float | None = None
    unsafe: float | None = None
    unsafe_wrong: int = 20
    single: str
    batches: str


@pytest.mark.parametrize(
    "case",
    [
        ChoiceCase(id="nothing-else", single="fp32", batches="fp32"),
        ChoiceCase(id="a-safe-one", safe=2.0, single="int8", batches="int8"),
        ChoiceCase(id="none-is-faster", safe=0.9, unsafe=0.8, single="fp32", batches="fp32"),
        ChoiceCase(
            id="unsafe-by-a-twentieth",
            safe=2.0,
            unsafe=2.1,
            single="int8-dynamic",
            batches="int8",
        ),
        ChoiceCase(id="unsafe-by-less", safe=2.0, unsafe=2.09, single="int8", batches="int8"),
        ChoiceCase(id="unsafe-is-slower", safe=2.0, unsafe=1.5, single="int8", batches="int8"),
        ChoiceCase(
            id="unsafe-is-wrong",
            safe=1.5,
            unsafe=3.0,
            unsafe_wrong=90,
            single="int8",
            batches="int8",
        ),
        ChoiceCase(id="unsafe-alone", unsafe=1.5, single="int8-dynamic", batches="fp32"),
        ChoiceCase(
            id="unsafe-beside-a-slow-safe-one",
            safe=0.5,
            unsafe=1.5,
            single="int8-dynamic",
            batches="fp32",
        ),
        # Two models in memory for a twenty-fifth of the time: fp32 is a safe one, too.
        ChoiceCase(id="unsafe-alone-by-less", unsafe=1.04, single="fp32", batches="fp32"),
    ],
    ids=lambda case: case.id,
)
def test_one_answers_single_items_and_a_safe_one_batches(case: ChoiceCase) -> None:
    made = []
    if case.safe is not None:
        made.append(candidate("int8", latency=latency(case.safe, low=case.safe - 0.01)))
    if case.unsafe is not None:
        row = candidate(
            "int8-dynamic",
            latency=latency(case.unsafe, low=case.unsafe - 0.01),
            wrong=case.unsafe_wrong,
            batch_safe=False,
        )
        made.append(row)
    rows, verdicts = _judged(*made)
    single, together = choose(rows, verdicts, goal="latency")
    assert (single.name, together.name) == (case.single, case.batches)
    kept, settled, dropped, _, _ = settle(rows, verdicts)
    assert single in kept
    assert together in kept
    assert together.batch_safe
    assert [row for row in kept if settled[row.name][0] == "chosen"] == [single]
    assert sorted(settled) == sorted(_names([*kept, *dropped]))
    assert len({*map(id, kept), *map(id, dropped)}) == len(rows)


@pytest.mark.parametrize(("speedup", "chosen"), [(2.03, "int8-p"), (2.05, "int8")], ids=str)
def test_of_equally_fast_ones_the_most_faithful_is_chosen(speedup: float, chosen: str) -> None:
    rows, verdicts = _judged(
        candidate("int8", latency=latency(speedup), wrong=24),
        candidate("int8-p", latency=latency(2.0)),
    )
    single, together = choose(rows, verdicts, goal="latency")
    assert (single.name, together.name) == (chosen, chosen)
    _, settled, _, _, _ = settle(rows, verdicts)
    lead = "fastest that" if chosen == "int8" else "about as fast as the fastest that"
    assert settled["int8"][1].startswith(lead)


def test_a_small_gain_for_single_items_alone_is_not_called_none() -> None:
    row = candidate("int8", latency=latency(1.04, low=1.01), batch_safe=False)
    _, verdicts, _, _, _ = _settle(row)
    assert verdicts["fp32"][1] == "none of int8 is no worse and faster by a twentieth here"
    assert verdicts["int8"][0] == "passed"


def test_the_fastest_that_passed_is_chosen_and_called_int8() -> None:
    kept, verdicts, dropped, _, _ = _settle(
        candidate("int8", latency=latency(1.5)),
        candidate("int8-early-float", latency=latency(1.8)),
        candidate("int8-third", latency=latency(3.0), wrong=90),
    )
    assert _names(kept) == ["fp32", "int8"]
    assert kept[1].evidence["candidate"] == "int8-early-float"
    assert verdicts["int8"][0] == "chosen"
    assert verdicts["int8"][1].startswith("fastest that is no worse: 1.80x")
    assert verdicts["fp32"][0] == "reference"
    others = kept[1].evidence["other_candidates"]
    assert [(row["name"], row["verdict"]) for row in others] == [
        ("int8-second", "passed"),
        ("int8-third", "rejected"),
    ]
    # Who had the reserved name before has taken another, with its verdict.
    assert _names(dropped) == ["int8-second", "int8-third"]
    assert "1.50x" in verdicts["int8-second"][1]
    assert verdicts["int8-third"][0] == "rejected"


def test_who_is_called_int8_already_keeps_its_name() -> None:
    kept, verdicts, dropped, _, _ = _settle(
        candidate("int8", latency=latency(2.5)), candidate("int8-p99.9", latency=latency(1.5))
    )
    assert _names(kept) == ["fp32", "int8"]
    assert (kept[1].evidence["candidate"], verdicts["int8"][0]) == ("int8", "chosen")
    assert _names(dropped) == ["int8-p99.9"]


def test_the_one_for_single_items_is_called_int8_and_the_one_for_batches_stays() -> None:
    kept, verdicts, dropped, _, _ = _settle(
        candidate("int8", latency=latency(2.0)),
        candidate("int8-p99.9", latency=latency(1.4)),
        candidate("int8-dynamic", latency=latency(3.0), batch_safe=False),
    )
    assert _names(kept) == ["fp32", "int8-second", "int8"]
    assert kept[2].evidence["candidate"] == "int8-dynamic"
    assert verdicts["int8"][0] == "chosen"
    assert verdicts["int8"][1].endswith("answers depend on neighbours")
    assert verdicts["int8-second"][0] == "passed"
    assert verdicts["int8-second"][1].startswith("answers batches: 2.00x")
    assert _names(dropped) == ["int8-p99.9"]


def test_a_float_that_is_fastest_is_chosen_beside_the_best_int8() -> None:
    lean = candidate("fp32-lean", latency=latency(1.5))
    other = candidate("fp32-other", latency=latency(1.1))
    kept, verdicts, dropped, _, _ = _settle(lean, other, candidate("int8", latency=latency(1.2)))
    assert _names(kept) == ["fp32", "fp32-lean", "int8"]
    assert [verdicts[name][0] for name in _names(kept)] == ["reference", "chosen", "passed"]
    assert _names(dropped) == ["fp32-other"]


def test_where_none_passed_fp32_is_chosen_and_the_most_accurate_int8_kept() -> None:
    kept, verdicts, dropped, _, _ = _settle(
        candidate("fp16", latency=latency(0.7)),
        candidate("int8", wrong=90, latency=latency(4.0)),
        candidate("int8-early-float", wrong=40),
    )
    assert _names(kept) == ["fp32", "fp16", "int8"]
    assert kept[2].evidence["candidate"] == "int8-early-float"
    assert verdicts["int8"][0] == "rejected"
    assert verdicts["fp32"] == (
        "chosen",
        "none of fp16, int8, int8-early-float is no worse and proven faster here",
    )
    assert _names(dropped) == ["int8-second"]


def test_without_int8_fp32_stands_alone() -> None:
    kept, verdicts, dropped, _, _ = _settle()
    assert (_names(kept), dropped) == (["fp32"], [])
    assert verdicts["fp32"][0] == "chosen"


def test_several_labels_are_right_together_or_not() -> None:
    truth = np.array([[True, False], [True, True], [False, False]])
    rows = np.array([[0.9, 0.4], [0.5, 0.49], [0.1, 0.2]], dtype=np.float32)
    samples = LabelledSamples(inputs=INPUTS.first(3), targets=truth)
    assert samples.right(Answers(probabilities=rows)).tolist() == [True, False, True]


def test_every_machine_that_can_be_detected_can_be_exported_for() -> None:
    flags = (
        "amx_int8",
        "avx512_vnni",
        "avx_vnni",
        "avx512f",
        "avx512bw",
        "avx2",
        "i8mm",
        "asimddp",
    )
    names = {instruction_set(frozenset(flags[start:])) for start in range(len(flags) + 1)}
    assert names == set(TYPES_BY_INSTRUCTION_SET)
