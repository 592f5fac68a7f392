"""Publish and roll back again and again while callers ask, and check every one of their answers.

``python -m benchmarks.resilience publishing --cycles 200``. A cycle is one publish or one rollback.
Each caller asks over a connection of its own, on a schedule, and compares every answer with the
golden values of the version that the answer says it is from.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import edgeml
from edgeml.core.bundle import Bundle
from edgeml.core.signature import Tensors
from edgeml.errors import EdgemlError, PublishError
from edgeml.runtime.host import detect_host
from edgeml.serving.client.engine import TritonEngine
from edgeml.serving.server.running import TritonServer
from tests.unit.serving.tiny_bundle import make_tiny_bundle
from tests.unit.serving.tiny_text import GOLDEN_TEXTS, make_text_bundle

_TOLERANCE = 1e-4
_SETTLE_S = 0.3


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model with two bundles, whose versions take turns.

    Attributes:
        bundles: Two bundles that answer the same question differently.
        front: The name that callers ask.
        feed: What they send.
        expected: Of each bundle, what it answers, in the order of ``bundles``.
    """

    bundles: tuple[Bundle, Bundle]
    front: str
    feed: Tensors
    expected: tuple[Any, Any]

    @property
    def model(self) -> str:
        """The name that is published."""
        return self.bundles[0].manifest.name


@dataclass(kw_only=True)
class Seen:
    """What the callers saw. Appended to from several threads.

    Attributes:
        latencies_ms: Of every answer, with the time at which it was sent, in seconds.
        versions: Answers by version.
        failures: What a request failed with, and how often.
        wrong: Answers that are not those of the version that they name.
    """

    latencies_ms: list[tuple[float, float]] = field(default_factory=list)
    versions: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)


class Callers:
    """Threads that ask on a schedule and check what they are answered; a context manager.

    Args:
        server: The server.
        subject: What is asked.
        contents: Version to which of the two bundles it holds; filled while they ask.
        seen: What they see.
        rate_per_s: Requests of all callers together.
        callers: How many, of whom every other one uses HTTP.
    """

    def __init__(
        self,
        server: TritonServer,
        subject: Subject,
        *,
        contents: dict[str, int],
        seen: Seen,
        rate_per_s: float,
        callers: int,
    ) -> None:
        self._subject, self._contents, self._seen = subject, contents, seen
        self._gap_s = callers / rate_per_s
        self._stopped = threading.Event()
        urls = [server.http if number % 2 else server.grpc for number in range(callers)]
        self._threads = [threading.Thread(target=self._ask, args=(url,)) for url in urls]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, url: str) -> None:
        engine = TritonEngine(url, model=self._subject.front, timeout_s=10)
        due = time.perf_counter()
        while not self._stopped.wait(max(0.0, due - time.perf_counter())):
            # One that was late asks next at the next moment of the schedule: load stays steady.
            due = max(due + self._gap_s, time.perf_counter() - self._gap_s)
            self._ask_once(engine)
        engine.close()

    def _ask_once(self, engine: TritonEngine) -> None:
        started = time.perf_counter()
        try:
            answer = engine.run(self._subject.feed)["probabilities"]
        except EdgemlError as exc:
            self._seen.failures[f"{type(exc).__name__}: {exc}"[:300]] += 1
            return
        self._seen.latencies_ms.append((started, (time.perf_counter() - started) * 1e3))
        version = engine.served_by.rsplit("/", 1)[-1]
        self._seen.versions[version] += 1
        which = self._contents.get(version)
        expected = None if which is None else self._subject.expected[which]
        if expected is None or not np.allclose(answer, expected, rtol=0, atol=_TOLERANCE):
            self._seen.wrong[f"an answer of version {version} is not its own"] += 1


def make_subject(kind: str, folder: Path) -> Subject:
    """Make two bundles of a tiny seeded model: ``image`` or ``text``."""
    if kind == "text":
        texts = [make_text_bundle(folder / f"text{seed}.bundle", seed=seed) for seed in (0, 1)]
        feed = {"text": np.array(GOLDEN_TEXTS, dtype=object)}
        answers = [row.golden().outputs["fp32"]["probabilities"] for row in texts]
        return Subject(
            bundles=(texts[0], texts[1]),
            front="sentiment_text",
            feed=feed,
            expected=(answers[0], answers[1]),
        )
    images = [make_tiny_bundle(folder / f"image{seed}.bundle", seed=seed) for seed in (0, 1)]
    # Both are asked the first one's golden pictures.
    feed = dict(images[0].golden().tensors)
    answers = [_answer_of(row, feed) for row in images]
    return Subject(
        bundles=(images[0], images[1]), front="tiny", feed=feed, expected=(answers[0], answers[1])
    )


def _answer_of(bundle: Bundle, feed: Tensors) -> Any:
    with edgeml.load(bundle, num_threads=1) as predictor:
        return predictor.run(feed)["probabilities"]


def run_cycles(
    subject: Subject,
    repository: Path,
    *,
    cycles: int,
    rate_per_s: float = 100.0,
    callers: int = 4,
    keep: int = 3,
) -> dict[str, Any]:
    """Publish and roll back in turn under load, and return what the callers saw as JSON values.

    Args:
        subject: The model.
        repository: An empty folder.
        cycles: Publishes and rollbacks together.
        rate_per_s: Requests of all callers together.
        callers: Threads that ask.
        keep: Versions that stay.
    """
    edgeml.publish(subject.bundles[0], repository=repository)
    contents, seen, seconds = {"1": 0}, Seen(), {"publish": [], "rollback": []}
    highest, refused = 1, []
    with ExitStack() as stack:
        server = stack.enter_context(edgeml.serve_triton(repository))
        options = {"contents": contents, "seen": seen, "rate_per_s": rate_per_s}
        stack.enter_context(Callers(server, subject, callers=callers, **options))
        time.sleep(_SETTLE_S)
        for cycle in range(cycles):
            verb = "rollback" if cycle % 2 else "publish"
            started = time.perf_counter()
            try:
                if verb == "publish":
                    highest += 1
                    # Told before it can answer: the next version holds the other bundle.
                    contents[str(highest)] = 1
                    edgeml.publish(
                        subject.bundles[1], repository=repository, server=server.grpc, keep=keep
                    )
                else:
                    edgeml.rollback(subject.model, repository=repository, server=server.grpc)
            except PublishError as exc:
                refused.append(str(exc))
            seconds[verb].append(time.perf_counter() - started)
            time.sleep(_SETTLE_S)
        supervision = server.supervision
    latencies = [latency for _, latency in seen.latencies_ms]
    return {
        "model": subject.front,
        "cycles": cycles,
        "requests": len(latencies) + sum(seen.failures.values()),
        "failed": sum(seen.failures.values()),
        "failures": dict(seen.failures),
        "wrong": sum(seen.wrong.values()),
        "wrong_answers": dict(seen.wrong),
        "refused": refused,
        "versions_seen": len(seen.versions),
        "p50_ms": float(np.quantile(latencies, 0.5)),
        "p99_ms": float(np.quantile(latencies, 0.99)),
        "max_ms": max(latencies),
        "publish_s": float(np.median(seconds["publish"])),
        "rollback_s": float(np.median(seconds["rollback"] or [0.0])),
        "supervision": None if supervision is None else supervision.to_json(),
    }


def main(argv: Sequence[str]) -> int:
    """Run the cycles that were asked for and print what was seen."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resilience publishing")
    parser.add_argument("--cycles", type=int, default=200, help="publishes and rollbacks (200)")
    parser.add_argument("--model", choices=("image", "text"), default="image")
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second (100)")
    parser.add_argument("--callers", type=int, default=4, help="threads that ask (4)")
    parser.add_argument("--out", type=Path, default=None, help="a JSON file to write besides")
    given = parser.parse_args(list(argv))
    with tempfile.TemporaryDirectory(prefix="edgeml-publishing-") as folder:
        subject = make_subject(given.model, Path(folder))
        found = run_cycles(
            subject,
            Path(folder) / "models",
            cycles=given.cycles,
            rate_per_s=given.rate,
            callers=given.callers,
        )
    found = {"host": detect_host().to_json(), "rate_per_s": given.rate, **found}
    text = json.dumps(found, indent=2) + "\n"
    if given.out is not None:
        given.out.write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    return 0 if not (found["failed"] or found["wrong"] or found["refused"]) else 1
