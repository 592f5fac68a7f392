"""HDR logs, read back by the package's own reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

from edgeml.bench.histograms import write_log
from edgeml.bench.record import Outcome
from tests.unit.bench.records import make_record


def test_the_standard_reader_reads_the_log(tmp_path: Path) -> None:
    response = np.random.default_rng(0).exponential(5.0, size=1001) + 1.0
    record = make_record(response, lag_ms=0.5, outcomes={7: Outcome.ERROR})
    file = tmp_path / "run.hlog"
    write_log(record, file)
    text = file.read_text(encoding="ascii")
    assert "#[Histogram log format version 1.2]" in text
    assert "1 of 1001 queries without an answer" in text
    reader = HistogramLogReader(str(file), HdrHistogram(1, 3_600_000_000_000, 3))
    total = {name: HdrHistogram(1, 3_600_000_000_000, 3) for name in ("response", "service")}
    starts = []
    while (interval := reader.get_next_interval_histogram()) is not None:
        total[interval.get_tag()].add(interval)
        starts.append(interval.get_start_time_stamp())
    reader.input_file.close()
    assert len(starts) == 22  # eleven seconds, two tags
    assert (max(starts) - min(starts)) / 1e3 == pytest.approx(10.0, abs=0.01)
    kept = np.delete(response, 7)
    for name, less in (("response", 0.0), ("service", 0.5)):
        assert total[name].get_total_count() == 1000
        for share in (50, 90, 99):
            expected = np.quantile(kept - less, share / 100, method="inverted_cdf")
            found = total[name].get_value_at_percentile(share) / 1e6
            assert found == pytest.approx(expected, rel=0.002)
