"""The generator's side of the overload: clients with a deadline, with a limit or without."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import edgeml
from benchmarks.resilience.convolutions import NUM_SAMPLES
from edgeml.errors import EdgemlError, ServerOverloadedError

# By sample, which are asked equally often: a fifth high, two fifths each of the others.
PRIORITIES = ("high",) * 2 + ("normal",) * 4 + ("low",) * 4
_WARMUP = 20
_NICE = -10  # where that is allowed: three parties share two cores, and one must be on time


class OverloadTarget:
    """One program with many threads that ask one model; see ``edgeml.bench.targets.Target``.

    Args:
        url: The server.
        model: The model's name.
        bundle: Its bundle, with samples and their answers.
        deadline_s: Time of a call; None gives it ten seconds.
        limited: Whether a limit stands before the server.
        priorities: Whether calls have priorities.
    """

    client = "grpc"
    num_samples = NUM_SAMPLES
    checks_answers = True

    def __init__(
        self,
        *,
        url: str,
        model: str,
        bundle: str,
        deadline_s: float | None,
        limited: bool,
        priorities: bool,
    ) -> None:
        golden = edgeml.Bundle.read(bundle).golden()
        self._inputs = golden.tensors["x"]
        self._answers = golden.outputs["fp32"]["y"]
        self._deadline_s = deadline_s
        self._priorities = priorities
        self._predictor: edgeml.Predictor = edgeml.connect(url, model=model)
        if limited:
            self._predictor = edgeml.with_limit(self._predictor, model=model)
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, _NICE)
        self._refused: dict[str, list[float]] = {}
        self._lock = threading.Lock()
        for _ in range(_WARMUP):
            with contextlib.suppress(EdgemlError):  # a bound that has lost a wake-up
                self._ask(0)
        self._refused.clear()

    @property
    def conditions(self) -> Mapping[str, Any]:
        """Who was asked, and the milliseconds to each refusal by its reason."""
        with self._lock:
            refused = {reason: sorted(found) for reason, found in self._refused.items()}
        return {"served_by": self._predictor.served_by, "refused_ms": refused, "nice": os.nice(0)}

    def connect(self) -> Callable[[int], Any]:
        """Return how a caller asks."""
        return self._asked

    def check(self, sample: int, answer: Any) -> str | None:
        """Compare an answer with the one of this process."""
        if np.allclose(answer, self._answers[sample], atol=1e-3, rtol=1e-3):
            return None
        return f"sample {sample} has another answer"

    def close(self) -> None:
        """Close the connection."""
        self._predictor.close()

    def _asked(self, sample: int) -> Any:
        begun = time.perf_counter()
        try:
            return self._ask(sample)
        except ServerOverloadedError as exc:
            took_ms = 1e3 * (time.perf_counter() - begun)
            with self._lock:
                self._refused.setdefault(exc.reason, []).append(took_ms)
            raise

    def _ask(self, sample: int) -> Any:
        feed = {"x": self._inputs[sample : sample + 1]}
        level = PRIORITIES[sample] if self._priorities else "normal"
        with contextlib.ExitStack() as stack:
            stack.enter_context(edgeml.priority(level))  # type: ignore[arg-type]
            if self._deadline_s is not None:
                stack.enter_context(edgeml.deadline(self._deadline_s))
            return self._predictor.run(feed)["y"][0]
