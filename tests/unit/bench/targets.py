"""Targets that the generator's process imports by name."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from edgeml.bench.targets import CallTarget
from edgeml.errors import RequestRefusedError


def sleeper(*, service_ms: float, then_ms: float | None = None, after: int = 0) -> CallTarget:
    """Answers after a time, and after some calls takes another time."""
    calls: list[None] = []

    def call(_sample: int) -> None:
        calls.append(None)
        slow = then_ms is not None and len(calls) > after
        time.sleep((then_ms if slow else service_ms) / 1e3)

    return CallTarget(call)


def labeller(*, wrong: list[int], num_samples: int = 4) -> CallTarget:
    """Answers its sample's number as a word, and some of them wrongly."""

    def call(sample: int) -> str:
        return "nonsense" if sample in wrong else str(sample)

    expected = [str(sample) for sample in range(num_samples)]
    return CallTarget(call, num_samples=num_samples, expected=expected)


def greedy(*, exponent: int) -> CallTarget:
    """Keeps the interpreter's lock for the whole of a call, so that nobody else can send."""

    def call(_sample: int) -> None:
        pow(3, exponent)

    return CallTarget(call)


def whereabouts() -> CallTarget:
    """Answers which process it is in, and with what variable; wrong unless it is another one."""
    target = CallTarget(lambda _sample: (os.getpid(), os.environ.get("EDGEML_TEST_MARK")))
    target.conditions = {"pid": os.getpid(), "mark": os.environ.get("EDGEML_TEST_MARK")}
    return target


def marking(*, file: str) -> CallTarget:
    """Leaves a file behind that says that it was asked."""

    def call(_sample: int) -> None:
        Path(file).touch()
        time.sleep(0.01)

    return CallTarget(call)


def broken() -> CallTarget:
    """Cannot be made."""
    raise ValueError("there is no such\nmodel")


def hanging(*, after: int) -> CallTarget:
    """Answers some calls and then never again."""
    calls: list[None] = []

    def call(_sample: int) -> None:
        calls.append(None)
        if len(calls) > after:
            threading.Event().wait()

    return CallTarget(call)


def endless() -> CallTarget:
    """Hangs before its first answer."""
    return hanging(after=0)


def deadly() -> CallTarget:
    """Takes the process with it."""
    return CallTarget(lambda _sample: os._exit(9))


def failing() -> CallTarget:
    """Refuses one of five, is too slow for another, and breaks on a third."""
    calls: list[None] = []

    def call(_sample: int) -> None:
        calls.append(None)
        match len(calls) % 5:
            case 1:
                raise RequestRefusedError("full", url="here")
            case 2:
                raise TimeoutError("slow")
            case 3:
                raise RuntimeError("broken\nin two lines")

    return CallTarget(call)
