"""``edgeml triton install | status | backends``; ``serve`` has a file of its own."""

from __future__ import annotations

import argparse
import urllib.parse
from dataclasses import asdict
from typing import Any

from edgeml.cli import triton_serve
from edgeml.cli.output import Outcome, Verb, show_line
from edgeml.cli.triton_serve import show_server
from edgeml.core.progress import Progress, ProgressEvent
from edgeml.errors import InputError


def _configure_nothing(parser: argparse.ArgumentParser) -> None:
    del parser


def _run_install(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    del arguments
    from edgeml.serving.installation.installing import install

    def report(text: str) -> None:
        progress(ProgressEvent(stage="install Triton", done=0, total=0, note=text))

    done = install(report=report)
    result = {"tritonserver": str(done.tritonserver), "backends": str(done.backends)}
    text = f"Triton is installed in {done.root}"
    return Outcome(result=result, show=lambda: show_line(text))


def _run_backends(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    del arguments, progress
    from edgeml.serving.server.choosing import choose_installation

    backends = str(choose_installation().backends)
    return Outcome(result={"backends": backends}, show=lambda: show_line(backends))


def _configure_status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="HTTP address of a server")


def _run_status(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    del progress
    from edgeml.serving.server.records import read_record
    from edgeml.serving.server.status import status_of

    if not arguments.url.startswith("http://"):
        raise InputError("an address such as http://127.0.0.1:8000 was expected", item="--url")
    url = arguments.url.rstrip("/")
    record = read_record(_local_port(url))
    skipped = () if record is None else record.skipped
    result: dict[str, Any] = {"http": url}
    if record is not None:
        result |= {"grpc": record.grpc, "metrics": record.metrics, "log": record.log}
        if record.supervision is not None:
            result["supervision"] = dict(record.supervision)
    result["models"] = [asdict(row) for row in status_of(url, skipped=skipped)]
    return Outcome(result=result, show=lambda: show_server(result))


def _local_port(url: str) -> int:
    """Return the port of a URL of this machine; 0 for any other, which no record has."""
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port or 80
    except ValueError as exc:
        raise InputError(f"'{url}' is no address ({exc})", item="--url") from exc
    return port if parts.hostname in ("127.0.0.1", "localhost") else 0


VERBS = (
    Verb(
        name="triton install",
        help="install a Triton server without Docker, in an environment of its own",
        configure=_configure_nothing,
        run=_run_install,
    ),
    triton_serve.VERB,
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
