"""The app: ``POST /predict``, what it serves at ``/``, and two probes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from edgeml.errors import EdgemlError
from edgeml.serving.web.answering import Answered, Answerer
from edgeml.serving.web.limits import WebLimits
from edgeml.serving.web.pool import InferencePool
from edgeml.serving.web.refusals import (
    BAD_REQUEST,
    FAILED,
    TIMED_OUT,
    TOO_LARGE,
    UNAVAILABLE,
    RefusedError,
    line_of,
    status_of,
)
from edgeml.serving.web.wishes import read_wishes

# A sender that is cut off while it sends sees a broken connection and no answer: a body that is
# somewhat too large is read to its end first.
_DRAINED_BYTES = 64 << 20


def build_app(
    answerer: Answerer, *, about: Mapping[str, Any], limits: WebLimits | None = None
) -> FastAPI:
    """Build the app of one bundle.

    Args:
        answerer: What answers.
        about: What ``/`` shows, as JSON values.
        limits: What it takes at most.
    """
    bounds = limits or WebLimits()
    pool = InferencePool(workers=bounds.workers, waiting=bounds.waiting)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.ready = True
        yield
        app.state.ready = False
        await asyncio.to_thread(pool.close)

    # FastAPI's own pages of documentation load scripts from elsewhere: there are none here.
    app = FastAPI(title="edgeml", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.ready = False
    _add_errors(app)

    @app.post("/predict", openapi_extra=_request_schema(answerer))
    async def predict(request: Request) -> Response:
        """Answer one item, or a batch."""
        arrived_s = time.monotonic()
        wishes = read_wishes(request.headers)
        pool.check_place(wishes)
        body = await _read(request, bounds)
        kind = request.headers.get("content-type", "")
        answered, waited_s = await pool.run(
            lambda: answerer.answer(body, kind), arrived_s=arrived_s, wishes=wishes
        )
        return _response(answered, waited_s)

    @app.get("/")
    async def served() -> Response:
        """Say what is served."""
        return JSONResponse(dict(about))

    @app.get("/healthz")
    async def healthz() -> Response:
        """Say that the process is alive."""
        return JSONResponse({"ok": True})

    @app.get("/readyz")
    async def readyz() -> Response:
        """Say whether a request would be answered now."""
        if app.state.ready:
            try:
                pool.check_place()
            except RefusedError as exc:
                return _refusal(str(exc), UNAVAILABLE)
            return JSONResponse({"ok": True})
        return _refusal("the model is not ready", UNAVAILABLE)

    return app


async def _read(request: Request, bounds: WebLimits) -> bytes:
    """Return the body, or refuse it by its size or its slowness.

    Raises:
        RefusedError: It is too large, its length is no number, or it did not arrive in time.
    """
    limit = bounds.max_body_bytes
    try:
        size = int(request.headers.get("content-length", "0"))
    except ValueError as exc:
        raise RefusedError("the content length is no number", status=BAD_REQUEST) from exc
    chunks: list[bytes] = []
    try:
        async with asyncio.timeout(bounds.read_s):
            if size <= limit + _DRAINED_BYTES:
                size = 0
                async for chunk in request.stream():
                    size += len(chunk)
                    if size <= limit:
                        chunks.append(chunk)
                    elif size > limit + _DRAINED_BYTES:
                        break
    except TimeoutError as exc:
        text = f"the body did not arrive within {bounds.read_s:g} s; send it faster"
        raise RefusedError(text, status=TIMED_OUT) from exc
    if size > limit:
        raise RefusedError(
            f"the body has {size} bytes or more; at most {limit} were expected; send less, or "
            "start the server with a larger --max-body",
            status=TOO_LARGE,
        )
    return b"".join(chunks)


def _response(answered: Answered, waited_s: float) -> Response:
    stages = {"queue": 1e3 * waited_s, **answered.stages_ms}
    timing = ", ".join(f"{name};dur={value:.4f}" for name, value in stages.items())
    return JSONResponse(answered.value, headers={"Server-Timing": timing})


def _refusal(text: str, status: int) -> Response:
    headers = {"Retry-After": "1"} if status == UNAVAILABLE else {}
    return JSONResponse({"error": text}, status_code=status, headers=headers)


def _add_errors(app: FastAPI) -> None:
    """Give every error the same form: one line under one key."""

    async def ours(_: Request, exc: Exception) -> Response:
        assert isinstance(exc, EdgemlError)
        return _refusal(line_of(exc), status_of(exc))

    async def routing(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, HTTPException)
        path = request.url.path[:80]
        text = f"{request.method} {path}: {exc.detail}; POST /predict, GET /, /healthz or /readyz"
        response = _refusal(f"{text} was expected", exc.status_code)
        response.headers.update(exc.headers or {})
        return response

    async def unforeseen(_: Request, exc: Exception) -> Response:
        return _refusal(f"internal: {type(exc).__name__}; see the server's log", FAILED)

    app.add_exception_handler(EdgemlError, ours)
    app.add_exception_handler(HTTPException, routing)
    app.add_exception_handler(Exception, unforeseen)


def _request_schema(answerer: Answerer) -> dict[str, Any]:
    """Return what OpenAPI says of a request's body, which FastAPI cannot see."""
    form = answerer.form
    item = {"type": "object", "required": [form.key], "properties": {form.key: {}}}
    batch = {"type": "object", "properties": {"items": {"type": "array", "items": item}}}
    content: dict[str, Any] = {"application/json": {"schema": {"oneOf": [item, batch]}}}
    for kind in form.kinds:
        name = f"{kind}*" if kind.endswith("/") else kind
        content[name] = {"schema": {"type": "string", "format": "binary"}}
    return {"requestBody": {"required": True, "content": content}}
