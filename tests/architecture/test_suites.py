"""``pytest benchmarks --benchmark-only`` is one of the three ways in: it must at least begin."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CORE = ("edge", "server", "edge_vs_server", "cold_start", "text")


def test_the_suites_are_collected() -> None:
    command = [sys.executable, "-m", "pytest", "benchmarks", "--benchmark-only", "--collect-only"]
    done = subprocess.run([*command, "-q"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    found = [line for line in done.stdout.splitlines() if "::test_" in line]
    assert len(found) >= 12
    for suite in CORE:
        assert sum(line.startswith(f"benchmarks/test_{suite}.py::") for line in found) >= 2, suite
