"""Latencies as HDR histogram logs (``.hlog``), for the standard tools that read them."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogWriter

from edgeml.bench.record import Record

_HIGHEST_NS = 3_600_000_000_000
_DIGITS = 3
_INTERVAL_NS = 1_000_000_000


def write_log(record: Record, path: Path) -> None:
    """Write a run's latencies in nanoseconds, an interval a second, tags ``response``, ``service``.

    Queries without a good answer are not in it: a histogram has no room for infinity. Their number
    stands in a comment.

    Args:
        record: The run.
        path: The file, ``.hlog`` by custom.
    """
    good = np.isfinite(record.response_ms)
    begin_s = round(time.time() - record.seconds, 3)  # readers compare stamps as they are printed
    with path.open("w", encoding="ascii") as file:
        writer = HistogramLogWriter(file)
        writer.output_comment(f"[edgeml: {record.scenario}, {record.client}; nanoseconds]")
        writer.output_comment(f"[{int((~good).sum())} of {len(record)} queries without an answer]")
        writer.output_log_format_version()
        # hdrh's own writer of the start time calls a method that datetime does not have.
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(begin_s))
        writer.output_comment(f"[StartTime: {begin_s:.3f} (seconds since epoch), {stamp}]")
        writer.output_legend()
        offsets = record.due_ns - record.due_ns[0]
        for second in range(int(offsets[-1] // _INTERVAL_NS) + 1):
            mine = good & (offsets // _INTERVAL_NS == second)
            for tag, values in (("response", record.response_ms), ("service", record.service_ms)):
                _write(writer, tag, values[mine], begin_s + second)


def _write(
    writer: HistogramLogWriter, tag: str, values_ms: npt.NDArray[np.float64], start_s: float
) -> None:
    if not values_ms.size:
        return
    histogram = HdrHistogram(1, _HIGHEST_NS, _DIGITS)
    for value in values_ms:
        histogram.record_value(max(1, int(value * 1e6)))
    histogram.set_start_time_stamp(start_s * 1e3)
    histogram.set_end_time_stamp((start_s + 1.0) * 1e3)
    # hdrh writes no tags; the format has them as a first field.
    writer.log.write(f"Tag={tag},")
    writer.output_interval_histogram(histogram)
