"""Start a Triton server of our own.

It loads every model that is built and names the others with the reason, so that one bad model does
not take the rest along. It listens on the loopback address; to let others in is a proxy's work, not
an option here.
"""

from __future__ import annotations

import logging
import math
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from edgeml.errors import EdgemlError, HostError, InputError, ServerError, ServerTimeoutError
from edgeml.serving.http import get_json
from edgeml.serving.installation import Installation, find_installation
from edgeml.serving.launching import command_for, launch
from edgeml.serving.leftovers import new_token, remove_segments, sweep
from edgeml.serving.plain import check_plain, is_plain, make_link, remove_link
from edgeml.serving.ports import check_ports, free_ports
from edgeml.serving.processes import processes_naming, wait_until_gone
from edgeml.serving.repository import SkippedModel, has_gpu, select_models
from edgeml.serving.running import TritonServer
from edgeml.serving.server_log import fatal_line, says_port_taken

__all__ = ["TritonServer", "start_triton"]

_LOG = logging.getLogger(__name__)
_STARTS = 3


def start_triton(
    repository: str | Path,
    *,
    http_port: int = 0,
    grpc_port: int = 0,
    metrics_port: int = 0,
    models: Sequence[str] | None = None,
    timeout_s: float = 60.0,
    installation: Installation | None = None,
    log_path: Path | None = None,
) -> TritonServer:
    """Start a server on a model repository and wait until it has tried every model.

    It ends with this process, also when that is killed, if the main thread starts it.

    Args:
        repository: The model repository.
        http_port: Port for HTTP; 0 picks a free one, as for the next two.
        grpc_port: Port for gRPC.
        metrics_port: Port for metrics.
        models: Models to load; otherwise every one that is built.
        timeout_s: Time allowed until it is ready.
        installation: The server to start; otherwise the one that is found.
        log_path: Where its log goes; otherwise a new temporary file, which is kept.

    Returns:
        The running server; models that it could not load stand in ``models()`` with the reason.

    Raises:
        InputError: A port or the time is out of range, the repository is not a folder, or a named
            model is not in it or not built.
        HostError: There is no Triton, or a port is taken.
        ServerError: The server ended while it started, or a stub died without its noticing.
        ServerTimeoutError: It was not ready in time.
    """
    if not 0 < timeout_s < math.inf:
        raise InputError(f"timeout_s is {timeout_s:g}; a positive, finite time was expected")
    wanted = (http_port, grpc_port, metrics_port)
    check_ports(wanted)
    root = Path(repository).absolute()
    found = installation or find_installation()
    check_plain(found.backends, what="Triton's backend directory")
    gpu = found.serves_gpu and has_gpu()
    built, skipped = select_models(root, use_cpu_config=not gpu, wanted=models)
    for model in skipped:
        _LOG.warning("%s is not loaded: %s", model.name, model.reason)
    sweep()
    for _ in range(_STARTS):
        server = _launch(
            found,
            root,
            built=built,
            skipped=skipped,
            gpu=gpu,
            ports=free_ports(wanted),
            log_path=log_path,
        )
        try:
            _wait_until_ready(server, timeout_s=timeout_s)
            _log_models(server)
            server.record()
        except BaseException as exc:
            server.stop()
            # A port that was free a moment ago may be taken by now: another one is tried.
            if not isinstance(exc, _PortTakenError):
                _name_log(exc, server.log_path)
                raise
            continue
        return server
    raise HostError(
        what="one of the ports was taken while Triton started",
        needed=f"name ports that nothing else uses, or 0; see {server.log_path}",
    )


def _launch(
    found: Installation,
    root: Path,
    *,
    built: Sequence[str],
    skipped: Sequence[SkippedModel],
    gpu: bool,
    ports: tuple[int, int, int],
    log_path: Path | None,
) -> TritonServer:
    token = new_token()
    if log_path is None:
        handle, name = tempfile.mkstemp(prefix="edgeml-triton-", suffix=".log")
        os.close(handle)
        log_path = Path(name)
    link = None if is_plain(root) else make_link(root, prefix=token)
    try:
        command = command_for(found, link or root, models=built, gpu=gpu, ports=ports, token=token)
        process = launch(command, log_path=log_path)
        return TritonServer(
            process, ports=ports, log_path=log_path, skipped=skipped, token=token, link=link
        )
    except BaseException as exc:
        # A signal may arrive between the start of the process and our knowing of it.
        wait_until_gone(processes_naming(token), timeout_s=0)
        remove_segments(token)
        if link is not None:
            remove_link(link)
        _name_log(exc, log_path)
        raise


def _name_log(error: BaseException, log_path: Path) -> None:
    """Add the log's path to an error of ours that does not name it yet."""
    if isinstance(error, EdgemlError) and str(log_path) not in str(error):
        error.add_note(f"see {log_path}")


def _wait_until_ready(server: TritonServer, *, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not server.is_running():
            kind = _PortTakenError if says_port_taken(server.log_path) else ServerError
            raise kind(server.describe_end(), url=server.grpc)
        if fatal := fatal_line(server.log_path):
            raise ServerError(
                f"a program that Triton started for a model died ({fatal}); one that stays was "
                f"expected; see {server.log_path}",
                url=server.grpc,
            )
        try:
            get_json(f"{server.http}/v2", timeout_s=1.0)
            rows = get_json(f"{server.http}/v2/repository/index", method="POST", timeout_s=5.0)
        except ServerError:
            time.sleep(0.05)
            continue
        if all(row.get("state") not in ("LOADING", "UNLOADING") for row in rows):
            return
        time.sleep(0.05)
    raise ServerTimeoutError(url=server.grpc, timeout_s=timeout_s)


def _log_models(server: TritonServer) -> None:
    for row in server.models():
        if row.state == "ready":
            _LOG.info("%s/%s: %s on %s", row.name, row.version, row.artefact, row.device)
        elif row.state != "skipped":
            _LOG.warning("%s is not loaded: %s", row.name, row.reason)


class _PortTakenError(ServerError):
    """Somebody took a port between our look and the server's."""
