"""One model under watch: a golden request every second, and unload and load where it is dead."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from edgeml.errors import ServerError, ServerTimeoutError, ServerUnreachableError
from edgeml.serving.server.control import load_model, unload_model
from edgeml.serving.server.probing import DeadModelError, Probe, ProbeConnection, make_probe

Event = Literal["death", "cure", "left"]
Tell = Callable[[Event, str, str], None]

INTERVAL_S = 1.0
TIMEOUT_S = 10.0
CURES = 3
_BETWEEN_CURES_S = 0.5


class ModelWatch(threading.Thread):
    """A thread that watches one model until it is halted, or has given the model up.

    A model that answered anybody since the last look is alive and is sent nothing. One that answers
    others while our own request waits is busy, not dead.

    Args:
        model: The model's name.
        url: URL of the server's own HTTP endpoint.
        folder: The model's folder in the repository.
        tell: Called with each event: its kind, the model and a text.
    """

    def __init__(self, model: str, *, url: str, folder: Path, tell: Tell) -> None:
        super().__init__(name=f"edgeml-watch-{model}", daemon=True)
        self.model = model
        self.curing = False
        self._url, self._folder, self._tell = url, folder, tell
        self._connection = ProbeConnection(url, model, timeout_s=TIMEOUT_S)
        self._wake, self._halted = threading.Event(), threading.Event()
        self._answered: int | None = None
        self._probe: Probe | None = None
        self._prepared = False
        self._stubs: int | None = None

    def run(self) -> None:
        """Look once a second, or at once after :meth:`suspect`."""
        while not self._halted.is_set():
            self._wake.wait(INTERVAL_S)
            self._wake.clear()
            try:
                fault = "" if self._halted.is_set() else self._fault()
            except ServerError:  # no server, or no such model: neither is this watch's business
                self._forget()
                continue
            if fault and not self._cure(fault):
                break
        self._connection.close()

    def suspect(self, stubs: int) -> None:
        """Look at once, because a stub of the model has ended.

        Args:
            stubs: How many of its stubs are left.
        """
        self._stubs = stubs
        self._wake.set()

    def halt(self) -> None:
        """Ask the thread to end; it does so before its next request."""
        self._halted.set()
        self._wake.set()

    def _fault(self) -> str:
        """Return how the model is dead, or an empty text."""
        left, self._stubs = self._stubs, None
        if left is not None and self._lacks_stubs(left):
            return "a stub of it has ended"
        answered = self._connection.answered()
        moved = self._answered is not None and answered > self._answered
        self._answered = answered
        if not self._prepared:
            self._probe = make_probe(self._connection.config(), self._folder)
            self._prepared = True
        if moved or self._probe is None:
            return ""
        try:
            self._connection.send(self._probe)
        except DeadModelError as exc:
            return str(exc)
        except ServerTimeoutError:
            busy = self._connection.answered() != answered
            return "" if busy else f"it has answered nothing for {TIMEOUT_S:g} s"
        self._answered = answered + 1
        return ""

    def _lacks_stubs(self, left: int) -> bool:
        """Return whether a model that is ready has fewer stubs than instances."""
        if not self._connection.is_ready():
            return False
        groups = self._connection.config().get("instance_group", [])
        return left < sum(int(group.get("count", 1)) for group in groups)

    def _cure(self, fault: str) -> bool:
        """Unload and load until the model answers; return whether the watch goes on."""
        self.curing = True
        self._tell("death", self.model, fault)
        try:
            for attempt in range(CURES):
                if attempt and self._halted.wait(_BETWEEN_CURES_S):
                    return True
                started = time.monotonic()
                try:
                    fault = self._reload()
                except ServerUnreachableError:
                    return True  # the server is gone, and all its models with it
                except ServerError as exc:
                    fault = str(exc)
                if not fault:
                    self._tell("cure", self.model, f"{time.monotonic() - started:.1f} s")
                    return True
        finally:
            self.curing = False
        self._tell("left", self.model, fault)
        return False

    def _reload(self) -> str:
        """Unload and load the model; return how it is dead still, or an empty text."""
        if self._halted.is_set():
            return ""
        unload_model(self._url, self.model)
        load_model(self._url, self.model)
        self._forget()
        return self._fault()

    def _forget(self) -> None:
        """Take nothing for known: the model may be another one now."""
        self._answered, self._prepared, self._stubs = None, False, None
