"""The recommendation: one deployment, the reason in one sentence, and where the answer turns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeml.workflows.profiling.advice import Bound, Candidate
from edgeml.workflows.profiling.settings import ServiceLevel

_UNITS = {"p99_ms": "ms", "max_memory_mb": "MB", "min_accuracy": "", "rate_per_s": "a second"}
_NAMES = {
    "p99_ms": "p99",
    "max_memory_mb": "memory",
    "min_accuracy": "accuracy",
    "rate_per_s": "the rate",
}


def recommend(candidates: Sequence[Candidate], level: ServiceLevel) -> dict[str, Any]:
    """Choose a deployment.

    Of those that keep everything that was asked for, in-process comes first: it needs no server.
    Otherwise the one with the most left. Without bounds it is the one with the least p99.

    Args:
        candidates: The deployments.
        level: What was asked for.

    Returns:
        ``target, reason, margin`` and, beside them, ``kept, kind, provisional, changes, needs``
        and more.
    """
    if not candidates:
        reason = "no row is valid: nothing can be recommended; look at the rows' reasons"
        return _result(None, reason, None, level, candidates)
    chosen = _choose(candidates, level)
    reason = _reason(chosen, candidates, level)
    if chosen.provisional:
        reason = (
            f"provisional, since its row is invalid (measure again on a quiet machine): {reason}"
        )
    return _result(chosen, reason, chosen.margin, level, candidates)


def _choose(candidates: Sequence[Candidate], level: ServiceLevel) -> Candidate:
    if not level.asked or not any(row.bounds for row in candidates):
        return min(candidates, key=_speed)
    kept = [row for row in candidates if row.kept]
    if not kept:
        return max(candidates, key=lambda row: (_missed(row), -_speed(row)))
    return min(kept, key=lambda row: (row.target != "edge", -(row.margin or 0.0), _speed(row)))


def _speed(row: Candidate) -> float:
    return row.p99_ms or row.p50_ms or float("inf")


def _missed(row: Candidate) -> float:
    """Return the worst margin; what is not known counts as missed by all of it."""
    return min((-1.0 if bound.margin is None else bound.margin) for bound in row.bounds)


def _reason(chosen: Candidate, candidates: Sequence[Candidate], level: ServiceLevel) -> str:
    figure = f"p99 {chosen.p99_ms:.3g} ms" if chosen.p99_ms else f"p50 {chosen.p50_ms or 0:.3g} ms"
    label = f"{figure} ({chosen.kind})"
    if not chosen.bounds:
        others = [row for row in candidates if row is not chosen]
        if not others:
            return f"{chosen.target}: {label}; it is the only row, and no bound was given"
        second = min(others, key=_speed)
        ratio = _speed(second) / _speed(chosen)
        return f"{chosen.target}: {label}, {ratio:.2f}x below {second.target}; no bound was given"
    if chosen.kept:
        rate = f" at {level.rate_per_s:g} a second" if level.rate_per_s else ""
        text = f"{chosen.target} keeps every bound{rate}: {label}"
        if chosen.target == "edge" and len(candidates) > 1:
            return f"{text}; no server is needed"
        edge = next((row for row in candidates if row.target == "edge"), None)
        return text if edge is None or edge is chosen else f"{text}; edge misses {_misses(edge)}"
    return f"no deployment keeps every bound; {chosen.target} comes nearest: it misses " + _misses(
        chosen
    )


def _misses(row: Candidate) -> str:
    return ", ".join(_miss(bound) for bound in row.bounds if not bound.kept) or "none"


def _miss(bound: Bound) -> str:
    unit = f" {_UNITS[bound.name]}" if _UNITS[bound.name] else ""
    found = "not known" if bound.found is None else f"{bound.found:.3g}{unit}"
    return f"{_NAMES[bound.name]} ({found}, asked {bound.limit:g}{unit})"


def _changes(chosen: Candidate, candidates: Sequence[Candidate], level: ServiceLevel) -> list[str]:
    """Say what would give another answer."""
    changes = []
    bound = level.p99_ms
    if bound is not None and chosen.highest_rate_per_s is not None:
        text = (
            f"above {chosen.highest_rate_per_s:.0f} a second {chosen.target} no longer keeps a p99 "
            f"of {bound:g} ms (modelled)"
        )
        better = [
            row
            for row in candidates
            if (row.highest_rate_per_s or 0.0) > chosen.highest_rate_per_s and row is not chosen
        ]
        if better:
            best = max(better, key=lambda row: row.highest_rate_per_s or 0.0)
            text += f"; {best.target} does up to {best.highest_rate_per_s:.0f}, without a network"
        changes.append(text)
    if bound is not None and chosen.p99_ms is not None and chosen.p99_ms <= bound:
        changes.append(f"a p99 bound below {chosen.p99_ms:.3g} ms rules {chosen.target} out")
    if bound is not None:
        for row in candidates:
            left = bound - (row.p99_ms or bound)
            if row.target != "edge" and row.needs and left > 0:
                changes.append(
                    f"a network's round trip of more than {left:.3g} ms rules {row.target} out"
                )
    limit = level.max_memory_mb
    if limit is None and chosen.memory_mb is not None:
        changes.append(f"a memory bound below {chosen.memory_mb:.0f} MB rules {chosen.target} out")
    if not level.asked:
        changes.append("a bound and a rate (--p99, --rate) may prefer another deployment")
    return changes


def _result(
    chosen: Candidate | None,
    reason: str,
    margin: float | None,
    level: ServiceLevel,
    candidates: Sequence[Candidate],
) -> dict[str, Any]:
    return {
        "target": chosen.target if chosen else None,
        "reason": reason,
        "margin": margin,
        "kept": bool(chosen and chosen.kept and chosen.bounds),
        "kind": chosen.kind if chosen else None,
        "provisional": bool(chosen and chosen.provisional),
        "asked": level.to_json(),
        "changes": _changes(chosen, candidates, level) if chosen else [],
        "needs": list(chosen.needs) if chosen else [],
        "candidates": [row.to_json() for row in candidates],
        # One day: what a network, the servers' price and their energy would say.
        "not_considered": ["networks", "cost", "energy"],
    }
