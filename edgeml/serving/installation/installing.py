"""Install a Triton server without Docker: a folder of pinned wheels, and our backend in it.

The folder has no interpreter of its own: Triton's stub links the system's ``libpython``, and reads
only this folder. Nothing is put into the environment that edgeml runs in, which may have NumPy 2.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import logging
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from edgeml.core.files import write_json
from edgeml.errors import HostError
from edgeml.serving.installation.finding import (
    BACKEND,
    PYTHON_MINORS,
    STAMP,
    Installation,
    assembled,
    backend_files,
    environment_path,
    home,
    outdated,
    own_installation,
    requirements_digest,
)
from edgeml.serving.installation.libraries import (
    has_interpreter_library,
    install_interpreter_library,
    missing_libraries,
)

_LOG = logging.getLogger(__name__)
_PIP_TIMEOUT_S = 900

Report = Callable[[str], None]


def install(prefix: str | Path | None = None, *, report: Report | None = None) -> Installation:
    """Install Triton and our backend, or return at once when both are there and current.

    Args:
        prefix: Folder to install into; otherwise ``$EDGEML_TRITON_HOME`` or the user's cache.
        report: Called with one line about each step; otherwise the steps are logged.

    Returns:
        The installation, ready to start.

    Raises:
        HostError: This system cannot run it, a library is missing, or a download failed.
    """
    say = report or _LOG.info
    root = home(prefix)
    _check_system()
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise HostError(
            what=f"'{root}' cannot be made ({exc})", needed="choose another folder"
        ) from exc
    with _locked(root / ".lock"):
        found = own_installation(root)
        if found is None:
            for old in outdated(root):
                say(f"{old} is of another edgeml; remove it when no server uses it")
            found = _install_environment(root, say)
        assert found.python is not None
        _write_backend(found, environment_path(root, found.python) / "site")
    return found


def _check_system() -> None:
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "aarch64"):
        raise HostError(
            what=f"this is {platform.system()} on {platform.machine()}",
            needed="Triton needs Linux on x86-64 or arm64; connect to a server elsewhere",
        )


def _install_environment(root: Path, say: Report) -> Installation:
    minor = _choose_minor(say)
    folder = environment_path(root, minor)
    if folder.exists():
        say(f"removing an unfinished installation in {folder}")
        shutil.rmtree(folder)
    folder.mkdir()
    say(f"installing Triton and ONNX Runtime for Python 3.{minor} into {folder}")
    _pip_install(folder / "site", minor)
    found = assembled(root, minor)
    _link_stub(found, minor)
    _check_libraries(found, minor)
    _write_backend(found, folder / "site")
    # The stamp is the last thing written: without it the folder is taken for an interrupted
    # install.
    pending = folder / f"{STAMP}.new"
    write_json(pending, {"requirements": requirements_digest(), "python": minor})
    pending.replace(folder / STAMP)
    say(f"Triton is installed: {found.tritonserver}")
    return found


def _choose_minor(say: Report) -> int:
    running = sys.version_info.minor
    ordered = sorted(PYTHON_MINORS, key=lambda minor: (minor != running, minor))
    for minor in ordered:
        if has_interpreter_library(minor):
            return minor
    return install_interpreter_library(ordered, report=say)


def _pip_install(site: Path, minor: int) -> None:
    if importlib.util.find_spec("pip") is None:
        raise HostError(
            what=f"{sys.executable} has no pip",
            needed=f"pip is needed to download Triton; run: {sys.executable} -m ensurepip",
        )
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    # The wheels are those of the stub's Python, which need not be the one that runs this.
    command += ["--only-binary=:all:", "--python-version", f"3.{minor}", "--implementation", "cp"]
    command += ["--target", str(site), "-r", str(BACKEND / "requirements.txt")]
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    environment["PIP_ROOT_USER_ACTION"] = "ignore"
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=_PIP_TIMEOUT_S,
    )
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = lines[-1].removeprefix("ERROR: ") if lines else done.stderr.strip()[-300:]
        raise HostError(
            what=f"pip could not install Triton ({reason})",
            needed=f"the wheels of {BACKEND / 'requirements.txt'} are needed: see pip",
        )


def _link_stub(found: Installation, minor: int) -> None:
    # A link, not a copy: the stub finds its libraries relative to where the wheel put it.
    link = found.backends / "python" / "triton_python_backend_stub"
    stub = found.backends.parent / "python_backend_stubs" / f"3.{minor}" / link.name
    for program in (stub, found.tritonserver):
        program.chmod(program.stat().st_mode | 0o555)
    link.symlink_to(os.path.relpath(stub, link.parent))


def _check_libraries(found: Installation, minor: int) -> None:
    python = found.backends / "python"
    stub = (python / "triton_python_backend_stub").resolve()
    missing = missing_libraries([found.tritonserver, python / "libtriton_python.so", stub])
    if missing:
        raise HostError(
            what=f"Triton cannot find {', '.join(missing)}",
            needed="install the system packages that bring them "
            f"(libpython3.{minor} brings libpython3.{minor}.so.1.0), then install again",
        )


def _write_backend(found: Installation, site: Path) -> None:
    """Bring our backend's files up to date; each is replaced whole."""
    own = found.backends / "onnxruntime"
    own.mkdir(exist_ok=True)
    texts = {
        # Beside Triton's own module, where every Python model of ours looks for it.
        found.backends / "python" / "edgeml.json": json.dumps({"site": str(site)}, indent=2) + "\n",
        **{own / path.name: path.read_text(encoding="utf-8") for path in backend_files()},
    }
    for path, text in texts.items():
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        pending = path.with_name(f".{path.name}.{os.getpid()}")
        pending.write_text(text, encoding="utf-8")
        pending.replace(path)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that dies with its process, so that two installs do not meet."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
