"""Paths that Triton may hand to a shell: it starts its stubs by a command line without quotes."""

from __future__ import annotations

import contextlib
import re
import tempfile
from pathlib import Path

from edgeml.errors import HostError

_PLAIN = re.compile(r"[\w./+=@%,:-]+")
_PLACES = ("/tmp", "/var/tmp", "/dev/shm")
LINK = "models"


def is_plain(path: str | Path) -> bool:
    """Return whether a shell takes this path as one word that stands for itself."""
    return _PLAIN.fullmatch(str(path)) is not None


def check_plain(path: Path, *, what: str) -> None:
    """Refuse a folder whose path Triton cannot hand on.

    Args:
        path: The folder.
        what: What it is for, for the message.

    Raises:
        HostError: Its path holds white space or another character that a shell reads.
    """
    if not is_plain(path):
        raise HostError(
            what=f"{what} is {str(path)!r}, and Triton starts its programs through a shell",
            needed="a path without spaces and characters of the shell is needed; choose another "
            "(EDGEML_TRITON_HOME names it)",
        )


def make_link(target: Path, *, prefix: str) -> Path:
    """Make a link to a folder, at a plain path in a temporary folder of its own.

    Args:
        target: The folder that the link leads to.
        prefix: How the temporary folder's name starts.

    Returns:
        The link; :func:`remove_link` takes it away together with its folder.

    Raises:
        HostError: No temporary place has a plain path and can be written.
    """
    for place in (tempfile.gettempdir(), *_PLACES):
        if not is_plain(place):
            continue
        with contextlib.suppress(OSError):
            link = Path(tempfile.mkdtemp(prefix=prefix, dir=place)) / LINK
            link.symlink_to(target, target_is_directory=True)
            return link
    raise HostError(
        what=f"no temporary folder can hold a link to {str(target)!r}",
        needed="Triton needs a path without spaces; move the repository, or free /tmp",
    )


def remove_link(link: Path) -> None:
    """Remove what :func:`make_link` made; a second call does nothing."""
    with contextlib.suppress(OSError):
        link.unlink(missing_ok=True)
        link.parent.rmdir()
