"""``edgeml.with_fallback``: a server, and the edge behind it."""

from __future__ import annotations

import inspect
import itertools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgeml.core.bundle import Bundle
from edgeml.core.deadline import deadline
from edgeml.core.identity import ModelIdentity, identity_of
from edgeml.core.predictor import Predictor
from edgeml.errors import EdgemlError, InputError

if TYPE_CHECKING:
    from edgeml.serving.routing.fallback_settings import FallbackSettings
    from edgeml.serving.routing.routed import RoutedPredictor

Policy = Literal["required", "allowed", "forbidden"]

_LOG = logging.getLogger(__name__)
_PROBABILITIES = "probabilities"


def with_fallback(
    server: Predictor | Callable[[], Predictor],
    edge: Predictor,
    *,
    policy: Policy = "allowed",
    settings: FallbackSettings | None = None,
    bundle: str | Path | Bundle | None = None,
    close_members: bool = True,
) -> RoutedPredictor:
    """Put a predictor in this process behind one on a server, as a declared fallback.

    ``Prediction.served_by`` says who answered, and ``metrics_text()`` of the predictor why. A
    caller's own bad input is its caller's: it is neither retried nor answered by the other one.

    Args:
        server: What :func:`edgeml.connect` gives, or a function that connects: with ``allowed``,
            one that finds no server is called again in the background until it does.
        edge: What :func:`edgeml.load` gives, of the same model.
        policy: ``required`` serves on the server or not at all, ``allowed`` falls back to the edge,
            ``forbidden`` always uses the edge and never asks the server.
        settings: Times, shares and limits.
        bundle: The bundle whose golden examples tell whether a server is well again; None takes the
            one that ``edge`` or ``server`` was made from. Without any, the last call that was
            answered is asked again.
        close_members: Whether both are closed with it.

    Raises:
        InputError: The two are not the same model, or not the same training of it and the settings
            do not allow that; or an argument is wrong.
        ServerError: The server is needed and cannot be reached.
        BundleError: The bundle cannot be read.
        MissingExtraError: The extra [routing] is not installed.

    Example:
        >>> from edgeml.errors import InputError
        >>> try:
        ...     with_fallback(3, 4)
        ... except InputError as error:
        ...     print(error)
        the edge is a int; a predictor was expected; edgeml.load() gives one
    """
    from edgeml._optional import require

    require("prometheus_client", extra="routing")
    from edgeml.serving.routing.fallback import fallback
    from edgeml.serving.routing.fallback_settings import FallbackSettings

    settings = settings or FallbackSettings()
    _check_predictor(edge, "edge", "edgeml.load()")
    opened = bundle if bundle is None or isinstance(bundle, Bundle) else Bundle.read(bundle)
    member, late = _reached(server, edge, policy, settings)
    try:
        _check_artefacts(member, edge, settings)
        known = opened or _bundle_behind(edge, member)
        if known is not None and not _same_training(member, ModelIdentity.of_bundle(known)):
            known = None
        check = None if known is None else golden_check(known)
        if check is not None and settings.allow_other_artefact:
            # What will be published later answers other values, and that is declared.
            check = None if late else _while_it_serves(member.served_by, check)
        if check is not None and late is None and policy != "forbidden":
            check = _usable(check, member, settings)
        return fallback(
            member,
            edge,
            policy=policy,
            settings=settings,
            check=check,
            late=late,
            close_members=close_members,
        )
    except EdgemlError:
        if member is not server:  # nobody else knows of it
            member.close()
        raise


def golden_check(bundle: Bundle) -> Callable[[Predictor], bool]:
    """Return a question to a predictor whose answer is known: one golden example, each in its turn.

    Args:
        bundle: The bundle that the predictor answers for.

    Raises:
        BundleError: Its golden files are damaged.
    """
    from edgeml.workflows.loading import task_of

    golden = bundle.golden()
    task = None if bundle.manifest.task == "tensor" else task_of(bundle)
    items = [task.decode_golden(bundle.open_file(path)) for path in golden.inputs] if task else []
    turns = itertools.cycle(range(len(next(iter(golden.tensors.values())))))

    def check(predictor: Predictor) -> bool:
        row = next(turns)
        if items:
            scores = predictor.predict(items[row]).scores
            answers: dict[str, Any] = {_PROBABILITIES: np.array([list(scores.values())])}
        else:
            feed = {name: array[row : row + 1] for name, array in golden.tensors.items()}
            answers = predictor.run(feed)
        variant = next((v for v in predictor.served_by.split("/") if v in golden.outputs), None)
        if variant is None:  # somebody who does not say which variant answers: it answered
            return True
        return all(
            _is_close(answers.get(name), expected[row : row + 1], golden.tolerance[variant])
            for name, expected in golden.outputs[variant].items()
        )

    return check


def _is_close(answer: Any, expected: Any, tolerance: float) -> bool:
    if answer is None or answer.shape != expected.shape:
        return False
    difference = np.abs(answer.astype(np.float64) - expected.astype(np.float64))
    return float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0)) <= tolerance


def _while_it_serves(
    served_by: str, check: Callable[[Predictor], bool]
) -> Callable[[Predictor], bool]:
    """Return a golden request whose values count as long as the server has not changed.

    A version that was published since only has to answer.
    """
    return lambda predictor: check(predictor) or predictor.served_by != served_by


def _usable(
    check: Callable[[Predictor], bool], server: Predictor, settings: FallbackSettings
) -> Callable[[Predictor], bool] | None:
    """Return the golden request, unless a server that is well does not pass it."""
    from edgeml.serving.routing.faults import fault_of

    try:
        with deadline(settings.probe_timeout_s):
            if check(server):
                return check
    except EdgemlError as exc:
        if fault_of(exc) is not None:
            return check  # it is not well, which the first calls will find
    _LOG.warning(
        "%s does not answer as the bundle's golden values say; whether it is well will be asked by "
        "repeating the last good call; run 'edgeml verify' there, and publish again",
        server.served_by,
    )
    return None


def _reached(
    server: Any, edge: Predictor, policy: str, settings: FallbackSettings
) -> tuple[Predictor, EdgemlError | None]:
    """Return the server's predictor, and why it could not be reached, if it could not."""
    from edgeml.serving.routing.faults import fault_of
    from edgeml.serving.routing.late import LateServer

    if isinstance(server, Predictor) or not callable(server):
        _check_predictor(server, "server", "edgeml.connect()")
        return server, None
    if policy != "allowed":
        found = server()
        _check_predictor(found, "server", "edgeml.connect()")
        return found, None
    late = LateServer(server, edge, accept=lambda found: _check_artefacts(found, edge, settings))
    try:
        late.connect()
    except EdgemlError as exc:
        if fault_of(exc) is None:
            raise
        return late, exc
    return late, None


def _check_predictor(value: Any, role: str, source: str) -> None:
    """Refuse what is no predictor, and predictors whose answers have to be awaited."""
    if inspect.iscoroutinefunction(getattr(type(value), "predict", None)):
        raise InputError(
            f"the {role}'s answers have to be awaited; one that answers in the caller's thread was "
            "expected; use edgeml.connect, and asyncio.to_thread around the calls"
        )
    if not isinstance(value, Predictor):
        raise InputError(
            f"the {role} is a {type(value).__name__}; a predictor was expected; {source} gives one"
        )


def _bundle_behind(*predictors: Predictor) -> Bundle | None:
    identities = (identity_of(predictor) for predictor in predictors)
    bundles = (identity.bundle for identity in identities if identity is not None)
    return next((bundle for bundle in bundles if bundle is not None), None)


def _same_training(predictor: Predictor, other: ModelIdentity) -> bool:
    """Return whether two hold the same files, as far as both say."""
    mine = identity_of(predictor)
    if mine is None:
        return True
    common = mine.artefacts.keys() & other.artefacts.keys()
    if not common:  # then the bundle's name and version are all that can be compared
        return (mine.name, mine.version) == (other.name, other.version)
    return all(mine.artefacts[name] == other.artefacts[name] for name in common)


def _check_artefacts(server: Predictor, edge: Predictor, settings: FallbackSettings) -> None:
    there, here = identity_of(server), identity_of(edge)
    if there is None or here is None or _same_training(server, here):
        return
    text = (
        f"the server has '{there.name}' {there.version} and the edge '{here.name}' {here.version}, "
        "which are different trainings"
    )
    if not settings.allow_other_artefact:
        raise InputError(
            f"{text}; the same bundle was expected; publish it, or declare the difference: "
            "FallbackSettings(allow_other_artefact=True)"
        )
    _LOG.warning("%s: answers depend on who gives them", text)
