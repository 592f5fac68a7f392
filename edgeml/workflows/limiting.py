"""``edgeml.with_limit``: a predictor that refuses at once what cannot be answered in time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeml.core.identity import identity_of
from edgeml.core.predictor import Predictor

if TYPE_CHECKING:
    from edgeml.serving.routing.limit import LimitSettings
    from edgeml.serving.routing.routed import RoutedPredictor


def with_limit(
    predictor: Predictor,
    *,
    settings: LimitSettings | None = None,
    model: str | None = None,
    close_members: bool = True,
) -> RoutedPredictor:
    """Limit how many calls to a predictor are under way, by what it can do in time.

    The limit rises while answers come early and falls when they come late, too late, or when the
    server refuses. Calls beyond it wait for their turn, those of higher priority first
    (:func:`edgeml.priority`); a call that could not be answered by its deadline
    (:func:`edgeml.deadline`) is refused at once with ``ServerOverloadedError``. Share one predictor
    among the threads of a program: the limit is that of the predictor.

    Args:
        predictor: Who answers; usually what :func:`edgeml.connect` gives.
        settings: Time of calls without a deadline, and how the limit moves.
        model: Value of the label ``model`` in the metrics; None takes the bundle's name.
        close_members: Whether the predictor is closed with it.

    Returns:
        A predictor with ``metrics_text()`` besides.

    Raises:
        MissingExtraError: The extra [routing] is not installed.
    """
    from edgeml.serving.routing.limit import LimitRoute
    from edgeml.serving.routing.metrics import Metrics
    from edgeml.serving.routing.pairing import join_metrics
    from edgeml.serving.routing.routed import RoutedPredictor

    identity = identity_of(predictor)
    named = model if model is not None else identity.name if identity is not None else ""
    metrics, members = Metrics(model=named), {"limited": predictor}
    join_metrics(metrics, members)
    return RoutedPredictor(
        members,
        route=LimitRoute(predictor, settings=settings, metrics=metrics),
        metrics=metrics,
        close_members=close_members,
    )
