"""The sequential test: clear cases end early, and looking often finds no false differences."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from edgeml.core.sequential import decide, looks

Flags = npt.NDArray[np.bool_]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, [1]),
        (256, [256]),
        (257, [256, 257]),
        (512, [256, 512]),
        (2000, [256, 512, 1024, 2000]),
    ],
)
def test_looks_double_and_the_last_is_after_all(count: int, expected: list[int]) -> None:
    assert looks(count) == expected


def _answers(*, lost: int, gained: int, count: int) -> tuple[Flags, Flags]:
    reference, candidate = np.ones(count, dtype=bool), np.ones(count, dtype=bool)
    candidate[:lost] = False
    reference[lost : lost + gained] = False
    return reference, candidate


@pytest.mark.parametrize(
    ("lost", "gained", "count", "expected"),
    [
        (256, 0, 256, "out"),
        (20, 0, 256, "out"),
        (1, 0, 256, "open"),
        (0, 0, 256, "open"),
        (0, 0, 4096, "in"),
        (0, 40, 512, "in"),
        (40, 40, 512, "open"),
    ],
)
def test_it_ends_where_the_bound_is_clear(
    lost: int, gained: int, count: int, expected: str
) -> None:
    reference, candidate = _answers(lost=lost, gained=gained, count=count)
    assert decide(reference, candidate, limit=0.005, num_looks=3) == expected


def test_more_looks_ask_for_more() -> None:
    reference, candidate = _answers(lost=7, gained=0, count=256)
    few, many = (decide(reference, candidate, limit=0.005, num_looks=n) for n in (1, 500))
    assert (few, many) == ("out", "open")


def _verdict(rng: np.random.Generator, *, lost: float, gained: float, limit: float) -> str:
    """What a whole sequence of looks says of a candidate with these rates."""
    schedule = looks(2048)
    drawn = rng.random(schedule[-1])
    reference, candidate = drawn >= gained, ~((drawn >= gained) & (drawn < gained + lost))
    for stop in schedule:
        said = decide(reference[:stop], candidate[:stop], limit=limit, num_looks=len(schedule))
        if said != "open":
            return said
    return "open"


@pytest.mark.parametrize("rates", [(0.02, 0.0), (0.05, 0.03)])
def test_a_candidate_at_the_limit_is_seldom_misjudged(
    rng: np.random.Generator, rates: tuple[float, float]
) -> None:
    lost, gained = rates
    said = [_verdict(rng, lost=lost, gained=gained, limit=lost - gained) for _ in range(300)]
    # A level of one twentieth for each side; 300 draws of it stay below 26 but once in a thousand.
    assert said.count("out") <= 26
    assert said.count("in") <= 26


def test_it_has_the_power_to_end_early(rng: np.random.Generator) -> None:
    said = [_verdict(rng, lost=0.06, gained=0.0, limit=0.005) for _ in range(40)]
    assert said.count("out") >= 38
