"""Whether a server is well, asked by somebody who has nothing to do with the load."""

from __future__ import annotations

import contextlib
import time

from edgeml.core.bundle import Bundle
from edgeml.core.deadline import deadline
from edgeml.errors import EdgemlError
from edgeml.serving.client.engine import TritonEngine
from edgeml.serving.client.golden import check_golden

_EVERY_S = 0.05


def wait_until_well(url: str, model: str, bundle: Bundle, *, within_s: float) -> int:
    """Return when golden requests were first answered right, on the generator's clock.

    Args:
        url: The server.
        model: The model's name there.
        bundle: Whose golden values are asked.
        within_s: How long to wait.

    Returns:
        ``time.perf_counter_ns``; 0 where they were not.
    """
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        with contextlib.suppress(EdgemlError), deadline(1.5):
            engine = TritonEngine(url, model=model)
            try:
                if check_golden(engine, bundle).ok:
                    return time.perf_counter_ns()
            finally:
                engine.close()
        time.sleep(_EVERY_S)
    return 0
