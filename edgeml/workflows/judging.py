"""Measured candidates judged by the gate: verdicts, and what is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from edgeml.core.gate import Gate
from edgeml.core.manifest import ENGINE
from edgeml.core.paired import compare_accuracy
from edgeml.core.timing import Latency
from edgeml.exporting.answers import Reading, compare_answers
from edgeml.workflows.candidates import Candidate, LabelledSamples

# A variant that answers single items only must be this much faster to be worth a second one in
# memory for batches.
_WORTH_TWO = 1.05
# Candidates whose speeds differ by less are equally fast; of those the most faithful is taken.
_EQUALLY_FAST = 1.02


@dataclass(frozen=True, kw_only=True)
class Standards:
    """What candidates are judged by.

    Attributes:
        gate: The limits.
        selection: What they were compared on.
        reading: How outputs become answers.
        goal: ``latency``: proven faster than fp32 passes, the fastest is chosen; ``size``: no
            worse passes, the smallest is chosen.
    """

    gate: Gate
    selection: LabelledSamples
    reading: Reading
    goal: str = "latency"


def judge(candidate: Candidate, fp32: Candidate, standards: Standards) -> tuple[str, str]:
    """Return verdict and reason of one candidate, before the best is chosen.

    Returns:
        ``reference`` for fp32; ``passed`` for what is no worse and proven faster; else
        ``rejected``.
    """
    assert candidate.latency is not None
    if candidate is fp32:
        return "reference", "what the others are compared with"
    speed = speed_text(candidate.latency)
    if candidate.answers is None:
        lead = f"{'; '.join(candidate.failures)}; " if candidate.failures else ""
        return "rejected", f"{lead}slower than fp32 on this host: {speed}; accuracy not measured"
    no_worse, why = judge_answers(candidate, fp32, standards)
    if candidate.failures:
        return "rejected", f"{'; '.join(candidate.failures)}; {why}; {speed}"
    if not no_worse:
        return "rejected", f"{why}; {speed}"
    if standards.goal == "latency" and not candidate.latency.proven_faster:
        note = " (kept for GPUs; not run on a GPU)" if candidate.precision == "fp16" else ""
        return "rejected", f"not proven faster than fp32 on this host: {speed}; {why}{note}"
    alone = "" if candidate.batch_safe else "; for single items only: answers depend on neighbours"
    return "passed", f"{speed}; {why}{alone}"


def judge_answers(candidate: Candidate, fp32: Candidate, standards: Standards) -> tuple[bool, str]:
    """Return whether a candidate's answers are no worse than fp32's, and why; keep the evidence."""
    assert candidate.answers is not None
    assert fp32.answers is not None
    gate, selection = standards.gate, standards.selection
    reference = fp32.answers.first(len(candidate.answers))
    agreement = compare_answers(reference, candidate.answers, standards.reading)
    candidate.evidence["agreement"] = asdict(agreement)
    if selection.targets is None:
        accurate, why = gate.judge_agreement(agreement)
    else:
        paired = compare_accuracy(selection.right(reference), selection.right(candidate.answers))
        accurate, why = gate.judge_accuracy(paired)
        candidate.evidence["accuracy"] = {
            **asdict(paired),
            "limit": gate.max_accuracy_drop,
            "proven": paired.proven(gate.max_accuracy_drop),
            "samples_needed": paired.samples_needed(gate.max_accuracy_drop),
        }
        if agreement.relative_error > gate.max_relative_error:
            accurate = False
            why += f"; other outputs err by {agreement.relative_error:.3g}, relative"
    stopped = candidate.evidence.get("stopped", "")
    if stopped:
        why += f"; {stopped}"
    candidate.evidence["no_worse"] = accurate and not candidate.failures
    return accurate, why


def choose(
    candidates: Sequence[Candidate], verdicts: Mapping[str, tuple[str, str]], *, goal: str
) -> tuple[Candidate, Candidate]:
    """Return what answers single items, and what answers batches.

    The fastest that passed answers both, unless one whose answers depend on their neighbours is
    faster by a twentieth: then it answers single items. Of several that are equally fast, within
    two per cent, the one whose answers are nearest fp32's is taken. For the goal ``size`` it is
    the smallest file that passed. What passed nothing leaves fp32.
    """
    fp32 = candidates[0]
    passed = [row for row in candidates if verdicts[row.name][0] == "passed"]
    if goal == "size":
        safe = [row for row in passed if row.batch_safe]
        smallest = min(safe, key=lambda row: row.size_bytes or 0, default=fp32)
        if (smallest.size_bytes or 0) >= (fp32.size_bytes or 0):
            smallest = fp32
        return smallest, smallest
    together = _best([row for row in passed if row.batch_safe], otherwise=fp32)
    single = _best([row for row in passed if not row.batch_safe], otherwise=together)
    if speed_of(single) < _WORTH_TWO * max(1.0, speed_of(together)):
        single = together
    return single, together


def best_on_engine(
    candidates: Sequence[Candidate],
    verdicts: Mapping[str, tuple[str, str]],
    engine: str,
    *,
    goal: str,
) -> Candidate | None:
    """Return what would be chosen if there were this engine alone."""
    rows = [row for row in candidates if row.trial.engine == engine]
    if engine != ENGINE:
        rows = [row for row in rows if verdicts[row.name][0] in ("passed", "chosen")]
        return max(rows, key=speed_of, default=None)
    known = {
        row.name: ("passed", "") if verdicts[row.name][0] == "chosen" else verdicts[row.name]
        for row in rows
    }
    return choose(rows, known, goal=goal)[0] if rows else None


def _best(candidates: Sequence[Candidate], *, otherwise: Candidate) -> Candidate:
    """Return the most faithful of those that are as good as fastest."""
    if not candidates:
        return otherwise
    fastest = max(map(speed_of, candidates))
    near = [row for row in candidates if speed_of(row) * _EQUALLY_FAST >= fastest]
    return min(near, key=infidelity_of)


def infidelity_of(row: Candidate) -> float:
    """Return how far a candidate's answers are from fp32's, in one number."""
    agreement = row.evidence["agreement"]
    return float(agreement["mean_kl"] + agreement["relative_error"])


def speed_of(row: Candidate) -> float:
    """Return how many times as fast as fp32 a candidate is; 0 where nobody knows."""
    return row.latency.speedup if row.latency else 0.0


class Settled(NamedTuple):
    """What an export comes to.

    Attributes:
        kept: What the bundle holds, fp32 first.
        verdicts: Name to verdict and reason, of all, under their final names.
        dropped: What was measured and is not kept.
        for_batches: Name of what answers batches.
        by_engine: Engine to the name of its best variant.
    """

    kept: list[Candidate]
    verdicts: dict[str, tuple[str, str]]
    dropped: list[Candidate]
    for_batches: str
    by_engine: dict[str, str]


def settle(
    candidates: list[Candidate],
    verdicts: Mapping[str, tuple[str, str]],
    *,
    goal: str = "latency",
) -> Settled:
    """Choose, keep what a bundle holds, and name the best INT8 candidate ``int8``.

    A bundle holds fp32, fp16, what was chosen for single items and for batches, the best of each
    engine, and the best INT8 candidate: the one that answers single items, or would with ONNX
    Runtime alone, if that is INT8; else the fastest that passed; where none did, the one that
    lost fewest answers.

    Args:
        candidates: All that were measured and judged, fp32 first.
        verdicts: Name to verdict and reason, as :func:`judge` gave them.
        goal: What is chosen by.
    """
    single, together = choose(candidates, verdicts, goal=goal)
    settled = dict(verdicts)
    quantized = [
        row for row in candidates[1:] if row.precision == "int8" and row.trial.engine == ENGINE
    ]
    engines = dict.fromkeys(row.trial.engine for row in candidates)
    found = {name: best_on_engine(candidates, verdicts, name, goal=goal) for name in engines}
    by_engine = {name: row for name, row in found.items() if row is not None}
    best = _best_int8(quantized, verdicts, [single, by_engine.get(ENGINE)])
    wanted = [candidates[0], single, together, *by_engine.values(), *([best] if best else [])]
    names = {row.name for row in wanted} | {"fp16"}
    kept = [row for row in candidates if row.name in names]
    dropped = [row for row in candidates if row.name not in names]
    settled[single.name] = ("chosen", _why_chosen(single, candidates, verdicts, goal))
    if together is not single and together is not candidates[0]:
        settled[together.name] = ("passed", f"answers batches: {verdicts[together.name][1]}")
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
    return Settled(
        kept, settled, dropped, together.name, {name: row.name for name, row in by_engine.items()}
    )


def _why_chosen(
    single: Candidate,
    candidates: Sequence[Candidate],
    verdicts: Mapping[str, tuple[str, str]],
    goal: str,
) -> str:
    why = verdicts[single.name][1]
    if single is candidates[0]:
        others = ", ".join(row.name for row in candidates[1:])
        if not others:
            return "nothing else was tried to its end"
        if goal == "size":
            return f"none of {others} is no worse and smaller"
        enough = "faster by a twentieth" if _passed(verdicts) else "proven faster"
        return f"none of {others} is no worse and {enough} here"
    if goal == "size":
        return f"smallest that is no worse: {why}"
    fastest = max(speed_of(row) for row in candidates if verdicts[row.name][0] == "passed")
    lead = "fastest" if speed_of(single) >= fastest else "about as fast as the fastest"
    return f"{lead} that is no worse: {why}"


def _passed(verdicts: Mapping[str, tuple[str, str]]) -> bool:
    return any(verdict == "passed" for verdict, _ in verdicts.values())


def _best_int8(
    quantized: Sequence[Candidate],
    verdicts: Mapping[str, tuple[str, str]],
    picked: Sequence[Candidate | None],
) -> Candidate | None:
    def merit(row: Candidate) -> tuple[bool, bool, bool, bool, float]:
        passed = verdicts[row.name][0] == "passed"
        drop = row.evidence.get("accuracy", {}).get("drop", 0.0)
        known = row.answers is not None
        return row in picked, passed, row.batch_safe, known, speed_of(row) if passed else -drop

    return max(quantized, key=merit, default=None)


def _rename(
    best: Candidate, candidates: Sequence[Candidate], settled: dict[str, tuple[str, str]]
) -> None:
    """Give the best INT8 candidate its reserved name; who had it takes the other's."""
    old = best.name
    best.evidence["candidate"] = best.trial.name
    if old == "int8":
        return
    holder = next((row for row in candidates if row.name == "int8"), None)
    mine = settled.pop(old)
    if holder is not None:
        # Its own name again where an earlier choice gave it this one.
        holder.name = "int8-second" if holder.trial.name == "int8" else holder.trial.name
        settled[holder.name] = settled.pop("int8")
    best.name = "int8"
    settled["int8"] = mine


def speed_text(latency: Latency) -> str:
    """Return a speed with its interval, in words."""
    text = f"{latency.speedup:.2f}x [{latency.speedup_low:.2f}, {latency.speedup_high:.2f}]"
    return text if latency.stable else f"{text}, unstable"
