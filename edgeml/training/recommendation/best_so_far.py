"""Early stopping: look at validation now and then, keep the best, stop when it gets no better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Arrays = TypeVar("Arrays")


@dataclass
class BestSoFar(Generic[Arrays]):
    """Keeps the best of what training offers.

    Attributes:
        judge: Figure of a candidate, higher is better; None takes the last one.
        patience: Looks without a better figure before ``stop``.
        best: The best candidate.
        figure: Its figure.
        epoch: Its epoch.
        history: Every figure, in order.
        stop: Whether training should end.
    """

    judge: Callable[[Arrays], float] | None
    patience: int
    best: Arrays | None = None
    figure: float = float("-inf")
    epoch: int = 0
    history: list[float] = field(default_factory=list)
    stop: bool = False

    def look(self, candidate: Arrays, *, epoch: int) -> None:
        """Judge a candidate and keep it if it is the best."""
        if self.judge is None:
            self.best, self.epoch = candidate, epoch
            return
        figure = self.judge(candidate)
        self.history.append(figure)
        if figure > self.figure:
            self.best, self.figure, self.epoch = candidate, figure, epoch
        since = len(self.history) - 1 - self.history.index(self.figure)
        self.stop = since >= self.patience
