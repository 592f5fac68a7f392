"""Keep a server serving: start it again after a crash, and cure models that are dead behind it.

A dead server is seen by its process, a dead stub by its process too, and whatever else stops a
model by its golden request. A server that crashes again and again is given up, with an error.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from edgeml.errors import EdgemlError, ServerError
from edgeml.serving.host.processes import ProcessMark, is_running
from edgeml.serving.repository.candidates import is_candidate_name
from edgeml.serving.server.http import get_json
from edgeml.serving.server.starting import log_models, wait_until_ready
from edgeml.serving.server.stubs import stubs_of
from edgeml.serving.server.watching import Event, ModelWatch

if TYPE_CHECKING:
    from edgeml.serving.server.running import TritonServer

_LOG = logging.getLogger(__name__)
MOST_CRASHES = 5
CRASHES_WITHIN_S = 60.0
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0
_TICK_S = 0.1
_LOOK_EVERY_S = 1.0
_INDEX_TIMEOUT_S = 5.0
_HUNG_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Supervision:
    """What supervision has seen since the server's first start.

    Attributes:
        crashes: Ends of the server that nobody asked for.
        restarts: Starts after a crash that succeeded.
        deaths: Models that were found dead.
        cures: Models that were loaded again and answered.
        left: Models that could not be cured, each with the reason.
    """

    crashes: int = 0
    restarts: int = 0
    deaths: int = 0
    cures: int = 0
    left: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the same as JSON values; ``left`` is an object from model to reason."""
        return {**asdict(self), "left": dict(self.left)}


class Supervisor(threading.Thread):
    """A thread that stays as long as its server, because the kernel ties the two together.

    Args:
        server: The server, which is ready.
        models: Models that it loads.
        start_timeout_s: Time allowed for each start.
    """

    def __init__(
        self, server: TritonServer, *, models: Sequence[str], start_timeout_s: float
    ) -> None:
        super().__init__(name="edgeml-supervisor", daemon=True)
        self.failure: ServerError | None = None
        self._server, self._start_timeout_s = server, start_timeout_s
        self._wanted = set(models)
        self._seen, self._lock = Supervision(), threading.RLock()
        self._halted, self._idle, self._released = (threading.Event() for _ in range(3))
        self._watches: dict[str, ModelWatch] = {}
        self._stubs: dict[str, list[ProcessMark]] = {}
        self._stubs_known = False
        self._crashes: list[float] = []
        self._look_at = 0.0
        self._answered_at = time.monotonic()

    def report(self) -> Supervision:
        """Return what was seen so far."""
        with self._lock:
            return self._seen

    def halt(self) -> None:
        """End all watching, and wait until nothing is started any more.

        The thread itself waits for :meth:`release`.
        """
        self._halted.set()
        self._idle.wait(timeout=_HUNG_S)

    def release(self) -> None:
        """Let the thread end, once its server has ended."""
        self._released.set()
        self.join()
        for watch in self._watches.values():
            watch.join(timeout=_INDEX_TIMEOUT_S)

    def run(self) -> None:
        """Watch until halted, or until the server is given up."""
        try:
            while self.failure is None and not self._halted.wait(_TICK_S):
                self._tick()
        except Exception as exc:  # whatever it is: unseen, it would leave the server alone
            self._give_up(f"supervision failed ({type(exc).__name__}: {exc})")
        for watch in self._watches.values():
            watch.halt()
        self._idle.set()
        self._released.wait()

    def _tick(self) -> None:
        if not self._server.is_running():
            self._recover()
            return
        self._check_stubs()
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_EVERY_S
            self._look()

    def _recover(self) -> None:
        """Start a server again that has ended, or give it up."""
        end = self._server.describe_end()
        now = time.monotonic()
        self._crashes = [when for when in self._crashes if now - when < CRASHES_WITHIN_S] + [now]
        self._count(crashes=1)
        if len(self._crashes) >= MOST_CRASHES:
            self._server.end_process(drain_s=0)
            self._give_up(
                f"{len(self._crashes)} ends within {CRASHES_WITHIN_S:g} s, the last: {end}"
            )
            return
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (len(self._crashes) - 1))
        _LOG.warning("%s; it is started again in %.1f s", end, pause_s)
        if self._halted.wait(pause_s):
            return
        started = time.monotonic()
        try:
            self._server.relaunch(sorted(self._wanted))
            wait_until_ready(
                self._server, timeout_s=self._start_timeout_s, cancelled=self._halted.is_set
            )
            if not self._halted.is_set():
                self._after_restart(time.monotonic() - started)
        except EdgemlError as exc:
            # It counts as another end of the server, at the next look.
            _LOG.warning("the server could not be started again: %s", exc)
            self._server.kill()

    def _after_restart(self, took_s: float) -> None:
        self._leave(())
        seen = self._count(restarts=1)
        _LOG.warning("the server serves again after %.1f s (restart %d)", took_s, seen.restarts)
        for name in [name for name, watch in self._watches.items() if not watch.is_alive()]:
            del self._watches[name]
        self._stubs_known = False
        self._look_at = 0.0
        self._answered_at = time.monotonic()
        log_models(self._server)

    def _look(self) -> None:
        """Learn which models are served now, and watch each of them."""
        url = f"{self._server.control}/v2/repository/index"
        try:
            rows = get_json(url, method="POST", timeout_s=_INDEX_TIMEOUT_S)
        except ServerError:
            if time.monotonic() - self._answered_at > _HUNG_S and self._server.is_running():
                _LOG.warning("the server has answered nothing for %g s and is ended", _HUNG_S)
                self._server.kill()
            return
        self._answered_at = time.monotonic()
        for row in rows:
            name, watch = row["name"], self._watches.get(row["name"])
            if is_candidate_name(name):
                continue  # a publish tries it, and takes it away
            if row.get("state") == "READY":
                self._wanted.add(name)
                if watch is None:
                    self._watch(name)
            elif row.get("reason") == "unloaded" and not (watch and watch.curing):
                self._wanted.discard(name)  # somebody took it away

    def _watch(self, name: str) -> None:
        watch = ModelWatch(
            name, url=self._server.control, folder=self._server.repository / name, tell=self._hear
        )
        self._watches[name] = watch
        self._stubs_known = False
        watch.start()

    def _check_stubs(self) -> None:
        """Let a model be looked at, one of whose stubs has ended and was not replaced."""
        before = self._stubs
        gone = [name for name, marks in before.items() if not all(map(is_running, marks))]
        if self._stubs_known and not gone:
            return
        self._stubs = stubs_of(self._server.token)
        self._stubs_known = True
        for name in gone:
            watch, left = self._watches.get(name), len(self._stubs.get(name, []))
            if watch and not watch.curing and left < len(before[name]):
                watch.suspect(left)

    def _hear(self, event: Event, model: str, text: str) -> None:
        """Count and log what a watch tells; called from its thread."""
        self._stubs_known = False
        if event == "death":
            self._count(deaths=1)
            _LOG.warning("%s is dead: %s; it is loaded again", model, text)
        elif event == "cure":
            seen = self._count(cures=1)
            _LOG.warning("%s answers again after %s (cure %d)", model, text, seen.cures)
        else:
            with self._lock:
                self._leave((*self._seen.left, (model, text)))
            _LOG.error("%s cannot be cured and is left: %s", model, text)

    def _count(
        self, *, crashes: int = 0, restarts: int = 0, deaths: int = 0, cures: int = 0
    ) -> Supervision:
        """Add to what was seen, and note it for ``triton status``."""
        with self._lock:
            seen = self._seen
            self._seen = replace(
                seen,
                crashes=seen.crashes + crashes,
                restarts=seen.restarts + restarts,
                deaths=seen.deaths + deaths,
                cures=seen.cures + cures,
            )
            self._server.record()
            return self._seen

    def _leave(self, left: tuple[tuple[str, str], ...]) -> None:
        with self._lock:
            self._seen = replace(self._seen, left=left)
            self._server.record()

    def _give_up(self, reason: str) -> None:
        self.failure = ServerError(
            f"the server is given up ({reason}); a server that stays was expected; see its log "
            f"'{self._server.log_path}' and start it again",
            url=self._server.http,
        )
        _LOG.error("%s", self.failure)
