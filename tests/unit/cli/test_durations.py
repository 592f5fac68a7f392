"""Times as people write them."""

from __future__ import annotations

import argparse

import pytest

from edgeml.cli.durations import duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("90s", 90.0),
        ("1.5m", 90.0),
        ("10m", 600.0),
        ("20ms", 0.02),
        ("2h", 7200.0),
        (" 5s ", 5.0),
    ],
)
def test_units(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "m", "0", "0s", "-5", "10 m", "1d", "1e3", "inf", "nan", "٣m"]
)
def test_what_is_no_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="20ms, 90s, 10m or 1h was expected"):
        duration(text)
