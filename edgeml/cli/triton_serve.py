"""``edgeml triton serve``: a server that stays until a signal arrives, and is watched meanwhile."""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from edgeml.cli.output import Outcome, Verb, show_line, show_table
from edgeml.core.progress import Progress, ProgressEvent
from edgeml.errors import InputError

if TYPE_CHECKING:
    from edgeml.serving.guard.checks import GuardLimits
    from edgeml.serving.server.serve import TritonServer

_MIB = 1 << 20


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repository", required=True, help="Triton model repository")
    parser.add_argument("--model", action="append", default=None, help="load only this one")
    for name, port in (("http", 8000), ("grpc", 8001), ("metrics", 8002)):
        parser.add_argument(
            f"--{name}-port", type=int, default=port, help=f"0 picks a free one ({port})"
        )
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds to start in (60)")
    parser.add_argument(
        "--drain", type=float, default=10.0, help="seconds for running requests at the end (10)"
    )
    parser.add_argument(
        "--require-gpu", action="store_true", help="refuse to fall back to the CPU (exit code 1)"
    )
    parser.add_argument(
        "--no-supervise",
        action="store_true",
        help="do not start a crashed server again, nor load dead models again",
    )
    parser.add_argument(
        "--guard", action="store_true", help="refuse requests over HTTP that would kill the server"
    )
    parser.add_argument(
        "--guard-max-body", type=float, default=None, help="MiB of a request's body (64)"
    )
    parser.add_argument(
        "--guard-max-depth", type=int, default=None, help="levels of a request's JSON (64)"
    )
    parser.add_argument(
        "--guard-allow-control",
        action="store_true",
        help="let models be loaded and shared memory registered through the guard",
    )


def _limits_of(arguments: argparse.Namespace) -> GuardLimits | None:
    """Return what the guard refuses, or None where none was asked for."""
    from edgeml.serving.guard.checks import GuardLimits

    body, depth = arguments.guard_max_body, arguments.guard_max_depth
    control: bool = arguments.guard_allow_control
    if not arguments.guard:
        if control or body is not None or depth is not None:
            raise InputError("limits of a guard are given without one; add --guard", item="--guard")
        return None
    if body is not None and not 0 < body < math.inf:
        raise InputError(
            f"{body:g} MiB were given; more than 0 was expected", item="--guard-max-body"
        )
    limits = GuardLimits(allow_control=control)
    return GuardLimits(
        max_body_bytes=limits.max_body_bytes if body is None else int(body * _MIB),
        max_depth=limits.max_depth if depth is None else depth,
        allow_control=control,
    )


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    import edgeml

    guard = _limits_of(arguments)
    if not arguments.json:
        _show_events()
    progress(ProgressEvent(stage="start Triton", done=0, total=1))
    with _ending_at_signals():
        server = edgeml.serve_triton(
            arguments.repository,
            models=arguments.model,
            http_port=arguments.http_port,
            grpc_port=arguments.grpc_port,
            metrics_port=arguments.metrics_port,
            timeout_s=arguments.timeout,
            drain_s=arguments.drain,
            supervised=not arguments.no_supervise,
            guard=guard,
            require_gpu=arguments.require_gpu,
        )
    asked = threading.Event()
    for number in _watched_signals():
        signal.signal(number, lambda *_: asked.set())
    progress(ProgressEvent(stage="start Triton", done=1, total=1))
    result = {
        "http": server.http,
        "grpc": server.grpc,
        "metrics": server.metrics,
        "pid": server.pid,
        "log": str(server.log_path),
        "models": [asdict(row) for row in server.models()],
    }
    return Outcome(
        result=result, show=lambda: show_server(result), wait=lambda: _wait(server, asked)
    )


def _show_events() -> None:
    """Write what happens to the server and its models to stderr, one line each.

    With ``--json`` only what is a warning goes there, which Python does without being asked.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    events = logging.getLogger("edgeml.serving")
    events.setLevel(logging.INFO)
    events.addHandler(handler)


@contextlib.contextmanager
def _ending_at_signals() -> Iterator[None]:
    """Turn the first signal into an exception, which stops a server that is starting.

    They stay for a server that has started, until its verb replaces them.
    """

    def leave(number: int, _frame: object) -> None:
        for other in _watched_signals():
            signal.signal(other, signal.SIG_IGN)  # a second one would interrupt the stopping
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in _watched_signals()}
    try:
        yield
    except BaseException:
        for number, handler in before.items():
            signal.signal(number, handler)
        raise


def _watched_signals() -> tuple[signal.Signals, ...]:
    hangup_counts = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN  # it does not under nohup
    asked = (signal.SIGINT, signal.SIGTERM)
    return (*asked, signal.SIGHUP) if hangup_counts else asked


def _wait(server: TritonServer, asked: threading.Event) -> None:
    """Stay until a signal arrives or the server is gone for good."""
    try:
        while not asked.wait(timeout=0.5):
            if (failure := server.failure()) is not None:
                raise failure
    finally:
        server.stop()


def show_server(result: dict[str, Any]) -> None:
    """Print what a server serves, for people."""
    for key in ("http", "grpc", "metrics", "log"):
        if key in result:
            show_line(f"{key}: {result[key]}")
    seen = result.get("supervision")
    if seen is not None:
        show_line(
            f"restarts: {seen['restarts']} after {seen['crashes']} crashes; "
            f"models loaded again: {seen['cures']} of {seen['deaths']} found dead"
        )
        for name, reason in seen["left"].items():
            show_line(f"left dead: {name}: {reason}")
    columns: Sequence[str] = ("name", "version", "state", "device", "kind", "artefact", "reason")
    rows = [tuple(row[column] for column in columns) for row in result["models"]]
    show_table("models", columns, rows)


VERB = Verb(
    name="triton serve",
    help="start a Triton server on a repository",
    configure=_configure,
    run=_run,
)
