"""``edgeml serve``: an HTTP app that stays until a signal arrives."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from typing import TYPE_CHECKING

from edgeml.cli.output import Outcome, Verb, show_line
from edgeml.core.progress import Progress
from edgeml.errors import InputError, ServerError

if TYPE_CHECKING:
    from edgeml.workflows.web import ServedBundle

_MIB = 1 << 20


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="folder of the bundle")
    parser.add_argument("--port", type=int, default=8080, help="0 picks a free one (8080)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--variant", default=None, help="default: the one that was chosen")
    parser.add_argument("--threads", type=int, default=None, help="threads of one computation")
    parser.add_argument("--workers", type=int, default=1, help="computations at once (1)")
    parser.add_argument("--queue", type=int, default=64, help="requests that may wait (64)")
    parser.add_argument("--max-body", type=float, default=32.0, help="MiB of a request (32)")
    parser.add_argument("--max-items", type=int, default=64, help="items of a batch (64)")


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    import edgeml
    from edgeml.serving.web.limits import WebLimits
    from edgeml.serving.web.running import is_loopback

    del progress
    if not 0 < arguments.max_body < float("inf"):
        raise InputError(f"{arguments.max_body:g} MiB; more than 0 was expected", item="--max-body")
    limits = WebLimits(
        max_body_bytes=int(arguments.max_body * _MIB),
        max_items=arguments.max_items,
        workers=arguments.workers,
        waiting=arguments.queue,
    )
    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked.set())
    served = edgeml.serve(
        arguments.bundle,
        host=arguments.host,
        port=arguments.port,
        variant=arguments.variant,
        num_threads=arguments.threads,
        limits=limits,
    )
    if not is_loopback(arguments.host):
        sys.stderr.write(f"warning: {served.url} is open to other machines, without a password\n")
    result = {"url": served.url, "served_by": served.served_by}
    text = f"{served.url} serves {served.served_by}; POST /predict; stop with Ctrl-C"
    return Outcome(result=result, show=lambda: show_line(text), wait=lambda: _wait(served, asked))


def _wait(served: ServedBundle, asked: threading.Event) -> None:
    try:
        while not asked.wait(timeout=0.5):
            if not served.alive:
                raise ServerError("the server has ended; look at its log", url=served.url)
    finally:
        served.stop()


VERB = Verb(
    name="serve", help="serve a bundle over HTTP: POST /predict", configure=_configure, run=_run
)
