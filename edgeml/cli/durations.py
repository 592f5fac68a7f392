"""Times as people write them on a command line."""

from __future__ import annotations

import argparse
import re

_UNITS = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def duration(text: str) -> float:
    """Return seconds: ``90``, ``90s``, ``10m``, ``1h`` or ``20ms``.

    Raises:
        argparse.ArgumentTypeError: It is no time.

    Example:
        >>> duration("10m")
        600.0
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|[smh]?)", text.strip())
    if found is None or float(found[1]) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; 20ms, 90s, 10m or 1h was expected")
    return float(found[1]) * _UNITS[found[2]]
