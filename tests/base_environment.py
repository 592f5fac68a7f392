"""A virtual environment with nothing but the base wheel and Pillow: what an edge device has."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent

# Not installed by us: an environment is made with them or without, as the tool pleases.
_TOOLS = ("pip", "setuptools", "wheel", "_distutils_hack", "distutils-precedence", "pkg_resources")


@dataclass(frozen=True, kw_only=True)
class BaseEnvironment:
    """Its interpreter, and file bytes of its site-packages without and with Pillow.

    Caches of compiled Python are counted apart: an installer makes them or leaves them out.
    """

    python: Path
    base_bytes: int
    with_pillow_bytes: int
    compiled_bytes: int

    def run(self, *arguments: str) -> str:
        """Run its interpreter away from the source tree and return stdout."""
        done = subprocess.run(
            [str(self.python), "-I", *arguments],
            capture_output=True,
            text=True,
            cwd=self.python.parent,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def make_base_environment(folder: Path) -> BaseEnvironment:
    """Build the wheel and install it, alone and then with Pillow, with the tested versions."""
    constraints = ["--constraint", str(PROJECT / "constraints.txt")]
    wheels = folder / "wheels"
    # From a copy: setuptools leaves a build folder, whose old files would get into later wheels.
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source)
    shutil.copytree(PROJECT / "edgeml", source / "edgeml")
    _pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", str(wheels), str(source))
    place = folder / "environment"
    venv.create(place, with_pip=True)
    python = place / "bin/python"
    (wheel,) = wheels.glob("edgeml-*.whl")
    _pip(python, "install", *constraints, str(wheel))
    base_bytes, _ = _site_bytes(place)
    _pip(python, "install", *constraints, "pillow")
    with_pillow_bytes, compiled_bytes = _site_bytes(place)
    return BaseEnvironment(
        python=python,
        base_bytes=base_bytes,
        with_pillow_bytes=with_pillow_bytes,
        compiled_bytes=compiled_bytes,
    )


def _pip(python: str | Path, *arguments: str) -> None:
    subprocess.run([str(python), "-m", "pip", "--quiet", *arguments], check=True)


def _site_bytes(place: Path) -> tuple[int, int]:
    """Return the bytes of installed files without the installers', and of compiled caches."""
    (site,) = place.glob("lib/python*/site-packages")
    files = [
        path
        for path in site.rglob("*")
        if path.is_file() and not path.relative_to(site).parts[0].startswith(_TOOLS)
    ]
    compiled = sum(path.stat().st_size for path in files if path.suffix == ".pyc")
    return sum(path.stat().st_size for path in files) - compiled, compiled
