"""``edgeml triton install | serve | status | backends``."""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Sequence
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
    server = edgeml.serve_triton(
        arguments.repository,
        models=arguments.model,
        http_port=arguments.http_port,
        grpc_port=arguments.grpc_port,
        metrics_port=arguments.metrics_port,
        timeout_s=arguments.timeout,
    )
    progress(ProgressEvent(stage="start Triton", done=1, total=1))
    result = {
        "http": server.http,
        "grpc": server.grpc,
        "metrics": server.metrics,
        "pid": server.pid,
        "models": [asdict(row) for row in server.models()],
    }
    return Outcome(result=result, show=lambda: _show(result), wait=lambda: _wait(server))


def _wait(server: TritonServer) -> None:
    """Stay until a signal arrives or the server ends by itself."""
    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked.set())
    try:
        while not asked.wait(timeout=0.5):
            if not server.is_running():
                text = f"Triton ended ({server.last_log_line()}); see {server.log_path}"
                raise ServerError(text, url=server.http)
    finally:
        server.stop()


def _configure_status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="HTTP address of a server")


def _run_status(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    del progress
    from edgeml.serving.status import status_of

    if not arguments.url.startswith("http://"):
        raise InputError("an address such as http://127.0.0.1:8000 was expected", item="--url")
    result = {
        "http": arguments.url,
        "models": [asdict(row) for row in status_of(arguments.url.rstrip("/"))],
    }
    return Outcome(result=result, show=lambda: _show(result))


def _show(result: dict[str, Any]) -> None:
    for key in ("http", "grpc", "metrics"):
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
