"""What a server leaves when it and its owner are killed: named so that it is found and removed.

A token is the prefix of a server's shared memory, and stands in the command lines of the server and
its stubs. It holds the owner's process id and the namespace in which that id means something.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import uuid
from pathlib import Path

from edgeml.serving.host.plain import LINK, remove_link
from edgeml.serving.host.processes import processes_naming

_SHARED_MEMORY = Path("/dev/shm")
_TOKEN = re.compile(r"edgeml_([0-9a-f]+)_([0-9]+)_[0-9a-f]{8}_")


def new_token() -> str:
    """Return a text that nobody else has, and that says whose it is."""
    return f"edgeml_{_namespace():x}_{os.getpid()}_{uuid.uuid4().hex[:8]}_"


def remove_segments(token: str) -> None:
    """Remove the shared memory of one server, once its processes have ended."""
    for segment in _SHARED_MEMORY.glob(f"{token}*"):
        segment.unlink(missing_ok=True)


def sweep() -> None:
    """Remove the shared memory and the links of servers that are gone, and whose owners are too.

    What belongs to another process namespace is left alone: there is no telling whether it lives.
    """
    found: dict[str, list[Path]] = {}
    for folder in {_SHARED_MEMORY, Path(tempfile.gettempdir())}:
        for path in folder.glob("edgeml_*"):
            if match := _TOKEN.match(path.name):
                found.setdefault(match.group(), []).append(path)
    for token, paths in found.items():
        match = _TOKEN.match(token)
        assert match is not None
        namespace, owner = int(match.group(1), 16), match.group(2)
        if namespace != _namespace() or Path("/proc", owner).exists() or processes_naming(token):
            continue
        for path in paths:
            with contextlib.suppress(OSError):  # another user's, or somebody was faster
                if path.is_dir():
                    remove_link(path / LINK)
                else:
                    path.unlink()


def _namespace() -> int:
    return Path("/proc/self/ns/pid").stat().st_ino
