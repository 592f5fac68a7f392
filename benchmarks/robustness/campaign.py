"""Mutated requests against a real server, one after the other, beside callers that watch it."""

from __future__ import annotations

import re
import resource
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.robustness.drafts import Draft, HttpRequest, draft_of
from benchmarks.robustness.neighbours import Neighbours, executions, known_answers
from benchmarks.robustness.requests import Mutated, make_request
from benchmarks.robustness.sending import GrpcSender, Outcome, send_http
from benchmarks.robustness.subjects import Subject
from edgeml.core.signature import Tensors
from edgeml.serving.guard.checks import GuardLimits
from edgeml.serving.server.running import TritonServer
from edgeml.serving.server.serve import start_triton
from edgeml.serving.server.stubs import stubs_of

# A shape that Triton believes may cost more memory than the machine has; the rest is not ours.
ADDRESS_SPACE_BYTES = 12 << 30
_EVERY = 100
_DYING_S = 0.3
_UNSURE = ("closed", "silent", "UNAVAILABLE", "CANCELLED", "502", "503")
_DIGITS = re.compile(r"[0-9]+|(.)\1{20,}")
# What our models say, which Triton's own checks do not.
_BY_MODEL = re.compile(
    r"ONNXRuntimeError|holds NaN|image is|not an image|UTF-8|holds no picture|image:"
)
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Crash:
    """A server that was gone after a request.

    Attributes:
        number: The request's number.
        protocol: How it was sent.
        model: The model that it was made for.
        changes: What had been changed in it.
        how: How the server ended.
        request: The start of what was sent.
    """

    number: int
    protocol: str
    model: str
    changes: tuple[str, ...]
    how: str
    request: str


@dataclass(kw_only=True)
class Report:
    """What a series of requests came to.

    Attributes:
        statuses: Protocol and status to how many.
        changes: Each kind of change to how many requests had it.
        crashes: Of the server itself.
        lost_stubs: Models whose process ended while the server ran on.
        neighbours: How many answers of the callers were right, wrong, refused, or lost in a crash.
        faults: Those that were wrong or refused, in words.
        answered: Protocol to how many of the requests had nothing wrong with them.
        refused_by_models: Protocol to how many reached a model and were refused by it.
        reasons: Reasons of 5xx and INTERNAL, without their digits, to how many.
        joined: Model to requests answered, requests refused, samples run and runs; without those of
            servers that a request ended.
        silent: Requests that were not answered in time.
        wall_s: How long it took, restarts included.
    """

    statuses: Counter[tuple[str, str]] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)
    crashes: list[Crash] = field(default_factory=list)
    lost_stubs: list[str] = field(default_factory=list)
    neighbours: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)
    refused_by_models: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    joined: dict[str, tuple[int, ...]] = field(default_factory=dict)
    silent: list[int] = field(default_factory=list)
    wall_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return it as values."""
        statuses: dict[str, dict[str, int]] = {}
        for (protocol, status), count in sorted(self.statuses.items()):
            statuses.setdefault(protocol, {})[status] = count
        return {
            **self.__dict__,
            "statuses": statuses,
            "answered": dict(self.answered),
            "refused_by_models": dict(self.refused_by_models),
            "changes": dict(self.changes.most_common()),
            "reasons": dict(self.reasons.most_common(40)),
            "crashes": [crash.__dict__ for crash in self.crashes],
            "neighbours": dict(self.neighbours),
            "wall_s": round(self.wall_s, 1),
        }


def drafts_of(subjects: Sequence[Subject]) -> list[Draft]:
    """Return the requests that are mutated: every feed of every model."""
    return [draft_of(subject.model, dict(feed)) for subject in subjects for feed in subject.feeds]


class Campaign:
    """Sends the requests of a seed, and starts the server again whenever it is gone.

    Args:
        repository: What the server serves.
        subjects: Its models.
        seed: Of the requests.
        guard: Whether a guard stands before HTTP; gRPC requests are left out then.
    """

    def __init__(
        self, repository: Path, subjects: Sequence[Subject], *, seed: int, guard: bool = False
    ) -> None:
        self._repository, self._subjects, self._seed = repository, subjects, seed
        self._guard, self._drafts = guard, drafts_of(subjects)
        self._known: dict[str, list[Tensors]] = {}
        self.report = Report()

    def run(self, numbers: Sequence[int], *, say: Say = lambda _: None) -> Report:
        """Send the requests of these numbers and return what they came to."""
        started, left = time.monotonic(), list(numbers)
        if self._guard:
            left = [number for number in left if not number % 2]
        total = len(left)
        while left:
            left = self._serve(left, say=say)
            say(f"{total - len(left)} of {total} requests, {len(self.report.crashes)} crashes")
        self.report.wall_s += time.monotonic() - started
        return self.report

    def _serve(self, numbers: list[int], *, say: Say) -> list[int]:
        """Send requests to one server until it dies; return those that are left."""
        guard = GuardLimits() if self._guard else None
        with start_triton(self._repository, guard=guard) as server:
            limit = (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES)
            resource.prlimit(server.pid, resource.RLIMIT_AS, limit)
            self._known = self._known or known_answers(server.grpc, self._subjects)
            life = _Life(server, self._subjects, self._known, self.report)
            try:
                for done, number in enumerate(numbers, start=1):
                    mutated = make_request(self._seed, number, self._drafts)
                    if life.survives(mutated, check=done % _EVERY == 0 or done == len(numbers)):
                        continue
                    say(f"request {number} ended the server")
                    return numbers[done:]
            finally:
                life.end()
        return []


class _Life:
    """One server from its start to its end, and the callers beside it."""

    def __init__(
        self,
        server: TritonServer,
        subjects: Sequence[Subject],
        known: dict[str, list[Tensors]],
        report: Report,
    ) -> None:
        self._server, self._report = server, report
        self._models = [subject.model for subject in subjects]
        self._stubs = stubs_of(server.token)
        self._sender = GrpcSender(server.grpc)
        self._neighbours = Neighbours(server.grpc, subjects, known)
        self._before = (0, 0)

    def survives(self, mutated: Mutated, *, check: bool) -> bool:
        """Send one request; return whether the server is still there."""
        self._before = (len(self._neighbours.faults), self._neighbours.counts["refused"])
        outcome = self._send(mutated)
        self._report.statuses[mutated.protocol, outcome.status] += 1
        self._report.changes.update(set(mutated.changes))
        self._report.answered[mutated.protocol] += outcome.status in ("OK", "200")
        self._report.refused_by_models[mutated.protocol] += bool(_BY_MODEL.search(outcome.text))
        if outcome.status[0] == "5" or outcome.status in ("INTERNAL", "UNKNOWN"):
            self._report.reasons[_DIGITS.sub("#", outcome.text)[:160]] += 1
        if outcome.status == "silent":
            self._report.silent.append(mutated.number)
        if self._is_gone(unsure=outcome.status in _UNSURE):
            self._neighbours.stop()
            self._neighbours.forgive(*self._before)
            self._report.crashes.append(_crash(mutated, self._server.describe_end()))
            return False
        if check or "healthy" in outcome.text:
            self._look_at_stubs()
        return True

    def end(self) -> None:
        """Stop the callers and keep what they counted."""
        self._neighbours.stop()
        self._sender.close()
        self._report.neighbours.update(self._neighbours.counts)
        self._report.faults += self._neighbours.faults
        if self._server.is_running():
            for model, counts in executions(self._server.grpc, self._models).items():
                before = self._report.joined.get(model, (0, 0, 0, 0))
                self._report.joined[model] = tuple(map(sum, zip(before, counts, strict=True)))

    def _send(self, mutated: Mutated) -> Outcome:
        if isinstance(mutated.content, HttpRequest):
            return send_http(self._server.http, mutated.content)
        return self._sender.send(mutated.content)

    def _is_gone(self, *, unsure: bool) -> bool:
        deadline = time.monotonic() + (_DYING_S if unsure else 0)
        while self._server.is_running():
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.01)
        return True

    def _look_at_stubs(self) -> None:
        found = stubs_of(self._server.token)
        for model, marks in self._stubs.items():
            if self._server.is_running() and not set(marks) <= set(found.get(model, ())):
                self._report.lost_stubs.append(model)
        self._stubs = found


def _crash(mutated: Mutated, how: str) -> Crash:
    content = mutated.content
    if isinstance(content, HttpRequest):
        content = content.head() + content.body
    return Crash(
        number=mutated.number,
        protocol=mutated.protocol,
        model=mutated.model,
        changes=mutated.changes,
        how=how.partition("; a running server")[0],
        request=repr(content[:400])[2:-1]
        + (f"... ({len(content)} bytes)" if len(content) > 400 else ""),
    )


def replay(
    repository: Path, subjects: Sequence[Subject], *, seed: int, number: int, guard: bool
) -> tuple[Outcome, bool]:
    """Send one request alone to a fresh server.

    Returns:
        What came back, and whether the server lived on.
    """
    mutated = make_request(seed, number, drafts_of(subjects))
    limits = GuardLimits() if guard else None
    with start_triton(repository, guard=limits) as server:
        limit = (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES)
        resource.prlimit(server.pid, resource.RLIMIT_AS, limit)
        if isinstance(mutated.content, HttpRequest):
            outcome = send_http(server.http, mutated.content)
        else:
            sender = GrpcSender(server.grpc)
            outcome = sender.send(mutated.content)
            sender.close()
        time.sleep(_DYING_S)
        return outcome, server.is_running()
