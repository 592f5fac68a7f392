"""A running Triton server: where it answers, what it serves, and its end."""

from __future__ import annotations

import atexit
import contextlib
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from edgeml.errors import ServerError
from edgeml.serving.guard.proxy import Guard
from edgeml.serving.host.leftovers import remove_segments
from edgeml.serving.host.plain import remove_link
from edgeml.serving.host.ports import LOOPBACK
from edgeml.serving.host.processes import processes_naming, wait_until_gone
from edgeml.serving.repository.selecting import SkippedModel
from edgeml.serving.server.launching import Launch, command_for, launch
from edgeml.serving.server.records import remove_record, write_record
from edgeml.serving.server.server_log import last_log_line
from edgeml.serving.server.status import ModelStatus, status_of
from edgeml.serving.server.stopping import end_server
from edgeml.serving.server.supervising import Supervision, Supervisor

_DYING_S = 1.0
_CHILDREN_S = 2.0


class TritonServer:
    """A running server. Made by ``start_triton``; a context manager that stops it.

    Args:
        plan: How it is started.
        models: Models that it is to load.
        skipped: Models that it was not asked to load, with reasons.
        guard: The proxy before its HTTP port, or None.
    """

    def __init__(
        self,
        plan: Launch,
        *,
        models: Sequence[str],
        skipped: Sequence[SkippedModel],
        guard: Guard | None = None,
    ) -> None:
        self._plan = plan
        self._models = tuple(models)
        self._skipped = tuple(skipped)
        self._guard = guard
        self._token = plan.token
        self._link = plan.link
        self._supervisor: Supervisor | None = None
        self.log_path = plan.log_path
        self._process = launch(command_for(plan, models), log_path=plan.log_path)
        atexit.register(self.stop)

    @property
    def http(self) -> str:
        """URL of the HTTP endpoint: the guard's, where there is one."""
        return f"http://{LOOPBACK}:{self._http_port}"

    @property
    def control(self) -> str:
        """URL of the server's own HTTP endpoint, behind the guard."""
        return f"http://{LOOPBACK}:{self._plan.ports[0]}"

    @property
    def grpc(self) -> str:
        """URL of the gRPC endpoint."""
        return f"grpc://{LOOPBACK}:{self._plan.ports[1]}"

    @property
    def metrics(self) -> str:
        """URL of the metrics."""
        return f"http://{LOOPBACK}:{self._plan.ports[2]}/metrics"

    @property
    def pid(self) -> int:
        """Process id of the server; another one after a restart."""
        return self._process.pid

    @property
    def repository(self) -> Path:
        """The model repository."""
        return self._plan.repository

    @property
    def token(self) -> str:
        """What the names of its shared memory and its stubs' command lines hold."""
        return self._token

    @property
    def supervision(self) -> Supervision | None:
        """What supervision has seen so far; None for a server that is not supervised."""
        return None if self._supervisor is None else self._supervisor.report()

    def is_running(self) -> bool:
        """Return whether the process is there; one that is being started again is not."""
        return self._process.poll() is None

    def failure(self) -> ServerError | None:
        """Return why the server is gone for good, or None while it runs or is started again."""
        if self._supervisor is not None:
            return self._supervisor.failure
        return None if self.is_running() else ServerError(self.describe_end(), url=self.grpc)

    def models(self) -> list[ModelStatus]:
        """Return the state of every model of the repository, by name.

        Raises:
            ServerError: The server ended, is just being started again, or answers with an error.
        """
        try:
            return status_of(self.control, skipped=self._skipped)
        except ServerError as exc:
            if self._supervisor is not None:
                raise self._supervisor.failure or exc from exc
            # A server that has just died may still be there for a moment.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=_DYING_S)
                raise ServerError(self.describe_end(), url=self.grpc) from exc
            raise

    def supervise(self, *, timeout_s: float) -> None:
        """Start to watch the server: it is started again after a crash, and dead models are cured.

        Args:
            timeout_s: Time allowed for each start.
        """
        self._supervisor = Supervisor(self, models=self._models, start_timeout_s=timeout_s)
        self._supervisor.start()

    def relaunch(self, models: Sequence[str]) -> None:
        """Start a server that has ended again: same ports, another process; the log begins anew.

        Called by the thread that supervises, which stays as long as the process.

        Args:
            models: Models to load.

        Raises:
            HostError: The program or the log cannot be used.
        """
        self.end_process(drain_s=0)
        with contextlib.suppress(OSError):
            self.log_path.replace(f"{self.log_path}.1")
        command = command_for(self._plan, models)
        self._process = launch(command, log_path=self.log_path, stays=True)

    def end_process(self, *, drain_s: float | None = None) -> None:
        """End the process and what it started, and remove its shared memory.

        Args:
            drain_s: Time for requests that run; None takes the server's own. What is left of a
                server that died is killed at once, because it may hold the ports.
        """
        dead = not self.is_running()
        given = self._plan.drain_s if drain_s is None else drain_s
        end_server(self._process, log_path=self.log_path, drain_s=given)
        # The stubs outlive a server that died; the name of their shared memory tells them apart.
        wait_until_gone(processes_naming(self._token), timeout_s=0 if dead else _CHILDREN_S)
        remove_segments(self._token)

    def kill(self) -> None:
        """End the process at once; what it started stays until :meth:`end_process`."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End the server and what it started; a second call does nothing."""
        atexit.unregister(self.stop)
        if self._supervisor is not None:
            self._supervisor.halt()
        if self._guard is not None:
            self._guard.drain()
        self.end_process()
        if self._supervisor is not None:
            self._supervisor.release()
        if self._guard is not None:
            self._guard.stop()
        remove_record(self._http_port, pid=self.pid)
        if self._link is not None:
            remove_link(self._link)

    def record(self) -> None:
        """Leave a note for ``triton status``; ``stop`` takes it away."""
        write_record(
            self._http_port,
            pid=self.pid,
            grpc=self.grpc,
            metrics=self.metrics,
            log=self.log_path,
            skipped=self._skipped,
            supervision=None if (seen := self.supervision) is None else seen.to_json(),
        )

    def describe_end(self) -> str:
        """Return how the server ended, in one line with the last error of its log."""
        return (
            f"the server ended {_manner(self._process.poll())}, its log says "
            f"'{last_log_line(self.log_path)}'; a running server was expected; see {self.log_path}"
        )

    @property
    def _http_port(self) -> int:
        return self._plan.ports[0] if self._guard is None else self._guard.port

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _manner(code: int | None) -> str:
    if code is None:
        return "or is about to"
    if code >= 0:
        return f"with exit code {code}"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"
