"""The servers of a profile: started with the threads of every other row, and stopped at the end."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeml.core.bundle import Bundle
from edgeml.errors import HostError
from edgeml.workflows.profiling.deployments import Deployment

_START_S = 60.0
_STOP_S = 15.0
# More than any run has under way: what is measured is the model's queue, and no refusal of ours.
_QUEUE = 4096


@dataclass(frozen=True, kw_only=True)
class Running:
    """A server that answers.

    Attributes:
        urls: Scheme to address.
        model: Name of the model on it; empty for an app.
        pid: Its process; None for one of the user's.
        threads: Threads that it computes with; None for one of the user's, which we cannot know.
        start_s: From the command to ready, in seconds; None for one of the user's.
    """

    urls: dict[str, str]
    model: str = ""
    pid: int | None = None
    threads: int | None = None
    start_s: float | None = None


@contextlib.contextmanager
def running_servers(
    bundle: Bundle, deployments: Sequence[Deployment], *, num_threads: int
) -> Iterator[dict[str, Running]]:
    """Start what the deployments need, and yield each one's server by the deployment's name.

    Raises:
        HostError: A server does not start.
        MissingExtraError: The extra of a server is not installed.
    """
    with contextlib.ExitStack() as stack:
        found: dict[str, Running] = {}
        started: dict[str, Running] = {}
        for row in deployments:
            server = row.kind.server
            if not server:
                continue
            if row.url is not None:
                scheme = row.url.partition(":")[0]
                model = row.model or bundle.manifest.name
                found[row.name] = Running(urls={scheme: row.url}, model=model)
                continue
            if server not in started:
                start = _http if server == "http" else _triton
                started[server] = stack.enter_context(start(bundle, num_threads))
            found[row.name] = started[server]
        yield found


@contextlib.contextmanager
def _triton(bundle: Bundle, num_threads: int) -> Iterator[Running]:
    from edgeml.serving.repository.options import ServingOptions
    from edgeml.workflows.publishing import publish
    from edgeml.workflows.serving import serve_triton

    with tempfile.TemporaryDirectory(prefix="edgeml-profile-") as folder:
        options = ServingOptions(num_threads=num_threads, instances=1)
        publish(bundle, repository=folder, options=options)
        begun = time.perf_counter()
        with serve_triton(
            folder, models=[bundle.manifest.name], supervised=False, timeout_s=_START_S
        ) as server:
            yield Running(
                urls={"http": server.http, "grpc": server.grpc},
                model=bundle.manifest.name,
                pid=server.pid,
                threads=num_threads,
                start_s=time.perf_counter() - begun,
            )


@contextlib.contextmanager
def _http(bundle: Bundle, num_threads: int) -> Iterator[Running]:
    import edgeml.serving.web  # a missing extra is said here, and not by a process that ends

    del edgeml
    begun = time.perf_counter()
    command = [sys.executable, "-m", "edgeml", "serve", str(bundle.path), "--port", "0", "--json"]
    command += ["--threads", str(num_threads), "--workers", "1", "--queue", str(_QUEUE)]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                process.wait(timeout=_STOP_S)
                errors.seek(0)
                said = (errors.read().strip().splitlines() or ["it said nothing"])[-1]
                raise HostError(what=f"edgeml serve ended ({said})", needed="run it by itself")
            url = json.loads(line)["url"]
            yield Running(
                urls={"http": url},
                pid=process.pid,
                threads=num_threads,
                start_s=time.perf_counter() - begun,
            )
        finally:
            process.terminate()
            try:
                process.wait(timeout=_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def memory_mb(pid: int) -> float | None:
    """Return the memory of a process and its children, in megabytes; shared pages count once.

    None where the kernel does not say.
    """
    try:
        sizes = [_proportional_kib(member) for member in _family(pid)]
    except (OSError, ValueError):
        return None
    return sum(sizes) * 1024 / 1e6


def _proportional_kib(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))


def _family(pid: int) -> list[int]:
    """Return a process and all below it."""
    below: dict[int, list[int]] = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = place.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        below.setdefault(int(fields[1]), []).append(int(place.parent.name))
    found, ahead = [], [pid]
    while ahead:
        found.append(ahead.pop())
        ahead += below.get(found[-1], [])
    return found
