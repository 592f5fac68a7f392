"""Ranges from histograms: near numpy's percentiles, whatever the order and shape of the feeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from edgeml.errors import ExportError
from edgeml.exporting.ranges import Histogram, Range, collect_histograms, ranges_of
from tests.small import parse

BINS = 4096
samples_of_values = st.lists(
    arrays_of.arrays(
        np.float32,
        arrays_of.array_shapes(max_dims=3, max_side=9),
        elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=False),
    ),
    min_size=1,
    max_size=6,
)


def histogram(*parts: np.ndarray[Any, Any]) -> Histogram:
    made = Histogram()
    for part in parts:
        made.add(part)
    return made


@given(samples_of_values)
def test_everything_seen_is_counted_and_within_the_range(parts: list[Any]) -> None:
    made, joined = histogram(*parts), np.concatenate([part.ravel() for part in parts])
    assert made.counts.sum() == joined.size
    assert made.minmax() == Range(low=min(0.0, joined.min()), high=max(0.0, joined.max()))
    assert made.percentile(100.0) == made.minmax()
    assert made.reach >= np.abs(joined).max()


@given(samples_of_values, st.floats(51, 99.999))
def test_a_percentile_leaves_out_no_more_than_was_asked(parts: list[Any], percent: float) -> None:
    made, joined = histogram(*parts), np.concatenate([part.ravel() for part in parts])
    kept, seen, bin_width = made.percentile(percent), made.minmax(), 2 * made.reach / BINS
    assert seen.low <= kept.low <= 0 <= kept.high <= seen.high
    outside = (joined < kept.low - 0.01 * bin_width) | (joined > kept.high + 0.01 * bin_width)
    assert outside.sum() <= joined.size * (100 - percent) / 100 + 1e-9


@pytest.mark.parametrize("percent", [90.0, 99.0, 99.9, 99.99])
@pytest.mark.parametrize("kind", ["normal", "skewed", "heavy-tails"])
def test_percentiles_are_numpys_within_a_bin(
    rng: np.random.Generator, kind: str, percent: float
) -> None:
    values = {
        "normal": rng.normal(0, 3, 50_000),
        "skewed": rng.gamma(2, 2, 50_000) - 0.5,
        "heavy-tails": rng.standard_t(3, 50_000),
    }[kind].astype(np.float32)
    made = histogram(*np.array_split(values, 37))
    kept, bin_width, tail = made.percentile(percent), 2 * made.reach / BINS, (100 - percent) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    # Between two samples numpy interpolates: their distance is no bin's business.
    gap = max(
        np.percentile(values, tail, method="higher") - np.percentile(values, tail, method="lower"),
        np.percentile(values, 100 - tail, method="higher")
        - np.percentile(values, 100 - tail, method="lower"),
    )
    assert abs(kept.low - min(low, 0)) <= 1.01 * bin_width + gap
    assert abs(kept.high - max(high, 0)) <= 1.01 * bin_width + gap
    # Outwards, never inwards.
    assert kept.low <= low + gap
    assert kept.high >= high - gap


def test_a_higher_percentile_is_a_wider_range(rng: np.random.Generator) -> None:
    made = histogram(rng.normal(size=10_000).astype(np.float32))
    kept = [made.percentile(percent) for percent in (60.0, 90.0, 99.0, 99.9, 100.0)]
    assert sorted(kept, key=lambda row: row.high) == kept
    assert sorted(kept, key=lambda row: -row.low) == kept


def test_the_width_doubles_and_loses_no_value(rng: np.random.Generator) -> None:
    small, large = np.full(100, 0.75, np.float32), np.full(50, -5.0, np.float32)
    made = histogram(small)
    assert made.reach == 0.75
    made.add(large)
    assert made.reach == 6.0
    occupied = np.flatnonzero(made.counts)
    assert made.counts[occupied].tolist() == [50, 100]
    centres = (occupied + 0.5) * 12 / BINS - 6
    np.testing.assert_allclose(centres, [-5, 0.75], atol=12 / BINS)


def test_the_order_of_the_samples_hardly_matters(rng: np.random.Generator) -> None:
    parts = [rng.normal(0, scale, 2000).astype(np.float32) for scale in (0.1, 7, 1, 30)]
    forth, back = histogram(*parts).percentile(99.9), histogram(*parts[::-1]).percentile(99.9)
    assert forth.low == pytest.approx(back.low, abs=0.2)
    assert forth.high == pytest.approx(back.high, abs=0.2)


def test_memory_does_not_grow(rng: np.random.Generator) -> None:
    made = Histogram()
    for length in range(1, 300):
        made.add(rng.normal(0, length, (1, length, 8)).astype(np.float32))
    assert made.counts.shape == (BINS,)
    assert made.counts.sum() == 8 * sum(range(1, 300))
    held = [value for value in vars(made).values() if isinstance(value, np.ndarray)]
    assert sum(value.nbytes for value in held) == 8 * BINS


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
def test_what_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ExportError, match="is NaN or infinite"):
        histogram(np.array([[1.0, value]], dtype=np.float32))


def test_zeros_and_nothing_have_a_range() -> None:
    assert histogram(np.zeros((3, 4), np.float32)).minmax() == Range(low=0.0, high=0.0)
    kept = histogram(np.zeros(9, np.float32), np.zeros((0, 4), np.float32)).percentile(99.0)
    assert (kept.low, kept.high) == (0.0, 0.0)


PRODUCT = """
<ir_version: 10, opset_import: ["": 18]>
g (float[batch, tokens, 2] x) => (float[batch, tokens, 2] z)
{ y = Relu(x)  z = Neg(y) }
"""


@pytest.fixture
def ragged(rng: np.random.Generator) -> list[dict[str, Any]]:
    return [{"x": rng.normal(size=(1, n, 2)).astype(np.float32)} for n in (3, 1, 9, 30)]


def test_ragged_feeds_are_collected_one_by_one(ragged: list[dict[str, Any]]) -> None:
    model = parse(PRODUCT)
    before = model.SerializeToString()
    found = collect_histograms(model, ["x", "y", "z"], iter(ragged))
    joined = np.concatenate([feed["x"].ravel() for feed in ragged])
    assert found["x"].minmax() == Range(low=float(joined.min()), high=float(joined.max()))
    assert found["y"].minmax() == Range(low=0.0, high=float(joined.max()))
    assert found["z"].minmax() == Range(low=-float(joined.max()), high=0.0)
    assert {row.counts.sum() for row in found.values()} == {joined.size}
    assert model.SerializeToString() == before
    assert ranges_of(found, percent=100.0) == {name: row.minmax() for name, row in found.items()}
    assert ranges_of(found, percent=60.0)["x"].high < float(joined.max())


def test_a_nan_in_a_calibration_sample_ends_it(ragged: list[dict[str, Any]]) -> None:
    ragged[2]["x"][0, 4, 1] = np.nan
    with pytest.raises(ExportError, match="calibration sample"):
        collect_histograms(parse(PRODUCT), ["x"], ragged)


def test_the_same_graph_comes_back_whatever_is_probed(ragged: list[dict[str, Any]]) -> None:
    model = parse(PRODUCT)
    onnx.checker.check_model(model)
    assert collect_histograms(model, ["y"], ragged[:1]).keys() == {"y"}


def test_ranges_of_nothing_are_refused() -> None:
    with pytest.raises(ExportError, match="no calibration sample"):
        collect_histograms(parse(PRODUCT), ["y"], [])
