"""How long work tells what it does: plain events to a callback, so that no library code prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ProgressEvent:
    """One step of a stage.

    Attributes:
        stage: What is being done, such as ``train``.
        done: Steps done.
        total: Steps in all; 0 where unknown.
        note: The figure of the moment, for people.
    """

    stage: str
    done: int
    total: int
    note: str = ""


Progress = Callable[[ProgressEvent], None]


def silent(event: ProgressEvent) -> None:
    """Ignore an event: the default of every function that reports progress."""
    del event
