"""``edgeml.canary``, ``edgeml.shadow`` and ``edgeml.promote``: a candidate beside a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeml.core.bundle import Bundle
from edgeml.core.gate import Gate
from edgeml.core.identity import identity_of
from edgeml.core.predictor import Predictor
from edgeml.errors import InputError

if TYPE_CHECKING:
    from edgeml.serving.repository.publish import Published
    from edgeml.serving.routing.canary import CanaryPredictor
    from edgeml.serving.routing.health import CanarySettings
    from edgeml.serving.routing.promotion import Decision


def canary(
    model: Predictor,
    candidate: Predictor,
    *,
    share: float = 0.05,
    shadow: float = 0.05,
    key: Callable[[Any], str | bytes | int] | None = None,
    settings: CanarySettings | None = None,
    close_members: bool = True,
) -> CanaryPredictor:
    """Let a candidate answer a share of the keys, watch it, and stop it where it is not fit.

    Which keys is decided here in the client, by a salted hash: the same key gets the same model in
    every process, and a larger share takes no key back. A call's key is that of
    ``with canary.keyed(user): ...``, or what ``key`` returns for the item, or the item's contents.
    The candidate's errors reach no caller: the stable model answers, and it is counted.

    Args:
        model: The model that answers for sure, as :func:`edgeml.load` or :func:`edgeml.connect`
            give it.
        candidate: The other one, for the same labels; its input may have another size. On a server
            it is a model of its own name, such as ``clothing_next``.
        share: Share of the keys that the candidate answers, from 0 to 1.
        shadow: Share of the answers for which the other model is asked as well, in the background,
            and compared; without it only errors are watched.
        key: Gives an item's key, or that of a feed of tensors.
        settings: When the candidate is stopped, and what it may cost.
        close_members: Whether both are closed with it.

    Returns:
        A predictor with ``set_share``, ``report``, ``feedback``, ``decide`` and ``stop`` besides.

    Raises:
        InputError: The two do not answer in the same words, or an argument is out of range.
        MissingExtraError: The extra [routing] is not installed.
    """
    from edgeml.serving.routing.canary import CanaryPredictor

    return CanaryPredictor(
        model,
        candidate,
        share=share,
        shadow=shadow,
        key=key,
        settings=settings,
        close_members=close_members,
    )


def shadow(
    model: Predictor,
    candidate: Predictor,
    *,
    share: float = 0.1,
    settings: CanarySettings | None = None,
    close_members: bool = True,
) -> CanaryPredictor:
    """Let a candidate see a copy of some traffic and answer nobody: a canary whose share is 0.

    Copies wait in a bounded queue; where it is full they are dropped and counted. ``report()``
    tells how the answers compare.

    Args:
        model: The model that answers.
        candidate: The other one, for the same labels.
        share: Share of the answers that are compared, from 0 to 1.
        settings: When the comparison is ended early, and how much may wait.
        close_members: Whether both are closed with it.

    Raises:
        InputError: The two do not answer in the same words, or an argument is out of range.
        MissingExtraError: The extra [routing] is not installed.
    """
    return canary(
        model,
        candidate,
        share=0.0,
        shadow=share,
        settings=settings,
        close_members=close_members,
    )


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """What came of a promotion.

    Attributes:
        decision: The verdict, and what it rests on.
        published: The version that was published; None where the verdict was against it.
    """

    decision: Decision
    published: Published | None

    @property
    def promoted(self) -> bool:
        """Whether the candidate was published."""
        return self.published is not None

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as JSON values."""
        found = self.published
        return {
            "promoted": self.promoted,
            "decision": self.decision.to_json(),
            "model": found.model if found else None,
            "version": found.version if found else None,
        }


def promote(
    running: CanaryPredictor,
    bundle: str | Path | Bundle,
    *,
    repository: str | Path,
    name: str | None = None,
    gate: Gate | None = None,
    server: str | None = None,
) -> Promotion:
    """Publish a candidate as the model's next version, if what was seen of it proves it.

    Args:
        running: The canary or the shadow that has watched it.
        bundle: The candidate's bundle.
        repository: The Triton model repository of the stable model.
        name: The stable model's name there; None takes the bundle's.
        gate: The limits; None is that of exports, proven: see :meth:`CanaryPredictor.decide`.
        server: URL of the server that shall load it, as for :func:`edgeml.publish`.

    Returns:
        The verdict with its reason and the samples still needed; with the version, if it passed.

    Raises:
        InputError: The bundle is not the candidate's.
        BundleError: This is no readable bundle, or (as IntegrityError) a file is damaged.
    """
    import edgeml

    opened = bundle if isinstance(bundle, Bundle) else Bundle.read(bundle)
    watched = identity_of(running.candidate)
    files = {row.name: row.sha256 for row in opened.manifest.variants}
    if watched is not None and any(files.get(key) != sha for key, sha in watched.artefacts.items()):
        raise InputError(
            f"the bundle '{opened.path}' is not the candidate that was watched "
            f"({watched.name}, version {watched.version}): its files have other hashes; give the "
            "candidate's bundle"
        )
    decision = running.decide(gate)
    if not decision.passed:
        return Promotion(decision=decision, published=None)
    published = edgeml.publish(opened, repository=repository, name=name, server=server)
    return Promotion(decision=decision, published=published)
