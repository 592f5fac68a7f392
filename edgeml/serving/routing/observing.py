"""What is known of a candidate: every call of it, comparisons in the background, and its end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from edgeml.core.predictor import Prediction, Predictor
from edgeml.serving.routing.background import Background
from edgeml.serving.routing.comparing import (
    CanaryReport,
    Tally,
    confidence_shift_of,
    flips_of,
    median_of,
)
from edgeml.serving.routing.faults import fault_of
from edgeml.serving.routing.health import CanarySettings, Health
from edgeml.serving.routing.metrics import Metrics
from edgeml.serving.routing.pairing import Pair

_LOG = logging.getLogger(__name__)
STABLE, CANDIDATE = "stable", "candidate"
# Prepared questions: put to a model, they give one prediction an item.
Ask = Callable[[Predictor], Sequence[Prediction]]


class CanaryMetrics:
    """What a canary counts.

    Args:
        metrics: Where to.
    """

    def __init__(self, metrics: Metrics) -> None:
        answers = metrics.counter("canary_answers", "Items answered, by the model.", "by")
        self.answers = {by: answers.labels(by) for by in (STABLE, CANDIDATE)}
        self.failures = metrics.counter(
            "canary_candidate_failures",
            "Items that the candidate failed and the stable model answered, by fault.",
            "fault",
        )
        latency = metrics.histogram(
            "canary_latency_seconds", "Time of a call's answer, by the model.", "by"
        )
        self.latency = {by: latency.labels(by) for by in (STABLE, CANDIDATE)}
        self.compared = metrics.counter("canary_compared", "Items that both models answered.")
        self.flips = metrics.counter("canary_flips", "Of them, those with another label.")
        self.dropped = metrics.counter("canary_dropped", "Comparisons that found no room.")
        self.share = metrics.gauge("canary_share", "Share of the keys that the candidate answers.")
        self.evidence = metrics.gauge(
            "canary_evidence", "Evidence against the candidate, by watch, over its limit.", "watch"
        )
        self.stopped = metrics.counter(
            "canary_stopped", "Stops of the candidate, by watch.", "watch"
        )


class Observer:
    """Watches a candidate beside a stable model. Safe to use from several threads.

    Args:
        stable: The model that answers for sure.
        candidate: The other one.
        pair: What they have in common.
        settings: Limits, queue.
        metrics: Where to count.
    """

    def __init__(
        self,
        stable: Predictor,
        candidate: Predictor,
        *,
        pair: Pair,
        settings: CanarySettings,
        metrics: Metrics,
    ) -> None:
        self._models = {STABLE: stable, CANDIDATE: candidate}
        self._lock = threading.Lock()
        self._health = Health(settings=settings)
        self._tally = Tally(multi_label=pair.multi_label)
        self._background = Background(capacity=settings.queue_size, name="edgeml-canary")
        self._answered = {STABLE: 0, CANDIDATE: 0}
        self._dropped = 0
        self._stopped: str | None = None
        self.counts = CanaryMetrics(metrics)

    @property
    def stopped(self) -> str | None:
        """Why the candidate gets nothing any more; None while it may."""
        return self._stopped

    @property
    def tally(self) -> Tally:
        """What was compared so far."""
        return self._tally

    def answered(self, by: str, *, num_items: int, elapsed_s: float) -> None:
        """Count answers that a caller got."""
        self.counts.answers[by].inc(num_items)
        self.counts.latency[by].observe(elapsed_s)
        with self._lock:
            self._answered[by] += num_items
            if by == CANDIDATE:
                for _ in range(num_items):
                    self._health.asked(failed=False)

    def failed(self, error: Exception, *, num_items: int = 1) -> None:
        """Count items that the candidate failed and the stable model answered."""
        self.counts.failures.labels(words_of(error)).inc(num_items)
        with self._lock:
            for _ in range(num_items):
                self._health.asked(failed=True)
            self._judge()

    def compare_later(
        self, ask: Ask, answers: Sequence[Prediction], *, by: str, elapsed_s: float | None
    ) -> None:
        """Let the other model answer as well, in the background, where there is room.

        Args:
            ask: Puts the same question to a model.
            answers: Those that the caller got.
            by: Who gave them.
            elapsed_s: How long that took; None where it was shared with other items.
        """
        if not self._background.offer(lambda: self._compare(ask, answers, by, elapsed_s)):
            self._drop()

    def judge_later(self, ask: Ask, labels: Collection[str]) -> bool:
        """Let both models answer an item whose right labels are known, where there is room."""
        taken = self._background.offer(lambda: self._judge_answers(ask, frozenset(labels)))
        if not taken:
            self._drop()
        return taken

    def stop(self, watch: str, reason: str) -> None:
        """End the candidate's share, and say why; once is enough."""
        with self._lock:
            self._stop(watch, reason)

    def report(self, *, share: float) -> CanaryReport:
        """Return what was seen so far."""
        with self._lock:
            tally, health = self._tally, self._health
            return CanaryReport(
                share=share,
                stopped=self._stopped,
                stable_answers=self._answered[STABLE],
                candidate_answers=self._answered[CANDIDATE],
                candidate_failures=health.errors.above,
                compared=tally.compared,
                dropped=self._dropped,
                flips=flips_of(tally),
                confidence_shift=confidence_shift_of(tally),
                latency_ratio=median_of(tally.ratios),
                accuracy=tally.paired,
                agreement=tally.agreement,
                evidence=dict(health.evidence()),
                stop_at=health.stop_at,
            )

    def finish(self, timeout_s: float) -> bool:
        """Wait until nothing waits to be compared; return whether that came about in time."""
        end = time.monotonic() + timeout_s
        while self._background.waiting():
            if time.monotonic() > end:
                return False
            time.sleep(0.005)
        return True

    def close(self) -> None:
        """End the comparisons."""
        self._background.close()

    def _drop(self) -> None:
        self.counts.dropped.inc()
        with self._lock:
            self._dropped += 1

    def _compare(
        self, ask: Ask, answers: Sequence[Prediction], by: str, elapsed_s: float | None
    ) -> None:
        if self._stopped is not None:
            return
        other = CANDIDATE if by == STABLE else STABLE
        started = time.perf_counter()
        try:
            others = ask(self._models[other])
        except Exception as exc:
            # The stable model answered this very item; what it fails itself teaches nothing.
            if other == CANDIDATE:
                self.failed(exc)
            return
        took_s = time.perf_counter() - started
        rows = (others, answers) if other == STABLE else (answers, others)
        with self._lock:
            if other == CANDIDATE:
                self._health.asked(failed=False)
            if elapsed_s:
                times = (took_s, elapsed_s) if other == STABLE else (elapsed_s, took_s)
                self._tally.ratios.append(times[1] / max(times[0], 1e-9))
                self._health.timed(stable_s=times[0], candidate_s=times[1])
            for stable, candidate in zip(*rows, strict=True):
                self._add(stable, candidate)
            self._judge()

    def _add(self, stable: Prediction, candidate: Prediction) -> None:
        if stable.label is None and candidate.label is None:
            return  # raw outputs: there is nothing to flip
        flips = self._tally.flips
        try:
            said = self._tally.add(stable, candidate)
        except ValueError:
            self._stop("labels", "it answers with other labels than the stable model")
            return
        self._health.answered(*said, num_labels=len(stable.scores))
        self.counts.compared.inc()
        self.counts.flips.inc(self._tally.flips - flips)

    def _judge_answers(self, ask: Ask, labels: frozenset[str]) -> None:
        found: dict[str, bool] = {}
        for name, model in self._models.items():
            try:
                said = self._tally.said(ask(model)[0])
                found[name] = said.labels == labels
            except Exception as exc:
                if name == STABLE:
                    return
                self.failed(exc)
                found[name] = False
        with self._lock:
            self._tally.judge(stable_right=found[STABLE], candidate_right=found[CANDIDATE])

    def _judge(self) -> None:
        """Look at the watches, and stop the candidate where one speaks against it."""
        if self._stopped is not None:
            return
        evidence, stop_at = self._health.evidence(), self._health.stop_at
        for watch, value in evidence.items():
            self.counts.evidence.labels(watch).set(value / stop_at)
        found = self._health.reason(evidence)
        if found is not None:
            self._stop(*found)

    def _stop(self, watch: str, reason: str) -> None:
        if self._stopped is not None:
            return
        self._stopped = f"{watch}: {reason}"
        self.counts.share.set(0.0)
        self.counts.stopped.labels(watch).inc()
        served_by = self._models[CANDIDATE].served_by
        _LOG.warning(
            "the candidate %s is stopped (%s): %s; the stable model answers all calls",
            *(served_by, watch, reason),
        )


def words_of(error: BaseException) -> str:
    """Return a few words for why a candidate did not answer: a fault, or the kind of error."""
    return fault_of(error) or type(error).__name__


def copied(item: Any) -> Any:
    """Return an item that its caller cannot change any more; what cannot change is itself."""
    if isinstance(item, np.ndarray):
        return item.copy()
    if isinstance(item, (bytearray, memoryview)):
        return bytes(item)
    if isinstance(item, Mapping):
        return {name: copied(value) for name, value in item.items()}
    if hasattr(item, "copy") and hasattr(item, "mode"):  # a picture of Pillow's
        return item.copy()
    return item
