"""A checkpoint against the data that an export proves it on, for every task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeml.data.dataset import Split
from edgeml.errors import DataError

if TYPE_CHECKING:
    from edgeml.training.checkpoint import Checkpoint


def check_classes(checkpoint: Checkpoint, labels: tuple[str, ...], *, name: str) -> None:
    """Refuse data of other classes.

    Raises:
        DataError: The classes, or their order, differ.
    """
    if labels != checkpoint.labels:
        reason = (
            f"its classes are {', '.join(labels)}; the checkpoint's are "
            f"{', '.join(checkpoint.labels)}; give data of the same classes"
        )
        raise DataError(source=name, reason=reason)


def kept_split(checkpoint: Checkpoint, fingerprint: str, *, name: str, given: bool) -> Split | None:
    """Return the checkpoint's own split, or None for data that it was not trained on.

    Args:
        checkpoint: What was trained.
        fingerprint: Hash of the data.
        name: Name of the data.
        given: Whether the caller named the data, rather than the checkpoint.

    Raises:
        DataError: The checkpoint's own data has changed.
    """
    if fingerprint == checkpoint.data["fingerprint"]:
        return Split(**checkpoint.split)
    if given:
        return None
    reason = (
        "the data has changed since training, so that its stored split would leak; restore it, "
        "train again, or pass --data with data that the training has not seen"
    )
    raise DataError(source=name, reason=reason)


def check_unchanged(checkpoint: Checkpoint, fingerprint: str, *, name: str) -> None:
    """Refuse data to which a checkpoint's split does not apply any more.

    Args:
        checkpoint: What was trained.
        fingerprint: Hash of the data that its place holds now.
        name: Name of the data.

    Raises:
        DataError: It differs from what was trained on.
    """
    if fingerprint != checkpoint.data["fingerprint"]:
        reason = "the data has changed since training; restore or retrain"
        raise DataError(source=name, reason=reason)


def describe_checkpoint(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what a manifest says of the checkpoint that a bundle was made from."""
    return {
        "model": checkpoint.model,
        "data": {key: value for key, value in checkpoint.data.items() if key != "place"},
        "training": {
            "accuracy": checkpoint.training["accuracy"],
            "settings": checkpoint.training["settings"],
        },
        "versions": dict(checkpoint.provenance["versions"]),
    }
