"""Wait until a server that was started has tried every model, and say what became of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgeml.errors import ServerError, ServerTimeoutError
from edgeml.serving.server.http import get_json
from edgeml.serving.server.server_log import fatal_line, says_port_taken

if TYPE_CHECKING:
    from edgeml.serving.server.running import TritonServer

_LOG = logging.getLogger(__name__)
_LOOK_S = 0.05


class PortTakenError(ServerError):
    """Somebody took a port between our look and the server's."""


def wait_until_ready(
    server: TritonServer, *, timeout_s: float, cancelled: Callable[[], bool] = lambda: False
) -> None:
    """Wait until a server answers and no model is being loaded.

    Args:
        server: The server.
        timeout_s: Time allowed.
        cancelled: Asked again and again; once it says so, the waiting ends.

    Raises:
        PortTakenError: The server ended because one of its ports is taken.
        ServerError: It ended, or a stub died without its noticing.
        ServerTimeoutError: It was not ready in time.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and not cancelled():
        if not server.is_running():
            kind = PortTakenError if says_port_taken(server.log_path) else ServerError
            raise kind(server.describe_end(), url=server.grpc)
        if fatal := fatal_line(server.log_path):
            raise ServerError(
                f"a program that Triton started for a model died ({fatal}); one that stays was "
                f"expected; see {server.log_path}",
                url=server.grpc,
            )
        try:
            get_json(f"{server.control}/v2", timeout_s=1.0)
            rows = get_json(f"{server.control}/v2/repository/index", method="POST", timeout_s=5.0)
        except ServerError:
            time.sleep(_LOOK_S)
            continue
        if all(row.get("state") not in ("LOADING", "UNLOADING") for row in rows):
            return
        time.sleep(_LOOK_S)
    if not cancelled():
        raise ServerTimeoutError(url=server.grpc, timeout_s=timeout_s)


def log_models(server: TritonServer) -> None:
    """Log one line a model: which file it took on which device, or why it is not served."""
    for row in server.models():
        if row.state == "ready":
            device = f"{row.device} ({row.kind})" if row.device else "its models' devices"
            _LOG.info("%s version %s: %s on %s", row.name, row.version, row.artefact, device)
        elif row.state != "skipped":
            _LOG.warning("%s is not loaded: %s", row.name, row.reason)
