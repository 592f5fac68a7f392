"""What a machine offers, read from files that we write."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgeml.errors import InputError
from edgeml.runtime import host
from edgeml.runtime.host import available_threads, check_threads


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for /sys and /proc; nothing is in it yet."""
    v1 = tmp_path / "cpu"
    v1.mkdir()
    monkeypatch.setattr(host, "_CGROUP_V2", tmp_path / "cpu.max")
    monkeypatch.setattr(host, "_CGROUP_V1", v1 / "cpu.cfs_quota_us")
    monkeypatch.setattr(host, "_CPUINFO", tmp_path / "cpuinfo")
    return tmp_path


def _affinity(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(count)), raising=False)


@dataclass(frozen=True, kw_only=True)
class QuotaCase:
    """Files, an affinity mask, and the threads that follow."""

    id: str
    affinity: int
    threads: int
    v2: str | None = None
    v1: tuple[str, str] | None = None


@pytest.mark.parametrize(
    "case",
    [
        QuotaCase(id="no-cgroup", affinity=6, threads=6),
        QuotaCase(id="v2-no-limit", affinity=6, v2="max 100000\n", threads=6),
        QuotaCase(id="v2-below-affinity", affinity=6, v2="200000 100000\n", threads=2),
        QuotaCase(id="v2-above-affinity", affinity=3, v2="800000 100000\n", threads=3),
        QuotaCase(id="v2-a-fraction", affinity=8, v2="30000 100000\n", threads=1),
        QuotaCase(id="v2-rounds", affinity=8, v2="260000 100000\n", threads=3),
        QuotaCase(id="v2-empty", affinity=5, v2="", threads=5),
        QuotaCase(id="v2-nonsense", affinity=5, v2="many few\n", threads=5),
        QuotaCase(id="v1-no-limit", affinity=4, v1=("-1\n", "100000\n"), threads=4),
        QuotaCase(id="v1-limit", affinity=4, v1=("150000\n", "50000\n"), threads=3),
        QuotaCase(id="v1-nonsense", affinity=4, v1=("150000\n", "\n"), threads=4),
        QuotaCase(
            id="v2-goes-first", affinity=9, v2="100000 100000", v1=("400000", "100000"), threads=1
        ),
    ],
    ids=lambda case: case.id,
)
def test_threads_are_the_affinity_under_the_quota(
    machine: Path, monkeypatch: pytest.MonkeyPatch, case: QuotaCase
) -> None:
    _affinity(monkeypatch, case.affinity)
    if case.v2 is not None:
        (machine / "cpu.max").write_text(case.v2)
    if case.v1 is not None:
        (machine / "cpu/cpu.cfs_quota_us").write_text(case.v1[0])
        (machine / "cpu/cpu.cfs_period_us").write_text(case.v1[1])
    assert host.available_threads() == case.threads


def test_a_quota_that_cannot_be_read_is_none(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _affinity(monkeypatch, 7)
    (machine / "cpu/cpu.cfs_quota_us").write_text("100000")  # and no period beside it
    assert host.available_threads() == 7


def test_a_system_without_affinity_gets_one_thread(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert host.available_threads() == 1


@dataclass(frozen=True, kw_only=True)
class FlagsCase:
    """Processor flags and the name of the best integer arithmetic among them."""

    flags: str
    name: str


CASES = (
    FlagsCase(flags="sse2 avx2 avx512f avx512bw avx512_vnni avx_vnni amx_int8", name="amx_int8"),
    FlagsCase(flags="avx2 avx512f avx512bw avx512_vnni avx_vnni", name="avx512_vnni"),
    FlagsCase(flags="avx2 avx_vnni", name="avx_vnni"),
    FlagsCase(flags="avx2 avx512f avx512bw", name="avx512"),
    FlagsCase(flags="avx2 avx512f", name="avx2"),
    FlagsCase(flags="fp asimd asimddp i8mm", name="i8mm"),
    FlagsCase(flags="fp asimd asimddp", name="dotprod"),
    FlagsCase(flags="sse2 sse4_2 avx", name="generic"),
    FlagsCase(flags="", name="generic"),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_flags_name_the_instruction_set(case: FlagsCase) -> None:
    assert host.instruction_set(frozenset(case.flags.split())) == case.name


def test_a_host_is_read_from_the_first_processor(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _affinity(monkeypatch, 2)
    (machine / "cpuinfo").write_text(
        "processor\t: 0\nmodel name\t: Small CPU: 2 GHz\nflags\t\t: sse2 avx2 avx_vnni\n\n"
        "processor\t: 1\nmodel name\t: Other\nflags\t\t: sse2 amx_int8\n"
    )
    found = host.detect_host()
    assert (found.cpu, found.instruction_set) == ("Small CPU: 2 GHz", "avx_vnni")
    assert found.threads == 2
    assert json.loads(json.dumps(found.to_json())) == found.to_json()


def test_an_arm_machine_lists_features(machine: Path) -> None:
    (machine / "cpuinfo").write_text("processor\t: 0\nFeatures\t: fp asimd asimddp\n")
    assert host.detect_host().instruction_set == "dotprod"


def test_a_machine_that_says_nothing_is_generic(machine: Path) -> None:
    found = host.detect_host()
    assert (found.instruction_set, bool(found.cpu), found.threads >= 1) == ("generic", True, True)


def test_this_machine_is_described() -> None:
    found = host.detect_host()
    assert found.architecture
    assert 1 <= found.threads <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize("count", [0, -1, 257, 20_000])
def test_a_number_of_threads_that_would_hang_is_refused(count: int) -> None:
    with pytest.raises(InputError, match="1 to 256 was expected"):
        check_threads(count)


def test_no_number_of_threads_means_what_we_may_use() -> None:
    assert check_threads(None) == available_threads()
    assert check_threads(3) == 3
