"""A note beside each running server, so that ``triton status`` can say what HTTP does not tell."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeml.serving.host.processes import is_running, mark_of
from edgeml.serving.repository.selecting import SkippedModel


@dataclass(frozen=True, kw_only=True)
class ServerRecord:
    """What its owner knows of a running server.

    Attributes:
        pid: Its process.
        started: When that process started, in the kernel's ticks.
        grpc: URL of the gRPC endpoint.
        metrics: URL of the metrics.
        log: Path of its log.
        skipped: Models that it was not asked to load, with reasons.
        supervision: What its supervision has seen, as JSON values; None where it has none.
    """

    pid: int
    started: str
    grpc: str
    metrics: str
    log: str
    skipped: tuple[SkippedModel, ...]
    supervision: Mapping[str, Any] | None = None


def write_record(
    http_port: int,
    *,
    pid: int,
    grpc: str,
    metrics: str,
    log: Path,
    skipped: Sequence[SkippedModel],
    supervision: Mapping[str, Any] | None = None,
) -> None:
    """Write the record of a server. It is a convenience: where it cannot be written there is none.

    Args:
        http_port: The port by which it is found.
        pid: The server's process.
        grpc: URL of the gRPC endpoint.
        metrics: URL of the metrics.
        log: Its log.
        skipped: Models that it was not asked to load, with reasons.
        supervision: What its supervision has seen, as JSON values.
    """
    mark = mark_of(pid)
    if mark is None:
        return
    record = ServerRecord(
        pid=pid,
        started=mark.started,
        grpc=grpc,
        metrics=metrics,
        log=str(log),
        skipped=tuple(skipped),
        supervision=supervision,
    )
    with contextlib.suppress(OSError):
        folder = _folder()
        folder.mkdir(mode=0o700, exist_ok=True)
        if not _is_ours(folder):
            return
        pending = folder / f".{http_port}.{os.getpid()}"
        pending.write_text(json.dumps(asdict(record)), encoding="utf-8")
        pending.replace(folder / f"{http_port}.json")


def read_record(http_port: int) -> ServerRecord | None:
    """Return the record of the server at this port, if that server is still the running one."""
    folder = _folder()
    try:
        if not _is_ours(folder):
            return None
        values = json.loads((folder / f"{http_port}.json").read_bytes())
        skipped = tuple(SkippedModel(**row) for row in values.pop("skipped"))
        record = ServerRecord(**values, skipped=skipped)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    mark = mark_of(record.pid)
    return record if mark and mark.started == record.started and is_running(mark) else None


def remove_record(http_port: int, *, pid: int) -> None:
    """Remove the record of a server, unless the port has another one's by now."""
    path = _folder() / f"{http_port}.json"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        if json.loads(path.read_bytes())["pid"] == pid:
            path.unlink()


def _folder() -> Path:
    return Path(tempfile.gettempdir()) / f"edgeml-triton-{os.getuid()}"


def _is_ours(folder: Path) -> bool:
    """Return whether nobody else can have written there: the place above is everybody's."""
    found = folder.lstat()
    return found.st_uid == os.getuid() and found.st_mode & 0o170077 == 0o040000
