"""``edgeml.with_limit`` and ``edgeml.queue_for_deadline``: no waiting that is in vain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgeml.core.bundle import Bundle
from edgeml.core.identity import identity_of
from edgeml.core.predictor import Predictor
from edgeml.errors import InputError

if TYPE_CHECKING:
    from edgeml.serving.repository.options import ServingOptions
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
        InputError: This is no predictor, or one whose answers have to be awaited.
        MissingExtraError: The extra [routing] is not installed.
    """
    from edgeml.serving.routing.limit import LimitRoute
    from edgeml.serving.routing.metrics import Metrics
    from edgeml.serving.routing.pairing import join_metrics
    from edgeml.serving.routing.routed import RoutedPredictor

    if not isinstance(predictor, Predictor):
        raise InputError(
            f"with_limit was given a {type(predictor).__name__}; a predictor was expected; "
            "edgeml.connect() and edgeml.load() give one, edgeml.connect_async() has no limit yet"
        )
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


def queue_for_deadline(
    bundle: str | Path | Bundle,
    deadline_s: float,
    *,
    item_s: float | None = None,
    options: ServingOptions | None = None,
) -> ServingOptions:
    """Return options for :func:`edgeml.publish` whose queue holds what a deadline allows.

    Requests beyond it are refused at once, and none waits in the server past the deadline. Largest
    batch, requests that may wait and their time in the queue come from the deadline and from the
    time that an item takes; an instance that is alone gets a second one, and they take turns.

    Args:
        bundle: The bundle that will be published.
        deadline_s: Time from a request's arrival to its answer, in seconds.
        item_s: Time that one instance takes for one item, in seconds; None takes what the export
            measured for the variant that a CPU gets, which holds for the export's machine and
            threads.
        options: How the model is served otherwise.

    Raises:
        BundleError: This is no readable bundle.
        InputError: The bundle says nothing of the time, a time is none, the options have a bound
            already, or the deadline is too short for a queue.
        MissingExtraError: The extra [triton] is not installed.
    """
    from edgeml.serving.repository.bounds import bounded_for
    from edgeml.serving.repository.options import ServingOptions

    opened = bundle if isinstance(bundle, Bundle) else Bundle.read(bundle)
    manifest = opened.manifest
    if item_s is None:
        variant = opened.variant(manifest.chosen_by_device.get("cpu", manifest.chosen))
        if variant.p50_ms is None:
            raise InputError(
                f"the variant '{variant.name}' of '{opened.path}' has no measured latency; the "
                "time that one item takes was expected; give item_s (--item-time)"
            )
        item_s = variant.p50_ms / 1e3
    return bounded_for(
        options or ServingOptions(),
        deadline_s=deadline_s,
        item_s=item_s,
        turn=f"turn-{manifest.name}",
    )
