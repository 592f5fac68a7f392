"""Asking an open server whether it is well, in the background, until it is."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

from edgeml.serving.routing.breaker import Breaker
from edgeml.serving.routing.fallback_settings import FallbackSettings

Probe = Callable[[float], bool]

# The first pauses: a server that was away for a moment is found again in a moment.
_FIRST_PAUSE_S = 0.1
_BETWEEN_S = 0.02
_GRACE_S = 1.0


class Prober:
    """Runs golden requests against a server while its breaker is open.

    There is a thread only while there is something to find out.

    Args:
        breaker: Opened by whoever calls :meth:`wake`; half opened and closed here.
        probe: Asks the server within so many seconds; whether its answer was right.
        settings: How often, how long, and how many good ones it takes.
        source: Of the pauses' randomness: clients that lost a server together must not come back
            together.
    """

    def __init__(
        self,
        breaker: Breaker,
        probe: Probe,
        settings: FallbackSettings,
        *,
        source: random.Random | None = None,
    ) -> None:
        self._breaker = breaker
        self._probe = probe
        self._settings = settings
        self._source = source or random.Random()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Start to ask, unless somebody does already or the prober was closed."""
        with self._lock:
            running = self._thread is not None
            if running or self._stopped.is_set():
                return
            self._thread = threading.Thread(target=self._run, name="edgeml-probe", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop asking and wait for the end of the request that is under way."""
        self._stopped.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(self._settings.probe_timeout_s + _GRACE_S)

    def _run(self) -> None:
        longest = _FIRST_PAUSE_S
        while not self._stopped.wait(self._source.uniform(0.0, longest)):
            longest = min(2 * longest, self._settings.probe_every_s)
            if self._breaker.start_probe():
                self._breaker.end_probe(good=self._is_well())
            with self._lock:
                # Under the lock: who opens it again from now on starts a thread of its own.
                if self._breaker.state == "closed":
                    self._thread = None
                    return

    def _is_well(self) -> bool:
        allowed_s = self._settings.probe_timeout_s
        for number in range(self._settings.probes_to_close):
            if number and self._stopped.wait(_BETWEEN_S):
                return False
            if not self._probe(allowed_s):
                return False
            allowed_s = self._settings.cut_over_s
        return True
