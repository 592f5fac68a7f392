"""Where a Triton server is, and which backends it has. Starts and installs nothing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgeml.errors import HostError
from edgeml.serving.host.plain import check_plain

BACKEND = Path(__file__).parents[1] / "backend"
STUB_MODULE = BACKEND / "shared" / "edgeml_stub.py"
"""The module that lies beside every Python model of ours."""
STAMP = "complete.json"
PYTHON_MINORS = (11, 12)
"""Minor versions of Python 3 for which a stub, numpy 1.26 and ONNX Runtime 1.32 all exist."""


@dataclass(frozen=True, kw_only=True)
class Installation:
    """A Triton server that can be started.

    Attributes:
        root: Folder of the installation.
        tritonserver: The server's executable.
        backends: Folder for ``--backend-directory``.
        origin: ``own`` for one that edgeml assembled, ``path`` for one that was found on PATH.
        python: Minor version of the stub's Python 3; None where the server brings its own.
    """

    root: Path
    tritonserver: Path
    backends: Path
    origin: Literal["own", "path"]
    python: int | None = None

    @property
    def serves_gpu(self) -> bool:
        """Whether its ONNX Runtime backend is the one that can use a GPU."""
        return (self.backends / "onnxruntime" / "libtriton_onnxruntime.so").is_file()


def backend_files() -> list[Path]:
    """Return the files of our ONNX Runtime backend, which lie in one folder where they run."""
    return [STUB_MODULE, *sorted((BACKEND / "onnxruntime").glob("*.py"))]


def home(prefix: str | Path | None = None) -> Path:
    """Return the folder that holds our own installation.

    Args:
        prefix: The folder to use; otherwise ``$EDGEML_TRITON_HOME`` or a folder in the user's
            cache.

    Raises:
        HostError: Triton could not start its programs from there.
    """
    named = prefix if prefix is not None else os.environ.get("EDGEML_TRITON_HOME")
    if named:
        root = Path(named)
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "edgeml" / "triton"
    root = root.expanduser().absolute()
    check_plain(root, what="the folder of the Triton installation")
    return root


def requirements_digest() -> str:
    """Return the hash of the pinned requirements, which names the environment built from them."""
    return hashlib.sha256((BACKEND / "requirements.txt").read_bytes()).hexdigest()[:12]


def environment_path(root: Path, minor: int) -> Path:
    """Return the folder of the environment for one Python minor."""
    return root / f"py3{minor}-{requirements_digest()}"


def own_installation(root: Path) -> Installation | None:
    """Return our own finished installation below ``root``, or None."""
    for minor in PYTHON_MINORS:
        folder = environment_path(root, minor)
        stamp = _read_stamp(folder / STAMP)
        if stamp == {"requirements": requirements_digest(), "python": minor}:
            return assembled(root, minor)
    return None


def outdated(root: Path) -> list[Path]:
    """Return finished environments that were built from other requirements than today's."""
    digest = requirements_digest()
    stamps = sorted(root.glob(f"py3*/{STAMP}"))
    return [stamp.parent for stamp in stamps if not stamp.parent.name.endswith(f"-{digest}")]


def assembled(root: Path, minor: int) -> Installation:
    """Return the description of our own installation, whether or not it is there yet."""
    server = environment_path(root, minor) / "site" / "pytriton" / "tritonserver"
    return Installation(
        root=root,
        tritonserver=server / "bin" / "tritonserver",
        backends=server / "backends",
        origin="own",
        python=minor,
    )


def find_installation(prefix: str | Path | None = None) -> Installation:
    """Find a Triton server: our own first, then ``tritonserver`` on PATH.

    Args:
        prefix: Folder given to :func:`~edgeml.serving.installation.installing.install`, if one was.

    Returns:
        The installation; it may be older than this edgeml's own files: ``install`` brings it up to
        date.

    Raises:
        HostError: There is none, or its folder cannot be used.
    """
    program = shutil.which("tritonserver")
    try:
        found = own_installation(home(prefix))
    except HostError:
        if program is None:
            raise
        found = None
    if found is not None:
        return found
    if program is None:
        what = "no Triton server was found"
        for old in outdated(home(prefix)):
            what = f"the Triton server in '{old}' was installed by another edgeml, for other needs"
        raise HostError(
            what=what,
            needed="one of our own or 'tritonserver' on PATH is needed; run: edgeml triton install",
        )
    server = Path(program).resolve()
    root = server.parent.parent
    return Installation(root=root, tritonserver=server, backends=root / "backends", origin="path")


def _read_stamp(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
