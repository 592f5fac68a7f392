"""Mixed precision: blocks are neighbours, and the dearest go back to float first."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeml.exporting.mixing import Block, mix, split_into_blocks

NAMES = [f"n{index}" for index in range(40)]


def _block(name: str, error: float, saved_ms: float) -> Block:
    return Block(nodes=(name,), error=error, saved_ms=saved_ms)


@given(count=st.integers(0, 40), most=st.integers(1, 16))
def test_blocks_are_neighbours_and_lose_no_name(count: int, most: int) -> None:
    found = split_into_blocks(NAMES[:count], most=most)
    assert [name for block in found for name in block] == NAMES[:count]
    assert len(found) == min(most, count)
    sizes = [len(block) for block in found]
    assert not sizes or max(sizes) - min(sizes) <= 1


def test_the_dearest_block_is_the_first_to_go_back() -> None:
    # "slow" errs more, but it also saves more: "head" loses most for each millisecond.
    blocks = [_block("slow", 0.5, 10.0), _block("head", 0.4, 0.1), _block("mild", 0.1, 5.0)]
    found = mix(blocks)
    assert found[0] == ("head",)
    assert [len(names) for names in found] == sorted({len(names) for names in found})
    assert blocks[1].price == pytest.approx(4.0)
    assert blocks[1].to_json()["error_per_ms"] == pytest.approx(4.0)


def test_a_block_that_saves_nothing_is_the_dearest() -> None:
    assert mix([_block("idle", 0.3, 0.0), _block("busy", 0.7, 1.0)])[0] == ("idle",)


def test_names_keep_the_order_of_the_graph() -> None:
    blocks = [_block(name, 1.0, gain) for name, gain in zip("abcde", (5, 1, 4, 2, 3), strict=True)]
    for names in mix(blocks):
        assert list(names) == sorted(names)


@given(errors=st.lists(st.floats(0.0, 10.0), max_size=10), seed=st.integers(0, 100))
def test_never_the_float_model_and_never_twice(errors: list[float], seed: int) -> None:
    gains = np.random.default_rng(seed).random(len(errors))
    blocks = [_block(f"n{i}", error, float(gains[i])) for i, error in enumerate(errors)]
    found = mix(blocks)
    assert len(set(found)) == len(found)
    assert all(0 < len(names) < len(blocks) for names in found)


def test_without_any_error_there_is_nothing_to_mix() -> None:
    assert mix([_block("a", 0.0, 1.0), _block("b", 0.0, 1.0)]) == []
    assert mix([]) == []
