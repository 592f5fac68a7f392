"""A virtual environment with nothing but the base wheel and Pillow: what an edge device has."""

from __future__ import annotations

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
    """Its interpreter, and file bytes of its site-packages without and with Pillow."""

    python: Path
    base_bytes: int
    with_pillow_bytes: int

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
    _pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", str(wheels), str(PROJECT))
    place = folder / "environment"
    venv.create(place, with_pip=True)
    python = place / "bin/python"
    (wheel,) = wheels.glob("edgeml-*.whl")
    _pip(python, "install", *constraints, str(wheel))
    base_bytes = _site_bytes(place)
    _pip(python, "install", *constraints, "pillow")
    return BaseEnvironment(
        python=python, base_bytes=base_bytes, with_pillow_bytes=_site_bytes(place)
    )


def _pip(python: str | Path, *arguments: str) -> None:
    subprocess.run([str(python), "-m", "pip", "--quiet", *arguments], check=True)


def _site_bytes(place: Path) -> int:
    """Return the size of all installed files but the installers'; compiled caches count."""
    (site,) = place.glob("lib/python*/site-packages")
    return sum(
        path.stat().st_size
        for path in site.rglob("*")
        if path.is_file() and not path.relative_to(site).parts[0].startswith(_TOOLS)
    )
