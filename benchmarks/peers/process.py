"""A worker as the parent sees it: ask, wait so long and no longer, and say why it failed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

# One thread for everybody, whatever the library; and nothing is asked of, or told to, a hub.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
_QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "NNCF_CI": "1",
    "PYTHONUNBUFFERED": "1",
}
_PATHS = re.compile(r"(?<![\w.])/(?:[^\s/'\"]+/)+")
_ADDRESSES = re.compile(r"\bhttps?://\S+")


class PeerError(Exception):
    """A peer has no figures, and this is why: one line, without paths of the machine."""

    def __init__(self, reason: str) -> None:
        words = " ".join(_PATHS.sub("", _ADDRESSES.sub("an address", reason)).split())
        super().__init__(words[:300])


class WorkerProcess:
    """A running worker.

    Args:
        command: What starts it.
        log: Where its stderr goes.
        extra_env: Set beside the one-thread variables.
    """

    def __init__(
        self, command: Sequence[str], *, log: Path, extra_env: Mapping[str, str] | None = None
    ) -> None:
        env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        self._log = log
        with log.open("w", encoding="utf-8") as chatter:
            try:
                self._process = subprocess.Popen(
                    [*command],
                    cwd=ROOT,
                    env={**env, **ONE_THREAD, **_QUIET, **(extra_env or {})},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=chatter,
                    text=True,
                    encoding="utf-8",
                    start_new_session=True,
                )
            except OSError as exc:
                raise PeerError(f"the worker cannot be started ({exc.strerror})") from exc

    def ask(self, op: str, *, timeout_s: float, **request: Any) -> dict[str, Any]:
        """Send a request and return its answer.

        Args:
            op: What to do.
            timeout_s: After so long the worker is ended.
            request: The rest of the message.

        Raises:
            PeerError: The worker answered with an error, with nonsense, not in time, or died.
        """
        late = threading.Event()

        def end() -> None:
            late.set()
            self._kill()

        timer = threading.Timer(timeout_s, end)
        timer.daemon = True
        timer.start()
        line = ""
        try:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            with contextlib.suppress(OSError, ValueError):  # a dead worker: the answer is missing
                self._process.stdin.write(json.dumps({"op": op, **request}) + "\n")
                self._process.stdin.flush()
                line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if late.is_set():
            raise PeerError(f"no answer to {op!r} within {timeout_s:g} s")
        return self._parse(op, line)

    def close(self) -> None:
        """End the worker; a second call does nothing."""
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._kill()
            self._process.wait()
        self._kill()  # and what it started: a server's own processes outlive it

    def _parse(self, op: str, line: str) -> dict[str, Any]:
        if not line.endswith("\n"):
            self._kill()
            code = self._process.wait()
            raise PeerError(f"the worker died at {op!r} (exit {code}){self._last_words()}")
        try:
            reply = json.loads(line)
            if reply["ok"] is True:
                return dict(reply)
            reason = str(reply["error"])
        except (ValueError, KeyError, TypeError) as exc:
            self._kill()
            raise PeerError(f"the worker's answer to {op!r} is not of the protocol") from exc
        raise PeerError(reason)

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
        words = [line.strip() for line in lines if line.strip()]
        return f": {words[-1]}" if words else ""

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
