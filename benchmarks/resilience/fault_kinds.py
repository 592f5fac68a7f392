"""The ways in which a server is harmed, and healed again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.resilience.proxy import Proxy
from edgeml.serving.server.serve import TritonServer
from edgeml.serving.server.stubs import stubs_of


@dataclass(frozen=True, kw_only=True)
class Harmed:
    """What a fault can get hold of."""

    server: TritonServer
    proxy: Proxy
    model: str


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One way to harm a server.

    Attributes:
        name: Of the row.
        words: What happens.
        harm: Does it.
        heal: Ends it; None where the server's supervisor does.
        through_proxy: Whether clients reach the server through the user-space proxy.
    """

    name: str
    words: str
    harm: Callable[[Harmed], None]
    heal: Callable[[Harmed], None] | None = None
    through_proxy: bool = False


def _kill_server(harmed: Harmed) -> None:
    os.kill(harmed.server.pid, signal.SIGKILL)


def _kill_stub(harmed: Harmed) -> None:
    for mark in stubs_of(harmed.server.token)[harmed.model]:
        os.kill(mark.pid, signal.SIGKILL)


def _stop(harmed: Harmed) -> None:
    os.kill(harmed.server.pid, signal.SIGSTOP)


def _go_on(harmed: Harmed) -> None:
    os.kill(harmed.server.pid, signal.SIGCONT)


def _silence(harmed: Harmed) -> None:
    harmed.proxy.silent = True


def _delay_back(harmed: Harmed) -> None:
    harmed.proxy.back_s = 0.2


def _delay_both(harmed: Harmed) -> None:
    harmed.proxy.there_s = harmed.proxy.back_s = 0.2


def _restore(harmed: Harmed) -> None:
    harmed.proxy.silent = False
    harmed.proxy.there_s = harmed.proxy.back_s = 0.0


FAULTS = (
    Fault(
        name="kill-server",
        words="`kill -9` of the server; its supervisor starts it again",
        harm=_kill_server,
    ),
    Fault(
        name="kill-stub",
        words="`kill -9` of the model's stub; the supervisor loads the model again",
        harm=_kill_stub,
    ),
    Fault(name="hung", words="SIGSTOP, and SIGCONT 5 s later", harm=_stop, heal=_go_on),
    Fault(
        name="black-hole",
        words="user-space proxy: nothing passes for 5 s, connections stay open",
        harm=_silence,
        heal=_restore,
        through_proxy=True,
    ),
    Fault(
        name="slow-200",
        words="user-space proxy: answers 200 ms later for 5 s",
        harm=_delay_back,
        heal=_restore,
        through_proxy=True,
    ),
    Fault(
        name="slow-400",
        words="user-space proxy: 200 ms each way for 5 s",
        harm=_delay_both,
        heal=_restore,
        through_proxy=True,
    ),
)
