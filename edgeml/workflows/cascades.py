"""``edgeml.cascade`` and ``edgeml.cascade_curve``: ask a second model where the first is unsure."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from edgeml.core.escalation import (
    EscalationPoint,
    JudgedAnswers,
    PairedTimes,
    point_at,
    thresholds_of,
    within_drop,
    within_share,
)
from edgeml.core.identity import identity_of
from edgeml.core.predictor import Prediction, Predictor
from edgeml.errors import InputError
from edgeml.workflows.reporting import Picture, Report, ReportTable

if TYPE_CHECKING:
    from edgeml.serving.routing.cascade import CascadePredictor

# Items and their right labels: names, indices into the models' labels, or sets of names.
Labelled = tuple[Sequence[Any], Sequence[Any] | npt.NDArray[Any]]
Clock = Callable[[], int]

_TIMED_ITEMS = 200
_TIMED_CALLS = 3
_WARM_UP = 10


def cascade(
    first: Predictor,
    second: Predictor,
    *,
    threshold: float,
    on_failure: Literal["raise", "other"] = "raise",
    close_members: bool = True,
) -> CascadePredictor:
    """Answer with one model, and ask another one where the first is unsure.

    The first may be the edge and the second the server, or the reverse where the edge is thin. Each
    prepares items for itself, so their inputs may differ in size; tensors are taken only where they
    do not. ``Prediction.served_by`` begins with ``first:`` or ``second:``.

    Args:
        first: Answers every item.
        second: Answers again the items whose confidence, the largest probability, is below the
            threshold; those of a batch in one batch.
        threshold: From 0, which asks the second model nothing, to 1; :func:`cascade_curve` finds
            one.
        on_failure: Where one of them cannot answer and is to blame: ``raise``, or ``other``, by
            which the other one's answer is given and its ``served_by`` says so.
        close_members: Whether both are closed with it.

    Raises:
        InputError: The two do not answer in the same words, or an argument is out of range.
        MissingExtraError: The extra [routing] is not installed.
    """
    from edgeml.serving.routing.cascade import CascadePredictor

    return CascadePredictor(
        first, second, threshold=threshold, on_failure=on_failure, close_members=close_members
    )


@dataclass(frozen=True, kw_only=True)
class CascadeReport:
    """What the chosen threshold gives on samples that had no say in choosing it.

    Attributes:
        point: The figures there.
        first_accuracy: Of the first model alone, on the same samples.
        second_accuracy: Of the second model alone.
    """

    point: EscalationPoint
    first_accuracy: float
    second_accuracy: float


@dataclass(frozen=True, kw_only=True)
class CascadeCurve:
    """Accuracy, share, latency and cost of a cascade at each threshold.

    Attributes:
        points: From "everything is escalated" to nothing, on the selection samples.
        chosen: The point that the goal chose; None without a goal, or where none keeps it.
        reason: Why that one, or why none.
        first: Who answered as the first model.
        second: Who answered as the second.
        first_accuracy: Alone, on the selection samples.
        second_accuracy: Alone, likewise.
        first_ms: Median time of an item on the first model.
        second_ms: On the second, in turns with the first.
        compute_ratio: Time of the second model alone over the cascade's at the chosen threshold,
            with its 95 % interval; None where nothing was chosen.
        reported: What the chosen threshold gives on the reporting samples; None without any.
    """

    points: tuple[EscalationPoint, ...]
    chosen: EscalationPoint | None
    reason: str
    first: str
    second: str
    first_accuracy: float
    second_accuracy: float
    first_ms: float
    second_ms: float
    compute_ratio: tuple[float, float, float] | None
    reported: CascadeReport | None

    @property
    def threshold(self) -> float:
        """The chosen threshold, for :func:`cascade`.

        Raises:
            InputError: None was chosen.
        """
        if self.chosen is None:
            raise InputError(f"no threshold was chosen: {self.reason}")
        return self.chosen.threshold

    def to_json(self) -> dict[str, Any]:
        """Return the curve as JSON values."""
        return asdict(self)

    def tables(self) -> list[ReportTable]:
        """Return what a report shows: the curve in steps of about five points of the share."""
        from edgeml.workflows.cascade_page import curve_table, summary_table

        return [summary_table(self), curve_table(self)]

    def report(self) -> Report:
        """Return a page of its own."""
        from edgeml.workflows.cascade_page import curve_svg

        return Report(
            recipe="cascade",
            preset=f"threshold {self.chosen.threshold:.3f}" if self.chosen else "no threshold",
            source={"first": self.first, "second": self.second},
            rows=[],
            metrics={"reason": self.reason},
            tables=self.tables(),
            pictures=[Picture(title="Accuracy by share escalated", svg=curve_svg(self))],
        )


def cascade_curve(
    first: Predictor,
    second: Predictor,
    selection: Labelled,
    *,
    reporting: Labelled | None = None,
    max_accuracy_drop: float | None = None,
    max_share: float | None = None,
    costs: tuple[float, float] | None = None,
) -> CascadeCurve:
    """Measure a cascade at every threshold, choose one, and report on other samples once.

    Args:
        first: Answers every item.
        second: Would answer again those that the first is unsure of.
        selection: Items and their right labels, to choose by: names of labels, or indices into
            them; sets of names where several labels may hold.
        reporting: Others, which are read at the chosen threshold alone.
        max_accuracy_drop: Choose the cheapest threshold that is proven no worse than the second
            model by this fraction: 0.002 is 0.2 points. The bound is paired, at 95 % for the whole
            sequence of thresholds.
        max_share: Instead: the threshold that escalates this share of the items.
        costs: Of one item on the first and on the second model, in any unit; None takes the
            measured milliseconds.

    Raises:
        InputError: Items and labels do not fit, both goals are given, or the two models do not
            answer in the same words.
        ServerError: A model could not answer.

    Example:
        curve = edgeml.cascade_curve(edge, server, validation, max_accuracy_drop=0.002)
        both = edgeml.cascade(edge, server, threshold=curve.threshold)
    """
    from edgeml.serving.routing.pairing import check_pair

    check_pair(first, second, names=("first", "second"))
    _check_goal(max_accuracy_drop, max_share, costs)
    answers = _judged(first, second, selection)
    times = _timed(first, second, selection[0])
    first_ms, second_ms = (float(np.median(row)) for row in (times.first_ms, times.second_ms))
    prices = costs or (first_ms, second_ms)
    points = tuple(
        point_at(threshold, answers, times, costs=prices)
        for threshold in thresholds_of(answers.confidence)
    )
    chosen, reason = _choose(points, max_accuracy_drop, max_share)
    reported = None
    if chosen is not None and reporting is not None:
        reported = _reported(first, second, reporting, chosen.threshold, times, prices)
    return CascadeCurve(
        points=points,
        chosen=chosen,
        reason=reason,
        first=first.served_by,
        second=second.served_by,
        first_accuracy=float(answers.first_right.mean()),
        second_accuracy=float(answers.second_right.mean()),
        first_ms=first_ms,
        second_ms=second_ms,
        compute_ratio=times.compute_ratio(chosen.threshold) if chosen else None,
        reported=reported,
    )


def _reported(
    first: Predictor,
    second: Predictor,
    reporting: Labelled,
    threshold: float,
    times: PairedTimes,
    costs: tuple[float, float],
) -> CascadeReport:
    answers = _judged(first, second, reporting)
    return CascadeReport(
        point=point_at(threshold, answers, times, costs=costs),
        first_accuracy=float(answers.first_right.mean()),
        second_accuracy=float(answers.second_right.mean()),
    )


def _choose(
    points: Sequence[EscalationPoint], max_drop: float | None, max_share: float | None
) -> tuple[EscalationPoint | None, str]:
    if max_share is not None:
        found = within_share(points, max_share)
        return found, f"at most {max_share:.1%} of the items are escalated"
    if max_drop is None:
        return None, "no goal was given; max_accuracy_drop or max_share chooses a threshold"
    chosen = within_drop(points, max_drop)
    limit = f"{100 * max_drop:.2f} points"
    if chosen is not None:
        return chosen, (
            f"the lowest threshold in the sequence with a drop proven to be at most {limit}: "
            f"{100 * chosen.paired.drop:+.2f}, 95 % bound {100 * chosen.paired.upper_bound:+.2f}"
        )
    paired = points[0].paired
    needed = paired.samples_needed(max_drop)
    more = f"{needed} samples are needed" if needed else "no number of samples would"
    return None, f"{paired.num_samples} samples cannot prove a drop of at most {limit}: {more}"


def _judged(first: Predictor, second: Predictor, labelled: Labelled) -> JudgedAnswers:
    """Let both models answer, and compare with the right labels."""
    from edgeml.serving.routing.pairing import confidence_of

    items, labels = labelled
    if not len(items) or len(items) != len(labels):
        raise InputError(
            f"{len(items)} items and {len(labels)} labels were given; one label an item, and at "
            "least one item, were expected"
        )
    identity = identity_of(first)
    multi_label = identity is not None and identity.multi_label
    ours, theirs = first.predict_batch(items), second.predict_batch(items)
    names = list(ours[0].scores)
    if not names or names != list(theirs[0].scores):
        raise InputError(
            "the two models answer with different labels, or with none; classifiers with the same "
            "labels were expected"
        )
    right = [_named(label, names) for label in labels]
    return JudgedAnswers(
        confidence=np.array([confidence_of(row, multi_label=multi_label) for row in ours]),
        first_right=_right(ours, right, multi_label=multi_label),
        second_right=_right(theirs, right, multi_label=multi_label),
    )


def _named(label: Any, names: Sequence[str]) -> frozenset[str]:
    """Return a right label, or several, as names."""
    if isinstance(label, (int, np.integer)) and 0 <= int(label) < len(names):
        return frozenset([names[int(label)]])
    rows: Collection[Any] = [label] if isinstance(label, str) else label
    if isinstance(rows, Collection) and all(row in names for row in rows):
        return frozenset(rows)
    raise InputError(
        f"the label {label!r} is none of the models'; one of {', '.join(names)}, or an index from "
        f"0 to {len(names) - 1}, was expected"
    )


def _right(
    rows: Sequence[Prediction], right: Sequence[frozenset[str]], *, multi_label: bool
) -> npt.NDArray[np.bool_]:
    said = (frozenset(row.labels) if multi_label else frozenset([str(row.label)]) for row in rows)
    return np.array([mine == true for mine, true in zip(said, right, strict=True)])


def _timed(
    first: Predictor,
    second: Predictor,
    items: Sequence[Any],
    *,
    seed: int = 0,
    clock: Clock = time.perf_counter_ns,
) -> PairedTimes:
    """Time both models on a draw of the items, in turns; an item counts as its median call."""
    from edgeml.serving.routing.pairing import confidence_of

    rng = np.random.default_rng(seed)
    drawn = [items[index] for index in rng.permutation(len(items))[:_TIMED_ITEMS]]
    for index in range(_WARM_UP):
        for model in (first, second):
            model.predict(drawn[index % len(drawn)])
    found = np.zeros((2, len(drawn), _TIMED_CALLS))
    confidence = np.zeros(len(drawn))
    identity = identity_of(first)
    for place, item in enumerate(drawn):
        for turn in range(_TIMED_CALLS):
            for which in rng.permutation(2):
                started = clock()
                answer = (first, second)[which].predict(item)
                found[which, place, turn] = (clock() - started) / 1e6
                if which == 0:
                    confidence[place] = confidence_of(
                        answer, multi_label=identity is not None and identity.multi_label
                    )
    medians = np.median(found, axis=2)
    return PairedTimes(confidence=confidence, first_ms=medians[0], second_ms=medians[1])


def _check_goal(
    max_drop: float | None, max_share: float | None, costs: tuple[float, float] | None
) -> None:
    if max_drop is not None and max_share is not None:
        raise InputError("max_accuracy_drop and max_share are both given; one goal was expected")
    for name, value in (("max_accuracy_drop", max_drop), ("max_share", max_share)):
        if value is not None and not 0 <= value <= 1:
            raise InputError(f"{name} is {value:g}; a fraction from 0 to 1 was expected")
    if costs is not None and not (len(costs) == 2 and all(0 <= cost < np.inf for cost in costs)):
        raise InputError(f"costs are {costs}; two finite numbers from 0 up were expected")
