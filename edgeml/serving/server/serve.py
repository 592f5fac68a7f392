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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeml.errors import EdgemlError, HostError, InputError
from edgeml.serving.guard.checks import GuardLimits
from edgeml.serving.guard.proxy import Guard
from edgeml.serving.host.leftovers import new_token, remove_segments, sweep
from edgeml.serving.host.plain import check_plain, is_plain, make_link, remove_link
from edgeml.serving.host.ports import check_ports, free_ports
from edgeml.serving.host.processes import processes_naming, wait_until_gone
from edgeml.serving.installation.finding import Installation
from edgeml.serving.repository.selecting import (
    SkippedModel,
    has_gpu,
    rate_limited,
    select_models,
)
from edgeml.serving.server.choosing import choose_installation, container_command, with_container
from edgeml.serving.server.launching import Launch
from edgeml.serving.server.prechecks import (
    check_gpu_there,
    check_on_gpu,
    check_shared_memory,
    check_stub_numpy,
)
from edgeml.serving.server.running import TritonServer
from edgeml.serving.server.starting import PortTakenError, log_models, wait_until_ready

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
    drain_s: float = 10.0,
    supervised: bool = False,
    guard: GuardLimits | None = None,
    require_gpu: bool = False,
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
        drain_s: Time that running requests are given once it is asked to stop.
        supervised: Whether it is started again after a crash, and dead models are loaded again.
        guard: What a proxy before the HTTP port refuses; None has no such proxy.
        require_gpu: Whether to refuse a start in which a model falls back to the CPU.
        installation: The server to start; otherwise the one that is found.
        log_path: Where its log goes; otherwise a new temporary file, which is kept.

    Returns:
        The running server; models that it could not load stand in ``models()`` with the reason.

    Raises:
        InputError: A port or a time is out of range, the repository is not a folder, or a named
            model is not in it or not built.
        HostError: There is no Triton, a port is taken, shared memory is full, the stubs have NumPy
            2, or a GPU was required and a model is not on it.
        ServerError: The server ended while it started, or a stub died without its noticing.
        ServerTimeoutError: It was not ready in time.
    """
    for name, value in (("timeout_s", timeout_s), ("drain_s", drain_s)):
        if not 0 < value < math.inf:
            raise InputError(f"{name} is {value:g}; a positive, finite time was expected")
    wanted = (http_port, grpc_port, metrics_port)
    check_ports(wanted)
    root = Path(repository).absolute()
    found = installation or _find(root, models=models, ports=wanted)
    check_plain(found.backends, what="Triton's backend directory")
    check_stub_numpy(found)
    gpu = found.serves_gpu and has_gpu()
    if require_gpu:
        check_gpu_there(found, gpu=gpu)
    built, skipped = select_models(root, use_cpu_config=not gpu, wanted=models)
    for model in skipped:
        _LOG.warning("%s is not loaded: %s", model.name, model.reason)
    sweep()
    check_shared_memory(found, root, built)
    order = _Order(
        found=found,
        root=root,
        gpu=gpu,
        wanted=wanted,
        drain_s=drain_s,
        guard=guard,
        log_path=log_path,
        built=tuple(built),
        skipped=tuple(skipped),
    )
    for _ in range(_STARTS):
        server = _launch(order)
        try:
            wait_until_ready(server, timeout_s=timeout_s)
            log_models(server)
            if require_gpu:
                check_on_gpu(root, server.models())
            if supervised:
                server.supervise(timeout_s=timeout_s)
            server.record()
        except BaseException as exc:
            server.stop()
            # A port that was free a moment ago may be taken by now: another one is tried.
            if not isinstance(exc, PortTakenError):
                _name_log(exc, server.log_path)
                raise
            continue
        return server
    raise HostError(
        what="one of the ports was taken while Triton started",
        needed=f"name ports that nothing else uses, or 0; see {server.log_path}",
    )


@dataclass(frozen=True, kw_only=True)
class _Order:
    """What was asked for, and what was found out about it."""

    found: Installation
    root: Path
    gpu: bool
    wanted: tuple[int, int, int]
    drain_s: float
    guard: GuardLimits | None
    log_path: Path | None
    built: tuple[str, ...]
    skipped: tuple[SkippedModel, ...]


def _find(root: Path, *, models: Sequence[str] | None, ports: tuple[int, int, int]) -> Installation:
    """Return the server to start, or say how a container would serve the same."""
    try:
        return choose_installation()
    except HostError as exc:
        gpu = has_gpu()
        built, _ = select_models(root, use_cpu_config=not gpu, wanted=models)
        command = container_command(root, models=built, ports=ports, gpu=gpu)
        raise with_container(exc, command) from exc


def _launch(order: _Order) -> TritonServer:
    token = new_token()
    log_path = order.log_path
    if log_path is None:
        handle, name = tempfile.mkstemp(prefix="edgeml-triton-", suffix=".log")
        os.close(handle)
        log_path = Path(name)
    link = None if is_plain(order.root) else make_link(order.root, prefix=token)
    guard: Guard | None = None
    try:
        public, *others = order.wanted
        ports = free_ports((0 if order.guard else public, others[0], others[1]))
        if order.guard is not None:
            guard = Guard(port=public, server_port=ports[0], limits=order.guard)
        plan = Launch(
            found=order.found,
            repository=order.root,
            root=link or order.root,
            gpu=order.gpu,
            ports=ports,
            token=token,
            log_path=log_path,
            drain_s=order.drain_s,
            rate_limited=rate_limited(order.root, order.built, use_cpu_config=not order.gpu),
            inference_only=order.guard is not None and not order.guard.allow_control,
        )
        return TritonServer(plan, models=order.built, skipped=order.skipped, guard=guard)
    except BaseException as exc:
        # A signal may arrive between the start of the process and our knowing of it.
        wait_until_gone(processes_naming(token), timeout_s=0)
        remove_segments(token)
        if guard is not None:
            guard.stop()
        if link is not None:
            remove_link(link)
        _name_log(exc, log_path)
        raise


def _name_log(error: BaseException, log_path: Path) -> None:
    """Add the log's path to an error of ours that does not name it yet."""
    if isinstance(error, EdgemlError) and str(log_path) not in str(error):
        error.add_note(f"see {log_path}")
