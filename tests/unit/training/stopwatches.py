"""Stopwatches that are rigged: what they say is the faster way to compute is decided beforehand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgeml.training.compute import ChosenCompute, Compute, choose_compute

_FAST_S, _SLOW_S = 0.001, 0.1


def rigged(fast: str) -> Callable[..., ChosenCompute]:
    """Return a ``choose_compute`` that measures ``fast`` as the fastest.

    Args:
        fast: A name of :class:`Compute`, such as ``fp32 contiguous``.
    """

    def choose(wanted: Any, step: Callable[[Compute], None], **options: Any) -> ChosenCompute:
        now = [0.0]

        def timed(kind: Compute) -> None:
            step(kind)
            now[0] += _FAST_S if kind.name == fast else _SLOW_S

        return choose_compute(wanted, timed, clock=lambda: now[0], **options)

    return choose
