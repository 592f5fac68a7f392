"""A training's freed memory is used again, and given back at the end."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from typing import Any

import pytest

from tests.unit.training import allocator_measures
from tests.unit.training.allocator_measures import LARGE, LARGER

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's; elsewhere nothing is changed"
)


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    command = [sys.executable, "-m", allocator_measures.__name__]
    environment = {"PATH": ""}  # nothing in it says how to allocate
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_inside_a_freed_tensor_is_used_again(measured: dict[str, Any]) -> None:
    assert measured["changed"]
    assert measured["cleared"] < LARGE // 10
    assert measured["cleared_before"] > LARGE // 2


def test_a_training_that_ends_leaves_another_one_its_memory(measured: dict[str, Any]) -> None:
    assert measured["cleared_after_another"] < LARGE // 10


def test_at_the_end_the_memory_goes_back(measured: dict[str, Any]) -> None:
    assert measured["given_back"] > LARGE // 2


@pytest.mark.parametrize("when", ["kept_afterwards", "kept_after_failure"])
def test_afterwards_freed_tensors_go_back_at_once(measured: dict[str, Any], when: str) -> None:
    assert measured[when] < LARGER // 2


def test_what_the_environment_says_stays(measured: dict[str, Any]) -> None:
    for row in measured["settled"]:
        assert not row["changed"]
        assert row["kept"] < LARGER // 2
