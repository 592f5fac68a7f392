"""``edgeml.serve``: a bundle behind a small HTTP app."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import edgeml
from edgeml.core.bundle import Bundle
from edgeml.core.predictor import Predictor
from edgeml.errors import BundleError
from edgeml.workflows.loading import load, task_of

if TYPE_CHECKING:
    from edgeml.serving.web.limits import WebLimits
    from edgeml.serving.web.running import WebServer


class ServedBundle:
    """A bundle that is being served; a context manager that stops it.

    Attributes:
        url: Where it is.
    """

    def __init__(self, server: WebServer, predictor: Predictor) -> None:
        self._server = server
        self._predictor = predictor
        self.url = server.url

    @property
    def served_by(self) -> str:
        """Engine, device, precision and version that answer."""
        return self._predictor.served_by

    @property
    def alive(self) -> bool:
        """Whether it still serves."""
        return self._server.alive

    def stop(self) -> None:
        """Let running requests finish, then end; a second call does nothing."""
        self._server.stop()
        self._predictor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def serve(
    bundle: str | Path | Bundle,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    variant: str | None = None,
    num_threads: int | None = None,
    limits: WebLimits | None = None,
) -> ServedBundle:
    """Serve a bundle over HTTP from this process, and return at once.

    ``POST /predict`` takes a picture's file, plain text, an ``.npz`` archive or JSON, as the task
    has it; ``GET /`` says what is served.

    Args:
        bundle: The bundle's folder.
        host: Address to listen on; others than loopback let strangers in, and there is no password.
        port: 0 picks a free one.
        variant: As for :func:`edgeml.load`, like ``num_threads``: threads of one computation.
        num_threads: None takes what affinity and cgroup quota allow.
        limits: Sizes, requests at once, and how many may wait.

    Returns:
        What is running; stop it, or use it as a context manager.

    Raises:
        BundleError: This is no readable bundle, or of a task that is not served.
        InputError: An argument is wrong.
        HostError: The address cannot be listened on.
        MissingExtraError: The extra [serve] is not installed.
    """
    from edgeml.serving.web.answering import Answerer
    from edgeml.serving.web.app import build_app
    from edgeml.serving.web.forms import FORMS
    from edgeml.serving.web.limits import WebLimits
    from edgeml.serving.web.running import WebServer

    bounds = limits or WebLimits()
    opened = bundle if isinstance(bundle, Bundle) else Bundle.read(bundle)
    if opened.manifest.task not in FORMS:
        reason = f"its task is '{opened.manifest.task}'; {', '.join(FORMS)} are served over HTTP"
        raise BundleError(path=str(opened.path), reason=reason)
    predictor = load(opened, variant=variant, num_threads=num_threads)
    try:
        answerer = Answerer(
            predictor=predictor,
            task=task_of(opened),
            form=FORMS[opened.manifest.task],
            max_items=bounds.max_items,
        )
        app = build_app(answerer, about=_about(opened, predictor), limits=bounds)
        server = WebServer(app, host=host, port=port, drain_s=bounds.drain_s)
    except BaseException:
        predictor.close()
        raise
    return ServedBundle(server, predictor)


def _about(bundle: Bundle, predictor: Predictor) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "name": manifest.name,
        "version": manifest.version,
        "task": manifest.task,
        "labels": list(manifest.labels),
        "signature": manifest.signature.to_json(),
        "served_by": predictor.served_by,
        "edgeml": edgeml.__version__,
    }
