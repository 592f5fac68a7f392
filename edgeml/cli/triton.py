"""``edgeml triton install | serve | status | backends``."""

from __future__ import annotations

import argparse
import contextlib
import signal
import threading
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from edgeml.cli.output import Outcome, Verb, show_line, show_table
from edgeml.core.progress import Progress, ProgressEvent
from edgeml.errors import InputError, ServerError

if TYPE_CHECKING:
    from edgeml.serving.server import TritonServer


def _configure_nothing(parser: argparse.ArgumentParser) -> None:
    del parser


def _run_install(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    del arguments
    from edgeml.serving.install import install

    def report(text: str) -> None:
        progress(ProgressEvent(stage="install Triton", done=0, total=0, note=text))

    done = install(report=report)
    result = {"tritonserver": str(done.tritonserver), "backends": str(done.backends)}
    text = f"Triton is installed in {done.root}"
    return Outcome(result=result, show=lambda: show_line(text))


def _run_backends(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    del arguments, progress
    from edgeml.serving.installation import find_installation

    backends = str(find_installation().backends)
    return Outcome(result={"backends": backends}, show=lambda: show_line(backends))


def _configure_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repository", required=True, help="Triton model repository")
    parser.add_argument("--model", action="append", default=None, help="load only this one")
    for name, port in (("http", 8000), ("grpc", 8001), ("metrics", 8002)):
        parser.add_argument(
            f"--{name}-port", type=int, default=port, help=f"0 picks a free one ({port})"
        )
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds to start in (60)")


def _run_serve(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    import edgeml

    progress(ProgressEvent(stage="start Triton", done=0, total=1))
    with _ending_at_signals():
        server = edgeml.serve_triton(
            arguments.repository,
            models=arguments.model,
            http_port=arguments.http_port,
            grpc_port=arguments.grpc_port,
            metrics_port=arguments.metrics_port,
            timeout_s=arguments.timeout,
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
    return Outcome(result=result, show=lambda: _show(result), wait=lambda: _wait(server, asked))


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
    """Stay until a signal arrives or the server ends by itself."""
    try:
        while not asked.wait(timeout=0.5):
            if not server.is_running():
                raise ServerError(server.describe_end(), url=server.http)
    finally:
        server.stop()


def _configure_status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="HTTP address of a server")


def _run_status(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    del progress
    from edgeml.serving.records import read_record
    from edgeml.serving.status import status_of

    if not arguments.url.startswith("http://"):
        raise InputError("an address such as http://127.0.0.1:8000 was expected", item="--url")
    url = arguments.url.rstrip("/")
    record = read_record(_local_port(url))
    skipped = () if record is None else record.skipped
    result: dict[str, Any] = {"http": url}
    if record is not None:
        result |= {"grpc": record.grpc, "metrics": record.metrics, "log": record.log}
    result["models"] = [asdict(row) for row in status_of(url, skipped=skipped)]
    return Outcome(result=result, show=lambda: _show(result))


def _local_port(url: str) -> int:
    """Return the port of a URL of this machine; 0 for any other, which no record has."""
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port or 80
    except ValueError as exc:
        raise InputError(f"'{url}' is no address ({exc})", item="--url") from exc
    return port if parts.hostname in ("127.0.0.1", "localhost") else 0


def _show(result: dict[str, Any]) -> None:
    for key in ("http", "grpc", "metrics", "log"):
        if key in result:
            show_line(f"{key}: {result[key]}")
    columns: Sequence[str] = ("name", "version", "state", "device", "artefact", "reason")
    rows = [tuple(row[column] for column in columns) for row in result["models"]]
    show_table("models", columns, rows)


VERBS = (
    Verb(
        name="triton install",
        help="install a Triton server without Docker, in an environment of its own",
        configure=_configure_nothing,
        run=_run_install,
    ),
    Verb(
        name="triton serve",
        help="start a Triton server on a repository",
        configure=_configure_serve,
        run=_run_serve,
    ),
    Verb(
        name="triton status",
        help="show what a running server serves",
        configure=_configure_status,
        run=_run_status,
    ),
    Verb(
        name="triton backends",
        help="print the directory for tritonserver --backend-directory",
        configure=_configure_nothing,
        run=_run_backends,
    ),
)
