"""Export a ranker under gates: AUC, NDCG@10, top-10 overlap with fp32, and latency on this machine.

INT8 is chosen only where it ranks as fp32 does and is proven faster; "not faster: fp32" is a normal
verdict. Candidates of a request are scored together, so only what leaves a candidate's score alone
whatever its neighbours are is tried.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgeml.core.files import sha256_of
from edgeml.core.manifest import Variant
from edgeml.core.timing import Latency, TimingPlan, compare_latency
from edgeml.errors import DataError
from edgeml.exporting.from_torch import OPSET
from edgeml.exporting.fusion import FusionProof, prove_fusion
from edgeml.exporting.quantizing import TYPES_BY_INSTRUCTION_SET
from edgeml.exporting.ranker_graphs import ranker_candidates, trace_ranker
from edgeml.recommending.ranking.ranker import Ranker, requests_of
from edgeml.runtime.engine import OnnxEngine, SessionSettings
from edgeml.runtime.host import detect_host
from edgeml.tasks.recommendation.ranking import RankingFields, RankingRows
from edgeml.tasks.recommendation.ranking_measures import (
    area_under_curve,
    mean_ndcg,
    mean_overlap,
)
from edgeml.training.recommendation.ranker_loop import TrainedRanker

Report = Callable[[str], None]
_ATTEMPTS = 3


@dataclass(frozen=True, kw_only=True)
class RankerGate:
    """What an INT8 ranker must keep, and how it is timed.

    Attributes:
        max_auc_drop: Largest loss of AUC against fp32.
        max_ndcg_drop: Largest loss of NDCG@10.
        min_overlap: Least mean share of fp32's ten best that it has, too.
        candidates: Candidates of the requests that are compared and timed.
        requests: Requests for the ranges, and again for the overlap.
        max_rows: Selection rows that are scored at most.
        plan: How much is timed; one thread.
        seed: Of the draws.
    """

    max_auc_drop: float = 0.001
    max_ndcg_drop: float = 0.002
    min_overlap: float = 0.98
    candidates: int = 500
    requests: int = 100
    max_rows: int = 20_000
    plan: TimingPlan = field(default_factory=lambda: TimingPlan(rounds=60, calls=5, budget_s=15.0))
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class RankerExport:
    """What an export of a ranker left.

    Attributes:
        chosen: Name of the variant to serve.
        variants: ``fp32`` and, where one could be made, ``int8``: the best candidate, rejected or
            not.
        rows: What was measured of every candidate, JSON values.
    """

    chosen: str
    variants: tuple[Variant, ...]
    rows: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class _Measured:
    name: str
    model: onnx.ModelProto
    recipe: Mapping[str, Any]
    row: dict[str, Any]
    latency: Latency
    fusion: FusionProof | None

    def refusal(self, gate: RankerGate) -> str:
        """Return why this candidate fails, or nothing."""
        worse = self.ranks_worse(gate)
        if worse or self.latency.proven_faster:
            return worse
        low = f"{self.latency.speedup:.2f}x, from {self.latency.speedup_low:.2f}x"
        return f"not proven faster than fp32 ({low})"

    def ranks_worse(self, gate: RankerGate) -> str:
        """Return in what this candidate ranks worse than fp32 by more than the gate allows."""
        row = self.row
        if self.fusion is not None and not self.fusion.ok:
            return f"only {self.fusion.share:.0%} of the products run in integers"
        if row["auc_drop"] is not None and row["auc_drop"] > gate.max_auc_drop:
            return f"AUC falls by {row['auc_drop']:.4f}; at most {gate.max_auc_drop:g}"
        if row["ndcg_drop"] is not None and row["ndcg_drop"] > gate.max_ndcg_drop:
            return f"NDCG@10 falls by {row['ndcg_drop']:.4f}; at most {gate.max_ndcg_drop:g}"
        if not row["top10_overlap"] >= gate.min_overlap:
            return f"shares {row['top10_overlap']:.3f} of the top 10; at least {gate.min_overlap:g}"
        return ""


def export_ranker(
    trained: TrainedRanker,
    folder: Path,
    *,
    calibration: RankingRows,
    selection: RankingRows,
    gate: RankerGate | None = None,
    report: Report | None = None,
) -> RankerExport:
    """Trace a ranker, make INT8 candidates, judge them, and write the variants.

    Args:
        trained: The ranker.
        folder: Gets ``variants/fp32/model.onnx`` and ``variants/int8/model.onnx``.
        calibration: Rows for the ranges.
        selection: Rows with labels that neither trained nor calibrated the ranker, if possible.
        gate: Limits.
        report: Takes a line for each step.

    Raises:
        ExportError: The ranker cannot be traced.
        ParityError: The graph answers differently from the module.
        DataError: There are no rows to calibrate or to judge with.
    """
    gate, say = gate or RankerGate(), report or (lambda _: None)
    for name, rows in (("calibration", calibration), ("selection", selection)):
        if not len(rows):
            raise DataError(source=name, reason="holds no rows; some hundred are needed")
    fields, host = trained.fields, detect_host()
    say("tracing the ranker")
    float_model = trace_ranker(trained.module, fields)
    say("quantizing")
    feeds = drawn_requests(fields, calibration, gate)
    made = ranker_candidates(float_model, feeds, TYPES_BY_INSTRUCTION_SET[host.instruction_set])
    models: dict[str, onnx.ModelProto] = {"fp32": float_model}
    models |= {name: model for name, (model, _) in made.items()}
    say("judging")
    measured = _measure(fields, models, made, selection, gate)
    return _written(folder, measured, gate, host.instruction_set)


def drawn_requests(
    fields: RankingFields, rows: RankingRows, gate: RankerGate
) -> list[dict[str, npt.NDArray[Any]]]:
    """Return requests with ``gate.candidates`` candidates each.

    Requests that rows already hold in that size are taken as they are. Logged impressions hold one
    candidate a request: there a row's request meets candidates drawn from all rows.
    """
    rng = np.random.default_rng(gate.seed)
    whole = [places for places in requests_of(rows) if len(places) >= min(gate.candidates, 50)]
    if len(whole) >= 10:
        picked = rng.permutation(len(whole))[: gate.requests]
        return [fields.feed(rows.take(whole[place][: gate.candidates])) for place in picked]
    feeds = []
    for place in rng.integers(0, len(rows), gate.requests):
        drawn = rng.integers(0, len(rows), gate.candidates)
        feed = fields.feed(rows.take(drawn))
        feed["request_ids"] = rows.request_ids[place : place + 1]
        feed["request_numbers"] = rows.request_numbers[place : place + 1]
        feeds.append(feed)
    return feeds


def filled(feed: Mapping[str, npt.NDArray[Any]], count: int) -> dict[str, npt.NDArray[Any]]:
    """Return a request with exactly so many candidates, its own repeated: only for timing."""
    places = np.arange(count) % len(feed["candidate_ids"])
    return {
        name: rows[places] if name.startswith("candidate") else rows for name, rows in feed.items()
    }


def _measure(
    fields: RankingFields,
    models: Mapping[str, onnx.ModelProto],
    made: Mapping[str, tuple[onnx.ModelProto, Mapping[str, Any]]],
    selection: RankingRows,
    gate: RankerGate,
) -> list[_Measured]:
    """Return what was measured of fp32 and of each candidate, fp32 first."""
    kept = _some_requests(selection, gate)
    feeds = drawn_requests(fields, kept, replace(gate, seed=gate.seed + 1))
    groups = np.repeat(np.arange(len(feeds)), [len(feed["candidate_ids"]) for feed in feeds])
    rankers = {
        name: Ranker(
            OnnxEngine(model.SerializeToString(), settings=SessionSettings(num_threads=1)), fields
        )
        for name, model in models.items()
    }
    try:
        labels = kept.labels[fields.heads[0].name]
        scores = {name: ranker.score_rows(kept) for name, ranker in rankers.items()}
        answers = {
            name: np.concatenate([ranker.score(**feed) for feed in feeds])
            for name, ranker in rankers.items()
        }
        feed = filled(feeds[0], gate.candidates)
        calls = {
            name: (lambda ranker=ranker: ranker.score(**feed)) for name, ranker in rankers.items()
        }
        times = _timed(calls, gate.plan)
    finally:
        for ranker in rankers.values():
            ranker.close()
    found = []
    for name, model in models.items():
        row = _figures(labels, scores[name], scores["fp32"], kept.groups)
        row["top10_overlap"] = mean_overlap(answers["fp32"], answers[name], groups)
        recipe = made[name][1] if name in made else {}
        proof = prove_fusion(model, model, num_requested=_num_products(recipe, models["fp32"]))
        found.append(
            _Measured(name, model, recipe, row, times[name], proof if name in made else None)
        )
    return found


def _timed(calls: Mapping[str, Callable[[], object]], plan: TimingPlan) -> dict[str, Latency]:
    """Time the rankers in turns; rounds that disagree are measured anew, a few times."""
    for _ in range(_ATTEMPTS):
        times = compare_latency(calls, baseline="fp32", plan=plan)
        if all(row.stable for row in times.values()):
            break
    return times


def _num_products(recipe: Mapping[str, Any], model: onnx.ModelProto) -> int:
    heavy = [node.name for node in model.graph.node if node.op_type in ("MatMul", "Gemm")]
    return len(set(heavy) - set(recipe.get("float_nodes", ())))


def _some_requests(rows: RankingRows, gate: RankerGate) -> RankingRows:
    """Return whole groups, drawn, of at most ``max_rows`` rows together."""
    if len(rows) <= gate.max_rows:
        return rows
    names = np.random.default_rng(gate.seed).permutation(np.unique(rows.groups))
    _, sizes = np.unique(rows.groups, return_counts=True)
    several = max(1, int(gate.max_rows / sizes.mean()))
    return rows.take(np.flatnonzero(np.isin(rows.groups, names[:several])))


def _figures(
    labels: npt.NDArray[Any],
    scores: npt.NDArray[np.float32],
    float_scores: npt.NDArray[np.float32],
    groups: npt.NDArray[np.int64],
) -> dict[str, Any]:
    auc, float_auc = (area_under_curve(labels, row) for row in (scores, float_scores))
    ndcg, float_ndcg = (mean_ndcg(labels, row, groups) for row in (scores, float_scores))
    return {
        "auc": _number(auc),
        "auc_drop": _number(float_auc - auc),
        "ndcg_at_10": _number(ndcg),
        "ndcg_drop": _number(float_ndcg - ndcg),
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _written(
    folder: Path, measured: Sequence[_Measured], gate: RankerGate, instruction_set: str
) -> RankerExport:
    """Judge, write fp32 and the best INT8 candidate, and say what was chosen."""
    reference, *others = measured
    refusals = {row.name: row.refusal(gate) for row in others}
    passed = [row for row in others if not refusals[row.name]]
    good = [row for row in others if not row.ranks_worse(gate)]
    best = max(passed or good or others, key=lambda row: row.latency.speedup)
    chosen = "int8" if passed else "fp32"
    variants = [_variant(folder, "fp32", reference, None)]
    reason = refusals[best.name] or f"ranks as fp32 does, {best.latency.speedup:.2f}x"
    verdict = "chosen" if passed else "rejected"
    variants.append(
        _variant(folder, "int8", best, instruction_set).judged(verdict, f"{best.name}: {reason}")
    )
    if not passed:
        variants[0] = variants[0].judged("chosen", f"int8: {reason}")
    rows = []
    for row in measured:
        found = {"name": row.name, **row.row, **_times(row.latency)}
        found["size_bytes"] = row.model.ByteSize()
        found["verdict"] = "reference" if row is reference else refusals[row.name] or "passed"
        rows.append(found)
    return RankerExport(chosen=chosen, variants=tuple(variants), rows=tuple(rows))


def _variant(folder: Path, name: str, measured: _Measured, tuned_for: str | None) -> Variant:
    file = f"variants/{name}/model.onnx"
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(measured.model, path)
    return Variant(
        name=name,
        file=file,
        precision=name,
        size_bytes=path.stat().st_size,
        sha256=sha256_of(path),
        opset=OPSET,
        tuned_for=tuned_for,
        accuracy=measured.row["auc"],
        p50_ms=measured.latency.p50_ms,
        speedup=measured.latency.speedup,
        recipe=measured.recipe,
        evidence={**measured.row, **_times(measured.latency)}
        | ({"fusion": measured.fusion.to_json()} if measured.fusion else {}),
    )


def _times(latency: Latency) -> dict[str, Any]:
    return asdict(latency)
