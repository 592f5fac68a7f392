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
from edgeml.serving.leftovers import remove_segments
from edgeml.serving.plain import remove_link
from edgeml.serving.ports import LOOPBACK
from edgeml.serving.processes import end_process, processes_naming, wait_until_gone
from edgeml.serving.records import remove_record, write_record
from edgeml.serving.repository import SkippedModel
from edgeml.serving.server_log import last_log_line
from edgeml.serving.status import ModelStatus, status_of

_STOP_S = 10.0
_DYING_S = 1.0
_CHILDREN_S = 8.0


class TritonServer:
    """A running server. Made by ``start_triton``; a context manager that stops it.

    Args:
        process: The server's process.
        ports: HTTP, gRPC and metrics ports.
        log_path: Its log, which is kept.
        skipped: Models that it was not asked to load, with reasons.
        token: Prefix of its shared memory segments.
        link: Link to the repository that was made for it, or None.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        *,
        ports: tuple[int, int, int],
        log_path: Path,
        skipped: Sequence[SkippedModel],
        token: str,
        link: Path | None = None,
    ) -> None:
        self._process = process
        self._ports = ports
        self._skipped = tuple(skipped)
        self._token = token
        self._link = link
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
                raise ServerError(self.describe_end(), url=self.grpc) from exc
            raise

    def stop(self) -> None:
        """End the server and what it started; a second call does nothing."""
        atexit.unregister(self.stop)
        end_process(self._process, timeout_s=_STOP_S)
        # The stubs outlive a server that died; the name of their shared memory tells them apart.
        wait_until_gone(processes_naming(self._token), timeout_s=_CHILDREN_S)
        remove_segments(self._token)
        remove_record(self._ports[0], pid=self.pid)
        if self._link is not None:
            remove_link(self._link)

    def record(self) -> None:
        """Leave a note for ``triton status``; ``stop`` takes it away."""
        write_record(
            self._ports[0],
            pid=self.pid,
            grpc=self.grpc,
            metrics=self.metrics,
            log=self.log_path,
            skipped=self._skipped,
        )

    def describe_end(self) -> str:
        """Return how the server ended, in one line with the last error of its log."""
        return (
            f"the server ended {_manner(self._process.poll())}, its log says "
            f"'{last_log_line(self.log_path)}'; a running server was expected; see {self.log_path}"
        )

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
