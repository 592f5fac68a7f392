"""Predictors that do as a test says: a server that hangs, fails or is well, and an edge."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from edgeml.core.deadline import remaining_s
from edgeml.core.fake import FakeEngine
from edgeml.core.identity import ModelIdentity
from edgeml.core.signature import ModelSignature, Tensors
from edgeml.errors import (
    InputError,
    ModelNotReadyError,
    RequestRefusedError,
    ServerError,
    ServerOverloadedError,
    ServerTimeoutError,
    ServerUnreachableError,
)
from edgeml.tasks.classification import ClassLabels
from edgeml.tasks.image import ImagePreprocessing, ImageTask
from edgeml.tasks.predictor import TaskPredictor

URL = "grpc://host:8001"
PICTURE = np.zeros((2, 2, 3), dtype=np.uint8)
LABELS = ("left", "right")

ERRORS: dict[str, Callable[[], Exception]] = {
    "unreachable": lambda: ServerUnreachableError("nobody", url=URL),
    "timeout": lambda: ServerTimeoutError(url=URL, timeout_s=0.1),
    "not_ready": lambda: ModelNotReadyError("stub not healthy", url=URL, model="m"),
    "overloaded": lambda: ServerOverloadedError("full", url=URL, reason="queue-full"),
    "error": lambda: ServerError("the server answered 500", url=URL),
    "refused": lambda: RequestRefusedError("bad", url=URL),
    "input": lambda: InputError("a picture that is none"),
}


class Scripted:
    """The engine of a predictor, whose state a test changes while it is used.

    ``state`` is ``well``, ``hung`` (waits until the caller's deadline), ``slow`` (0.05 s) or a key
    of ``ERRORS``.
    """

    def __init__(self, served_by: str, *, labels: tuple[str, ...] = LABELS) -> None:
        task = ImageTask(
            preprocessing=ImagePreprocessing(height=2, width=2), labels=ClassLabels(names=labels)
        )
        self.state = "well"
        self.num_calls = 0
        self.left: list[float] = []
        self.closed = threading.Event()
        self._lock = threading.Lock()
        self._fake = FakeEngine(task.signature, served_by=served_by)
        self.predictor = TaskPredictor(
            task,
            self,
            identity=ModelIdentity(
                name="m", version="1", task="image-classification", labels=labels
            ),
        )

    @property
    def signature(self) -> ModelSignature:
        return self._fake.signature

    @property
    def served_by(self) -> str:
        return self._fake.served_by

    def run(self, tensors: Tensors) -> dict[str, Any]:
        with self._lock:
            self.num_calls += 1
            self.left.append(remaining_s())
        if self.state == "hung":
            time.sleep(min(remaining_s(), 5.0))
            raise ServerTimeoutError(url=URL, timeout_s=1.0)
        if self.state == "slow":
            time.sleep(0.05)
        elif self.state != "well":
            raise ERRORS[self.state]()
        return self._fake.run(tensors)

    def close(self) -> None:
        self.closed.set()
        self._fake.close()


def server() -> Scripted:
    return Scripted("triton/cpu/int8/1")


def edge() -> Scripted:
    return Scripted("onnxruntime/cpu/int8/1")


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def values(text: str, name: str) -> dict[str, float]:
    """Return the series of one metric: its labels as text, to its value."""
    found = {}
    for line in text.splitlines():
        if line.startswith(f"edgeml_{name}{{"):
            labels, _, value = line.partition("{")[2].rpartition("} ")
            kept = [part for part in labels.split(",") if not part.startswith(("model=", "part="))]
            if float(value):  # what has not happened stands there, too
                found[",".join(kept).replace('"', "")] = float(value)
    return found


def wait_until(condition: Callable[[], bool], *, within_s: float = 5.0) -> None:
    """Wait for something that another thread brings about."""
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.005)
