"""Shared libraries that Triton needs from the system: found with its own tools, or named."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from edgeml.errors import HostError

_MISSING = re.compile(r"^\s*(\S+)\s+=>\s+not found", re.MULTILINE)
_APT_TIMEOUT_S = 600


def library_name(minor: int) -> str:
    """Return the file name of the interpreter's library that a stub links."""
    return f"libpython3.{minor}.so.1.0"


def missing_libraries(files: Iterable[Path]) -> list[str]:
    """Return the shared libraries that the loader cannot find for these files.

    Args:
        files: Executables or libraries.

    Returns:
        Their names, sorted, each once.

    Raises:
        HostError: ``ldd`` is not there or cannot read a file.
    """
    missing: set[str] = set()
    for file in files:
        try:
            done = subprocess.run(
                ["ldd", str(file)], capture_output=True, text=True, check=False, timeout=60
            )
        except FileNotFoundError as exc:
            raise HostError(
                what="the program 'ldd' is not on PATH", needed="install the C library's tools"
            ) from exc
        if done.returncode != 0:
            raise HostError(
                what=f"'{file}' does not run on this system ({done.stderr.strip()})",
                needed="glibc Linux on x86-64 or arm64 is needed",
            )
        missing.update(_MISSING.findall(done.stdout))
    return sorted(missing)


def has_interpreter_library(minor: int) -> bool:
    """Return whether the loader's cache knows the library of this Python minor."""
    program = shutil.which("ldconfig") or "/sbin/ldconfig"
    try:
        done = subprocess.run(
            [program, "-p"], capture_output=True, text=True, check=False, timeout=60
        )
    except OSError:
        return False
    return any(line.split()[0] == library_name(minor) for line in done.stdout.splitlines() if line)


def install_interpreter_library(minors: Iterable[int], *, report: Callable[[str], None]) -> int:
    """Install one interpreter library with apt, as root only.

    Args:
        minors: Acceptable minors of Python 3, best first.
        report: Called with a line about each step.

    Returns:
        The minor that was installed.

    Raises:
        HostError: Not root, no apt, or apt has none of them.
    """
    wanted = tuple(minors)
    packages = [f"libpython3.{minor}" for minor in wanted]
    needed = f"install the system package {' or '.join(packages)} (Debian and Ubuntu name it so)"
    what = f"Triton's interpreter library ({' or '.join(map(library_name, wanted))}) is missing"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise HostError(what=what, needed=needed)
    for refresh in (False, True):
        if refresh:
            report("apt-get update")
            _apt("update", "-q")
        for minor, package in zip(wanted, packages, strict=True):
            report(f"apt-get install {package}")
            installed = _apt("install", "-y", "-q", "--no-install-recommends", package)
            if installed and has_interpreter_library(minor):
                return minor
    raise HostError(what=f"{what}, and apt-get could not install it", needed=needed)


def _apt(*arguments: str) -> bool:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        ["apt-get", *arguments],
        capture_output=True,
        check=False,
        env=environment,
        timeout=_APT_TIMEOUT_S,
    )
    return done.returncode == 0
