"""How large a ranker should be: what validation gains against the milliseconds it costs.

Bigger rankers win thousandths of AUC and cost whole milliseconds a request. A price turns the two
into one figure: a larger ranker must earn so much AUC for each further millisecond.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from edgeml.core.timing import TimingPlan, compare_latency
from edgeml.errors import InputError
from edgeml.exporting.ranker_graphs import trace_ranker
from edgeml.recommending.ranking.ranker import Ranker
from edgeml.runtime.engine import OnnxEngine, SessionSettings
from edgeml.tasks.recommendation.ranking import RankingFields, RankingRows
from edgeml.training.recommendation.ranker_loop import TrainedRanker, train_ranker
from edgeml.training.recommendation.ranker_settings import RankerSettings
from edgeml.workflows.recommendation_ranking import RankerGate, drawn_requests, filled

SIZES = ((32,), (64, 32), (128, 64), (256, 128, 64))
PRICE_PER_MS = 0.001


@dataclass(frozen=True, kw_only=True)
class SizeRow:
    """One size that was tried.

    Attributes:
        hidden: Widths of the layers.
        validation: AUC, or NDCG@10 of a listwise ranker.
        p50_ms: Median latency of a request, fp32, one thread.
        worth: ``validation`` less the price of its milliseconds.
    """

    hidden: tuple[int, ...]
    validation: float
    p50_ms: float
    worth: float

    def to_json(self) -> dict[str, object]:
        """Return the row as JSON values."""
        return asdict(self)


def choose_size(
    fields: RankingFields,
    train: RankingRows,
    validation: RankingRows,
    settings: RankerSettings,
    *,
    sizes: Sequence[tuple[int, ...]] = SIZES,
    price_per_ms: float = PRICE_PER_MS,
    num_candidates: int = 500,
    report: Callable[[str], None] = lambda _: None,
) -> tuple[TrainedRanker, tuple[SizeRow, ...]]:
    """Train each size and return the one that is worth most, with all that was measured.

    Args:
        fields: What the ranker reads and predicts.
        train: Rows to learn from.
        validation: Rows that stop each training and judge the sizes.
        settings: All but the size.
        sizes: Widths to try.
        price_per_ms: Validation figure that a further millisecond must bring.
        num_candidates: Candidates of the request that is timed.
        report: Takes a line a size.

    Raises:
        InputError: There is no size to try.
    """
    if not sizes:
        raise InputError("no size was given; at least one was expected")
    gate = RankerGate(candidates=num_candidates, requests=1)
    feed = filled(drawn_requests(fields, validation, gate)[0], num_candidates)
    trained = [
        train_ranker(fields, train, validation, replace(settings, hidden=hidden))
        for hidden in sizes
    ]
    rankers = {
        str(row.settings.hidden): Ranker(
            OnnxEngine(
                trace_ranker(row.module, fields).SerializeToString(),
                settings=SessionSettings(num_threads=1),
            ),
            fields,
        )
        for row in trained
    }
    calls = {name: (lambda ranker=ranker: ranker.score(**feed)) for name, ranker in rankers.items()}
    times = compare_latency(calls, baseline=next(iter(calls)), plan=TimingPlan(budget_s=10.0))
    rows = []
    for row in trained:
        p50_ms = times[str(row.settings.hidden)].p50_ms
        worth = row.validation - price_per_ms * p50_ms
        rows.append(
            SizeRow(
                hidden=row.settings.hidden, validation=row.validation, p50_ms=p50_ms, worth=worth
            )
        )
        report(f"{row.settings.hidden}: validation {row.validation:.4f}, {p50_ms:.2f} ms")
    best = max(range(len(rows)), key=lambda place: rows[place].worth)
    for ranker in rankers.values():
        ranker.close()
    return trained[best], tuple(rows)
