"""A child's own peak, whatever its parent held."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from edgeml.core.memory import peak_memory_mb


def test_what_was_taken_once_counts_for_good() -> None:
    before = peak_memory_mb()
    size = int(before) + 64
    held = np.ones(size * 2**20, dtype=np.uint8)
    del held
    assert peak_memory_mb() >= size


def test_a_large_parent_does_not_count() -> None:
    held = np.ones(400 * 2**20, dtype=np.uint8)
    code = "from edgeml.core.memory import peak_memory_mb as peak; print(peak())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert held[-1] == 1
    assert 1.0 < float(done.stdout) < 300.0
