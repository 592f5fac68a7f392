"""A Triton server of our own: started, watched, and ended by its own process id.

It loads every model that is built and names the others with the reason, so that one bad model does
not take the rest along. It listens on the loopback address; to let others in is a proxy's work, not
an option here.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import subprocess
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from edgeml.errors import HostError, ServerError, ServerTimeoutError
from edgeml.serving.config import CPU_CONFIG_NAME
from edgeml.serving.http import get_json
from edgeml.serving.installation import Installation, find_installation
from edgeml.serving.ports import LOOPBACK, check_ports, free_ports
from edgeml.serving.processes import end_process, processes_naming, wait_until_gone
from edgeml.serving.repository import SkippedModel, has_gpu, select_models
from edgeml.serving.status import ModelStatus, last_log_line, status_of

_LOG = logging.getLogger(__name__)
_STARTS = 3
_STOP_S = 10.0
_DYING_S = 1.0
_CHILDREN_S = 8.0


class TritonServer:
    """A running server. Made by :func:`start_triton`; a context manager that stops it.

    Args:
        process: The server's process.
        ports: HTTP, gRPC and metrics ports.
        log_path: Its log, which is kept.
        skipped: Models that it was not asked to load, with reasons.
        token: Prefix of its shared memory segments.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        *,
        ports: tuple[int, int, int],
        log_path: Path,
        skipped: Sequence[SkippedModel],
        token: str,
    ) -> None:
        self._process = process
        self._ports = ports
        self._skipped = tuple(skipped)
        self._token = token
        self.log_path = log_path
        atexit.register(self.stop)

    @property
    def http(self) -> str:
        """URL of the HTTP endpoint."""
        return f"http://{LOOPBACK}:{self._ports[0]}"

    @property
    def grpc(self) -> str:
        """URL of the gRPC endpoint."""
        return f"grpc://{LOOPBACK}:{self._ports[1]}"

    @property
    def metrics(self) -> str:
        """URL of the metrics."""
        return f"http://{LOOPBACK}:{self._ports[2]}/metrics"

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._process.pid

    def is_running(self) -> bool:
        """Return whether the process is there."""
        return self._process.poll() is None

    def models(self) -> list[ModelStatus]:
        """Return the state of every model of the repository, by name.

        Raises:
            ServerError: The server ended, or answers with an error.
        """
        try:
            return status_of(self.http, skipped=self._skipped)
        except ServerError as exc:
            # A server that has just died may still be there for a moment.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=_DYING_S)
                raise _ended(self) from exc
            raise

    def stop(self) -> None:
        """End the server and what it started; a second call does nothing."""
        atexit.unregister(self.stop)
        end_process(self._process, timeout_s=_STOP_S)
        # The stubs outlive a server that died; the name of their shared memory tells them apart.
        wait_until_gone(processes_naming(self._token), timeout_s=_CHILDREN_S)
        for segment in Path("/dev/shm").glob(f"{self._token}*"):
            segment.unlink(missing_ok=True)

    def last_log_line(self) -> str:
        """Return the last error line of the log, or its last line."""
        return last_log_line(self.log_path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


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
        InputError: The repository is not a folder, or a named model is not in it or not built.
        HostError: There is no Triton, or a port is taken.
        ServerError: The server ended while it started.
        ServerTimeoutError: It was not ready in time.
    """
    root = Path(repository).absolute()
    found = installation or find_installation()
    gpu = found.serves_gpu and has_gpu()
    built, skipped = select_models(root, use_cpu_config=not gpu, wanted=models)
    for model in skipped:
        _LOG.warning("%s is not loaded: %s", model.name, model.reason)
    wanted = (http_port, grpc_port, metrics_port)
    check_ports(wanted)
    for _ in range(_STARTS):
        ports = free_ports(wanted)
        server = _launch(
            found, root, built=built, skipped=skipped, gpu=gpu, ports=ports, log_path=log_path
        )
        try:
            _wait_until_ready(server, timeout_s=timeout_s)
        except BaseException as exc:
            server.stop()
            # A port that was free a moment ago may be taken by now: another one is tried.
            if not isinstance(exc, _PortTakenError):
                raise
            continue
        _log_models(server)
        return server
    raise HostError(
        what=f"one of the ports {ports} was taken while Triton started",
        needed="name ports that nothing else uses, or 0",
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
    token = f"edgeml_{uuid.uuid4().hex[:12]}_"
    command = [str(found.tritonserver), f"--model-repository={root}"]
    if found.backends.is_dir():
        command.append(f"--backend-directory={found.backends}")
    for kind, port in zip(("http", "grpc", "metrics"), ports, strict=True):
        command += [f"--{kind}-address={LOOPBACK}", f"--{kind}-port={port}"]
    command += ["--model-control-mode=explicit", "--exit-on-error=false"]
    command += [f"--load-model={name}" for name in built]
    command.append(f"--backend-config=python,shm-region-prefix-name={token}")
    if not gpu:
        command.append(f"--model-config-name={CPU_CONFIG_NAME}")
    if log_path is None:
        handle, name = tempfile.mkstemp(prefix="edgeml-triton-", suffix=".log")
        os.close(handle)
        log_path = Path(name)
    with log_path.open("wb") as log:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C reaches us alone; we end the server in order.
                start_new_session=True,
            )
        except OSError as exc:
            raise HostError(
                what=f"'{found.tritonserver}' cannot be started ({exc})",
                needed="install Triton again: edgeml triton install",
            ) from exc
    return TritonServer(process, ports=ports, log_path=log_path, skipped=skipped, token=token)


def _wait_until_ready(server: TritonServer, *, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not server.is_running():
            raise _ended(server)
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


def _ended(server: TritonServer) -> ServerError:
    reason = server.last_log_line()
    kind = _PortTakenError if "already in use" in reason.lower() else ServerError
    return kind(
        f"the server ended ({reason}); a running server was expected; see {server.log_path}",
        url=server.grpc,
    )


class _PortTakenError(ServerError):
    """Somebody took a port between our look and the server's."""
