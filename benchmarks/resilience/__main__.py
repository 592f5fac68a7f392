"""``python -m benchmarks.resilience NAME``: recorded runs of what serving stands.

``publishing`` publishes and rolls back under load, ``faults`` kills and hangs servers, ``canaries``
and ``cascade`` measure two models beside each other, ``overload`` asks for more than there is.
Each takes options of its own (``--help``), prints JSON, and exits with 0 where all is as it shall
be and with 1 where it is not.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from edgeml.cli.main import guarded
from edgeml.errors import InputError

# Each has main(argv) -> exit code, and is imported when it is asked for.
RUNS = {
    "publishing": "benchmarks.resilience.publishing",
    "faults": "benchmarks.resilience.faults",
    "canaries": "benchmarks.resilience.canaries",
    "cascade": "benchmarks.resilience.cascade",
    "overload": "benchmarks.resilience.overload",
}


def main(argv: Sequence[str]) -> int:
    """Run what the first argument names with the others, and return its exit code."""
    return guarded(lambda: _run(list(argv)), debug="--debug" in argv)


def _run(argv: list[str]) -> int:
    names = ", ".join(RUNS)
    if argv[:1] in (["-h"], ["--help"]):
        sys.stdout.write(f"{__doc__}\nusage: python -m benchmarks.resilience {{{names}}} ...\n")
        return 0
    name = argv[0] if argv else ""
    if name not in RUNS:
        got = f"there is no run '{name}'" if name else "no run is named"
        raise InputError(f"{got}; one of {names} was expected; name it first")
    code: int = import_module(RUNS[name]).main(argv[1:])
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
