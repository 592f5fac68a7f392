"""What one app takes at most."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeml.errors import InputError


@dataclass(frozen=True, kw_only=True)
class WebLimits:
    """What an app takes at most; beyond it a request is refused, never kept waiting unseen.

    Attributes:
        max_body_bytes: Size of a request's body.
        max_items: Items of one batch.
        workers: Requests that are computed at once.
        waiting: Requests that wait for one of them; the next is refused with 503.
        read_s: Time that a sender has for its body, in seconds.
        drain_s: Time that running requests are given at the end, in seconds.
    """

    max_body_bytes: int = 32 << 20
    max_items: int = 64
    workers: int = 1
    waiting: int = 64
    read_s: float = 30.0
    drain_s: float = 10.0

    def __post_init__(self) -> None:
        for name in ("max_body_bytes", "max_items", "workers"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; at least 1 was expected")
        if self.waiting < 0:
            raise InputError(f"waiting is {self.waiting}; at least 0 was expected")
        for name in ("read_s", "drain_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} is {value}; seconds above 0 were expected")
