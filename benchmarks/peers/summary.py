"""From turns to rows: percentiles, paired ratios with their interval, accuracy, agreement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.peers.catalogue import OURS, REFERENCE
from benchmarks.peers.measuring import Collected, Turn
from edgeml.core.timing import bootstrap_median

_P99_SAMPLES = 1000
_MAX_SPREAD = 0.2
Row = dict[str, Any]


def latency_rows(
    collected: Collected, names: Sequence[str], labels: Sequence[str], *, seed: int
) -> list[Row]:
    """Return one row a peer, the failed ones with their reason and without figures.

    Args:
        collected: What came back.
        names: All peers, in the order of the table.
        labels: The right label of each sentence, as the model names it.
        seed: Seed of the bootstrap.
    """
    valid = [name for name in names if name in collected.turns and name not in collected.failed]
    answers = {name: first_answers(collected.turns[name]) for name in valid}
    rows: list[Row] = []
    for name in names:
        if name not in valid:
            reason = collected.failed.get(name, "it answered nothing")
            rows.append({"peer": name, "valid": False, "reason": reason})
            continue
        turns = collected.turns[name]
        rows.append(
            {
                "peer": name,
                "valid": True,
                **_percentiles(turns),
                **_accuracy(answers[name], labels),
                **_agreement(answers[name], answers.get(REFERENCE)),
                "processors": round(float(np.median([turn.cpu_share for turn in turns])), 3),
                "rss_mb": collected.about.get(name, {}).get("rss_mb"),
                "versions": collected.about.get(name, {}).get("versions", {}),
                "facts": collected.about.get(name, {}).get("facts", {}),
                "times_faster_than": {
                    other: paired_ratio(collected.turns[other], turns, seed=seed)
                    for other in valid
                    if other != name
                },
            }
        )
    return rows


def paired_ratio(others: Sequence[Turn], ours: Sequence[Turn], *, seed: int) -> Row:
    """Return how many times faster ``ours`` is, paired by round.

    Args:
        others: Turns of the one that is compared with, one a round.
        ours: Turns of the same rounds.
        seed: Seed of the bootstrap.
    """
    if [turn.indices for turn in others] != [turn.indices for turn in ours]:
        raise ValueError("the turns are not of the same rounds")
    ratios = np.array([_median(a.ns) / _median(b.ns) for a, b in zip(others, ours, strict=True)])
    return interval(ratios, seed=seed)


def interval(values: Any, *, seed: int) -> Row:
    """Return median, 95 % bootstrap interval, and whether the rounds agree.

    Args:
        values: float ``(rounds,)``.
        seed: Seed of the bootstrap.
    """
    median = float(np.median(values))
    low, high = bootstrap_median(values, seed=seed)
    drift = 0.0
    if len(values) > 1:
        first, second = np.array_split(values, 2)
        drift = abs(float(np.median(first) - np.median(second)))
    stable = max(high - low, drift) <= _MAX_SPREAD * abs(median)
    return {"median": median, "low": low, "high": high, "stable": stable, "rounds": len(values)}


def share_rows(collected: Collected, *, seed: int) -> list[Row]:
    """Return how much of our time is not the model: one row a variant of ours."""
    rows: list[Row] = []
    for name in OURS:
        pairs = collected.splits.get(name)
        if not pairs or name in collected.failed:
            continue
        answers = np.concatenate([pair[0] for pair in pairs])
        models = np.concatenate([pair[1] for pair in pairs])
        shares = np.array([1 - _median(model) / _median(answer) for answer, model in pairs])
        spread = interval(shares, seed=seed)
        rows.append(
            {
                "peer": name,
                "answer_p50_ms": _median(answers) / 1e6,
                "model_p50_ms": _median(models) / 1e6,
                "beyond_model_us": (_median(answers) - _median(models)) / 1e3,
                "share": 1 - _median(models) / _median(answers),
                "low": spread["low"],
                "high": spread["high"],
                "num_calls": len(answers),
            }
        )
    return rows


def whole_rows(collected: Collected, names: Sequence[str], *, num_texts: int) -> list[Row]:
    """Return one row a peer that took part in the passes over the whole list."""
    done = {
        name: np.array(times, dtype=np.float64)
        for name, times in collected.whole.items()
        if name not in collected.failed
    }
    rows: list[Row] = []
    for name in names:
        if name in collected.failed:
            rows.append({"peer": name, "valid": False, "reason": collected.failed[name]})
        elif name in done:
            rates = num_texts / (done[name] / 1e9)
            faster = {
                other: {
                    "median": float(np.median(times / done[name])),
                    "low": float(np.min(times / done[name])),
                    "high": float(np.max(times / done[name])),
                }
                for other, times in done.items()
                if other != name
            }
            rows.append(
                {
                    "peer": name,
                    "valid": True,
                    "texts_per_s": float(np.median(rates)),
                    "slowest_per_s": float(rates.min()),
                    "fastest_per_s": float(rates.max()),
                    "times_faster_than": faster,
                }
            )
    return rows


def first_answers(turns: Sequence[Turn]) -> dict[int, tuple[str, float]]:
    """Return each sentence's first label and score."""
    answers: dict[int, tuple[str, float]] = {}
    for turn in turns:
        for index, label, score in zip(turn.indices, turn.labels, turn.scores, strict=True):
            answers.setdefault(index, (label, score))
    return answers


def _percentiles(turns: Sequence[Turn]) -> Row:
    milliseconds = np.concatenate([turn.ns for turn in turns]) / 1e6
    enough = milliseconds.size >= _P99_SAMPLES
    return {
        "p50_ms": float(np.median(milliseconds)),
        "p90_ms": float(np.percentile(milliseconds, 90)),
        "p99_ms": float(np.percentile(milliseconds, 99)) if enough else None,
        "num_calls": int(milliseconds.size),
    }


def _accuracy(answers: Mapping[int, tuple[str, float]], labels: Sequence[str]) -> Row:
    right = sum(label == labels[index] for index, (label, _) in answers.items())
    return {"accuracy": right / len(answers), "num_sentences": len(answers)}


def _agreement(
    answers: Mapping[int, tuple[str, float]], reference: Mapping[int, tuple[str, float]] | None
) -> Row:
    if reference is None:
        return {"agreement": None, "flips": None, "mean_score_difference": None}
    same = [index for index, (label, _) in answers.items() if reference[index][0] == label]
    apart = [abs(answers[index][1] - reference[index][1]) for index in same]
    return {
        "agreement": len(same) / len(answers),
        "flips": len(answers) - len(same),
        "mean_score_difference": float(np.mean(apart)) if apart else None,
    }


def _median(values: Any) -> float:
    return float(np.median(values))
