"""A server's control plane over HTTP with the standard library; inference goes over gRPC."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any, Literal

from edgeml.errors import ServerError, ServerTimeoutError, ServerUnreachableError

# No proxy is asked for a server on this machine, whatever the environment says.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def get_json(url: str, *, method: Literal["GET", "POST"] = "GET", timeout_s: float = 10.0) -> Any:
    """Ask a server for JSON.

    Args:
        url: Full URL.
        method: ``POST`` where the server's protocol wants it; nothing is sent with it.
        timeout_s: Time allowed.

    Returns:
        The parsed answer; None where it is empty.

    Raises:
        ServerUnreachableError: Nobody answers there.
        ServerTimeoutError: The answer came too late.
        ServerError: It answered with an error or with something else than JSON.
    """
    request = urllib.request.Request(url, method=method, data=b"" if method == "POST" else None)
    try:
        with _OPENER.open(request, timeout=timeout_s) as answer:
            body = answer.read()
        return json.loads(body) if body else None
    except urllib.error.HTTPError as exc:
        text = " ".join(exc.read(2000).decode("utf-8", "replace").split())
        raise ServerError(f"the server answered {exc.code}: {text}", url=url) from exc
    except TimeoutError as exc:
        raise ServerTimeoutError(url=url, timeout_s=timeout_s) from exc
    except (urllib.error.URLError, OSError, http.client.HTTPException) as exc:
        if isinstance(getattr(exc, "reason", None), TimeoutError):
            raise ServerTimeoutError(url=url, timeout_s=timeout_s) from exc
        raise ServerUnreachableError(
            f"no server answers ({exc}); a running one was expected; start it: edgeml triton serve",
            url=url,
        ) from exc
    except ValueError as exc:
        raise ServerError(
            f"the answer is not JSON ({exc}); is this a Triton server?", url=url
        ) from exc
