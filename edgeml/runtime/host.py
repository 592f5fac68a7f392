"""What this machine offers: threads that we may use, the instruction set that INT8 depends on.

Thread counts come from the scheduler's affinity and the cgroup quota, never from the number of
processors: in a container those differ, and a runtime that believes the larger one stalls.
"""

from __future__ import annotations

import math
import os
import platform
from dataclasses import dataclass
from pathlib import Path

from edgeml.errors import InputError

_CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_V1 = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
_MAX_THREADS = 256
_CPUINFO = Path("/proc/cpuinfo")

# Best first: the first row whose flags are all present names the machine's integer arithmetic.
_INSTRUCTION_SETS: tuple[tuple[str, frozenset[str]], ...] = (
    ("amx_int8", frozenset({"amx_int8"})),
    ("avx512_vnni", frozenset({"avx512_vnni"})),
    ("avx_vnni", frozenset({"avx_vnni"})),
    ("avx512", frozenset({"avx512f", "avx512bw"})),
    ("avx2", frozenset({"avx2"})),
    ("i8mm", frozenset({"i8mm"})),
    ("dotprod", frozenset({"asimddp"})),
)


@dataclass(frozen=True, kw_only=True)
class Host:
    """The machine as a measurement needs to know it.

    Attributes:
        architecture: Such as ``x86_64``.
        cpu: Model name, as the machine reports it.
        instruction_set: Best integer arithmetic found, such as ``avx512_vnni``; ``generic`` if
            none.
        threads: Threads that this process may use.
    """

    architecture: str
    cpu: str
    instruction_set: str
    threads: int

    def to_json(self) -> dict[str, str | int]:
        """Return the host as JSON values."""
        return {
            "architecture": self.architecture,
            "cpu": self.cpu,
            "instruction_set": self.instruction_set,
            "threads": self.threads,
        }


def detect_host() -> Host:
    """Read affinity, quota and processor flags of this machine."""
    fields = _cpuinfo()
    flags = frozenset(fields.get("flags", fields.get("Features", "")).split())
    return Host(
        architecture=platform.machine(),
        cpu=fields.get("model name", platform.processor() or "unknown"),
        instruction_set=instruction_set(flags),
        threads=available_threads(),
    )


def instruction_set(flags: frozenset[str]) -> str:
    """Name the best integer arithmetic among processor flags.

    Flags decide, not model names: two processors of one family differ in VNNI.

    Args:
        flags: Words of the ``flags`` line of ``/proc/cpuinfo``.

    Example:
        >>> instruction_set(frozenset({"avx2", "avx_vnni"}))
        'avx_vnni'
    """
    return next((name for name, needed in _INSTRUCTION_SETS if needed <= flags), "generic")


def available_threads() -> int:
    """Return how many threads this process may use: the affinity mask under the cgroup's quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    quota = _cgroup_quota()
    return max(1, count if quota is None else min(count, math.floor(quota + 0.5)))


def check_threads(num_threads: int | None) -> int:
    """Return a number of threads that a session may be given; None is what this machine allows.

    Raises:
        InputError: It is not between 1 and 256.
    """
    if num_threads is None:
        return available_threads()
    if not 1 <= num_threads <= _MAX_THREADS:
        raise InputError(
            f"num_threads is {num_threads}; 1 to {_MAX_THREADS} was expected", got=num_threads
        )
    return num_threads


def _cgroup_quota() -> float | None:
    """Return the quota in processors, or None where there is none."""
    try:
        if _CGROUP_V2.is_file():
            limit, period = _CGROUP_V2.read_text(encoding="ascii").split()[:2]
            return None if limit == "max" else int(limit) / int(period)
        if _CGROUP_V1.is_file():
            limit = _CGROUP_V1.read_text(encoding="ascii").strip()
            period = _CGROUP_V1.with_name("cpu.cfs_period_us").read_text(encoding="ascii")
            return None if int(limit) <= 0 else int(limit) / int(period)
    except (OSError, ValueError):
        return None
    return None


def _cpuinfo() -> dict[str, str]:
    """Return the fields of the first processor."""
    try:
        text = _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    fields: dict[str, str] = {}
    for line in text.partition("\n\n")[0].splitlines():
        key, _, value = line.partition(":")
        fields[key.strip()] = value.strip()
    return fields
