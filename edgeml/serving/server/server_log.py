"""What a server's log says: its last error, and what is fatal although the server stays."""

from __future__ import annotations

import re
from pathlib import Path

_TAIL_BYTES = 16 << 10
# Triton's own errors start with E and the date; its command line and the loader say "error".
_ERROR = re.compile(r"E\d{4} |error\b|terminate called|what\(\)", re.IGNORECASE)
_PORT_TAKEN = "already in use"
_FATAL = "terminate called"


def last_log_line(path: Path) -> str:
    """Return the last line of a server's log that reports an error, or else its last line."""
    written = _tail(path)
    errors = [line for line in written if _ERROR.match(line)]
    return next(iter(errors[-1:] or written[-1:]), "")


def says_port_taken(path: Path) -> bool:
    """Return whether the server could not listen, because somebody else does."""
    return any(_PORT_TAKEN in line.lower() for line in _tail(path))


def fatal_line(path: Path) -> str:
    """Return what a stub said as it died, or an empty text.

    A server whose stub dies before it is connected waits for it for minutes.
    """
    written = _tail(path)
    for index, line in enumerate(written):
        if _FATAL in line:
            return " ".join(written[index : index + 2])
    return ""


def _tail(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    return [line.strip() for line in lines if line.strip()]
