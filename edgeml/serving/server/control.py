"""A server's model control: load with another configuration, and unload."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from edgeml.errors import ServerError, ServerTimeoutError, ServerUnreachableError


def load_model(
    url: str, model: str, *, config: Mapping[str, Any] | None = None, timeout_s: float = 60.0
) -> None:
    """Load a model, or load it again.

    Args:
        url: ``http://host:port``.
        model: Its name.
        config: A whole configuration to use in place of the repository's, as values; Triton refuses
            a part of one.
        timeout_s: Time allowed.

    Raises:
        ServerUnreachableError: Nobody answers there.
        ServerTimeoutError: It took too long.
        ServerError: The server refused, with its reason.
    """
    body: dict[str, Any] = {}
    if config is not None:
        body["parameters"] = {"config": json.dumps(config)}
    _post(url, f"/v2/repository/models/{quote(model, safe='')}/load", body, timeout_s)


def unload_model(url: str, model: str, *, timeout_s: float = 60.0) -> None:
    """Unload a model; see :func:`load_model`."""
    _post(url, f"/v2/repository/models/{quote(model, safe='')}/unload", {}, timeout_s)


def _post(url: str, path: str, body: Mapping[str, Any], timeout_s: float) -> None:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request("POST", path, body=json.dumps(body).encode())
        answer = connection.getresponse()
        text = " ".join(answer.read(4000).decode("utf-8", "replace").split())
    except TimeoutError as exc:
        raise ServerTimeoutError(url=url, timeout_s=timeout_s) from exc
    except (OSError, http.client.HTTPException) as exc:
        raise ServerUnreachableError(
            f"no server answers ({exc}); a running one was expected; start it: edgeml triton serve",
            url=url,
        ) from exc
    finally:
        connection.close()
    if answer.status != 200:
        raise ServerError(f"the server answered {answer.status}: {text}", url=url)
