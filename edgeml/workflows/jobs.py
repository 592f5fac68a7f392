"""Jobs of a search, each in a process of its own, with what they found kept for the next time.

A result is found again by the hash of everything that it depends on: model, data, settings, this
machine and the libraries, edgeml's own code included.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edgeml
from edgeml.core.files import sha256_of, write_json
from edgeml.runtime.host import detect_host

_COMMAND = (sys.executable, "-m", "edgeml.workflows.trial_worker")
_LIBRARIES = ("onnxruntime", "onnx", "numpy", "openvino", "tokenizers")
_CODE = ("core", "exporting", "runtime", "tasks", "workflows")
_KEPT_SEARCHES = 24
_LAST_WORDS = 300
# How the reason of a job that was killed for its time begins.
HANGS = "hangs"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a job ended.

    Attributes:
        value: What it found; None where it ended without a result.
        reason: Why there is none.
        cached: Whether it had been done before.
        seconds: How long it took.
    """

    value: dict[str, Any] | None
    reason: str = ""
    cached: bool = False
    seconds: float = 0.0


class JobRunner:
    """Runs jobs in child processes, and finds results of earlier ones.

    Args:
        work: The search's work folder.
        results: Where results are kept.
        command: The child's command line; the job's file follows.
    """

    def __init__(self, work: Path, results: Path, *, command: Sequence[str] = _COMMAND) -> None:
        self.work = work
        self.results = results
        self.command = tuple(command)

    def place(self, key: str) -> Path:
        """Return the folder of a result."""
        return self.results / key

    def run(
        self,
        key: str,
        job: Mapping[str, Any],
        *,
        output: str,
        timeout_s: float,
        seed_files: Mapping[str, Path] | None = None,
    ) -> Outcome:
        """Do a job, or find what it gave before.

        Args:
            key: Name of its result.
            job: What to do, as JSON values.
            output: File that holds what it found.
            timeout_s: After so long it is killed.
            seed_files: Files that lie in its folder from the start.
        """
        place = self.place(key)
        if (place / output).is_file():
            return Outcome(value=_read(place / output), cached=True)
        beside = self.results / f"unfinished-{key}-{os.getpid()}"
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        for name, path in (seed_files or {}).items():
            _link(path, beside / name)
        write_json(beside / "job.json", {**job, "work": str(self.work), "result": str(beside)})
        start = time.monotonic()
        reason = run_child([*self.command, str(beside / "job.json")], timeout_s=timeout_s)
        seconds = time.monotonic() - start
        if not reason and not (beside / output).is_file():
            reason = "its process ended without a result"
        if reason:
            shutil.rmtree(beside, ignore_errors=True)
            return Outcome(value=None, reason=reason, seconds=seconds)
        shutil.rmtree(place, ignore_errors=True)
        beside.replace(place)
        return Outcome(value=_read(place / output), seconds=seconds)


def run_child(command: Sequence[str], *, timeout_s: float) -> str:
    """Run a process and return why it failed, in one line; empty where it did not.

    It is a group of its own, so that what it started ends with it.
    """
    environment = {**os.environ, "PYTHONPATH": _python_path()}
    with tempfile.TemporaryFile() as noise:
        child = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=noise,
            stderr=noise,
            env=environment,
            start_new_session=True,
        )
        try:
            status = child.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            _end(child)
            return f"{HANGS}: it did not end within {timeout_s:.0f} s and was killed"
        except BaseException:
            _end(child)
            raise
        if status == 0:
            return ""
        noise.seek(0)
        lines = noise.read().decode(errors="replace").strip().splitlines()
    if status < 0:
        name = signal.Signals(-status).name
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return f"crashes: its process was ended by {name}{hint}"
    return f"its process failed ({lines[-1][:_LAST_WORDS] if lines else f'exit code {status}'})"


def key_of(*parts: Any) -> str:
    """Return a name for what depends on these JSON values alone."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def hash_of_files(paths: Iterable[Path]) -> str:
    """Return one hash of several files' contents."""
    return key_of([sha256_of(path) for path in sorted(paths)])


def conditions() -> dict[str, Any]:
    """Return what every result depends on beside model, data and settings."""
    versions = {}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    root = Path(edgeml.__file__).parent
    code = [path for part in _CODE for path in (root / part).glob("*.py")]
    return {"host": detect_host().to_json(), "versions": versions, "code": hash_of_files(code)}


def results_folder(key: str) -> Path:
    """Return where a search's results are kept, and forget the oldest of many searches."""
    root = _cache()
    place = root / key
    place.mkdir(parents=True, exist_ok=True)
    os.utime(place)
    others = sorted(root.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in others[_KEPT_SEARCHES:]:
        shutil.rmtree(old, ignore_errors=True)
    return place


def _cache() -> Path:
    """Return ``$EDGEML_SEARCH_CACHE``, or a folder in the user's cache."""
    named = os.environ.get("EDGEML_SEARCH_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    root = Path(named) if named else base / "edgeml" / "search"
    return root.expanduser().absolute()


def _read(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # another file system
        shutil.copyfile(source, target)


def _end(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _python_path() -> str:
    """Return the path on which the child finds the edgeml that runs here."""
    root = str(Path(edgeml.__file__).parent.parent)
    return os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
