"""One peer in its own process: ``python -m benchmarks.peers.worker``, JSON lines in and out.

The clock is in here, so the pipe costs nothing of what is measured. Everything that libraries print
goes to stderr; stdout carries answers only. Standard library only.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

from benchmarks.peers.opened import OpenPeer, Place

Message = dict[str, Any]


class Worker:
    """Answers one request after another; each method is an ``op`` of the protocol.

    Args:
        clock: Nanoseconds, monotonic.
    """

    def __init__(self, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        self._clock = clock
        self._peer: OpenPeer | None = None
        self._packages: tuple[str, ...] = ()

    def prepare(self, request: Message) -> Message:
        """Make an artefact."""
        out = Path(request["out"])
        place = _place(request)
        _engine(request).prepare(request["artefact"], place, request["texts"], out)
        return {}

    def open(self, request: Message) -> Message:
        """Open the peer that later requests are about."""
        engine = _engine(request)
        self._packages = engine.PACKAGES
        self._peer = engine.open_peer(_place(request))
        return {}

    def block(self, request: Message) -> Message:
        """Answer each text on its own, timed."""
        answer, clock = self._open_peer().answer, self._clock
        times, labels, scores = [], [], []
        before_cpu = time.process_time_ns()
        started = clock()
        for text in request["texts"]:
            before = clock()
            label, score = answer(text)
            times.append(clock() - before)
            labels.append(label)
            scores.append(float(score))
        return {
            "ns": times,
            "labels": labels,
            "scores": scores,
            "wall_ns": clock() - started,
            "cpu_ns": time.process_time_ns() - before_cpu,
        }

    def whole(self, request: Message) -> Message:
        """Answer a whole list, held to one processor so that nobody gets a second thread."""
        answer_all = self._open_peer().answer_all
        if answer_all is None:
            raise ValueError("this peer does not answer whole lists")
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {max(allowed)})
        try:
            before = self._clock()
            labels = answer_all(request["texts"])
            elapsed = self._clock() - before
        finally:
            os.sched_setaffinity(0, allowed)
        return {"ns": elapsed, "labels": labels}

    def split(self, request: Message) -> Message:
        """Time whole answers and the model alone on the same texts, in turns."""
        peer, clock = self._open_peer(), self._clock
        if peer.model_alone is None:
            raise ValueError("this peer does not run its model alone")
        answers: list[int] = []
        models: list[int] = []

        def timed(call: Callable[[], object], into: list[int]) -> None:
            before = clock()
            call()
            into.append(clock() - before)

        for number, text in enumerate(request["texts"]):
            model = peer.model_alone(text)
            turns = [(lambda text=text: peer.answer(text), answers), (model, models)]
            for call, into in turns if number % 2 else reversed(turns):
                timed(call, into)
        return {"answer_ns": answers, "model_ns": models}

    def about(self, request: Message) -> Message:
        """Return versions, facts and memory."""
        del request
        return {
            "versions": {"python": sys.version.split()[0], **_versions(self._packages)},
            "facts": dict(self._open_peer().facts),
            "rss_mb": _resident_mb(),
        }

    def _open_peer(self) -> OpenPeer:
        if self._peer is None:
            raise ValueError("no peer is open; send 'open' first")
        return self._peer


_OPS = ("prepare", "open", "block", "whole", "split", "about")


def serve(lines: Iterable[str], out: TextIO, worker: Worker) -> None:
    """Answer requests until there are no more, one line each."""
    for line in lines:
        try:
            request = json.loads(line)
            if request["op"] not in _OPS:
                raise ValueError(f"unknown op {request['op']!r}")
            reply = {"ok": True, **getattr(worker, request["op"])(request)}
        except Exception as exc:  # whatever a peer raises is its row's reason
            reply = {"ok": False, "error": f"{type(exc).__name__}: {exc}"}
        out.write(json.dumps(reply) + "\n")
        out.flush()


def _engine(request: Message) -> ModuleType:
    return importlib.import_module(f"benchmarks.peers.engines.{request['engine']}")


def _place(request: Message) -> Place:
    def path(key: str) -> Path | None:
        return Path(request[key]) if request.get(key) else None

    return Place(
        checkpoint=Path(request["checkpoint"]),
        bundle=path("bundle"),
        model=path("model"),
        variant=request.get("variant"),
    )


def _versions(packages: Iterable[str]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _resident_mb() -> float:
    """Return the resident memory of this worker and of the server that it started, if any."""
    group, total = os.getpgrp(), 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(process.name)) != group:
                continue
            status = (process / "status").read_text(encoding="ascii", errors="replace")
        except OSError:  # ended meanwhile
            continue
        sizes = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
        total += sum(int(size) for size in sizes) * 1024
    return total / 1e6


def main() -> None:
    """Keep the real stdout for answers and give everybody else stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.stdin, answers, Worker())


if __name__ == "__main__":
    main()
