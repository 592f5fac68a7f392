"""By when an answer is wanted, and how much: two headers that are defined elsewhere.

``grpc-timeout`` is the one of gRPC over HTTP/2 (``100m`` is 100 ms), which proxies know;
``Priority`` is that of RFC 9218 (``u=0`` is the most urgent, ``u=7`` the least, 3 the default).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from edgeml.core.priority import PRIORITIES, Priority
from edgeml.serving.web.refusals import BAD_REQUEST, RefusedError

TIMEOUT = "grpc-timeout"
PRIORITY = "priority"
_UNITS_S = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_USUAL = 3


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What a request says of its answer.

    Attributes:
        within_s: Time that it has, in seconds.
        priority: Whom it goes before.
    """

    within_s: float = math.inf
    priority: Priority = "normal"

    @property
    def rank(self) -> int:
        """Its priority as a number; 0 goes first."""
        return PRIORITIES.index(self.priority)


def read_wishes(headers: Mapping[str, str]) -> Wishes:
    """Read a request's headers.

    Args:
        headers: By name, in small letters.

    Raises:
        RefusedError: The timeout is none. A priority that is none is ignored, as its RFC says.
    """
    within_s = math.inf
    if TIMEOUT in headers:
        value = headers[TIMEOUT].strip()
        found = re.fullmatch(r"([0-9]{1,8})([HMSmun])", value, re.ASCII)
        if found is None or not int(found[1]):
            raise RefusedError(
                f"the header {TIMEOUT} is '{value[:40]}'; up to eight digits and a unit were "
                "expected, as 100m for 100 ms or 2S",
                status=BAD_REQUEST,
            )
        within_s = int(found[1]) * _UNITS_S[found[2]]
    return Wishes(within_s=within_s, priority=_priority(headers.get(PRIORITY, "")))


def _priority(value: str) -> Priority:
    found = re.search(r"(?:^|,)\s*u\s*=\s*([0-7])\s*(?:[,;]|$)", value, re.ASCII)
    urgency = int(found[1]) if found else _USUAL
    if urgency == _USUAL:
        return "normal"
    return "high" if urgency < _USUAL else "low"
