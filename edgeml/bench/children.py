"""What the processes that this package starts find in their environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path


def child_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's variables and import path: what it can import, the child can.

    Args:
        more: Variables beside them.
    """
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    return {**os.environ, **(more or {}), "PYTHONPATH": path}
