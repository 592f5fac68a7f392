"""Ranges of activations from ragged samples, in constant memory.

ONNX Runtime's histogram calibrators keep every activation of every batch and die on ragged shapes.
Here each tensor has one histogram of fixed size whose width doubles when a value falls outside:
memory does not grow with the number of samples, nor do their lengths matter.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper

from edgeml.core.signature import Tensors
from edgeml.errors import ExportError

_BINS = 4096
# Values of one tensor and sample that are counted, evenly spread; extremes are exact. More would
# cost seconds a sample for pictures and change no percentile that matters.
_MOST_COUNTED = 16384
# Ranges that are tried for the least error, as shares of the widest.
_TRIED = np.linspace(0.2, 1.0, 41)


@dataclass(frozen=True, kw_only=True)
class Range:
    """Values from ``low`` to ``high`` are represented; what lies outside is clipped."""

    low: float
    high: float


class Histogram:
    """A histogram of one tensor's values, symmetric around zero, whose width doubles on demand.

    Attributes:
        counts: int64 ``(4096,)``.
        reach: Upper edge; the lower one is its negative.
        low: Smallest value seen.
        high: Largest value seen.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(_BINS, dtype=np.int64)
        self.reach = 0.0
        self.low = np.inf
        self.high = -np.inf

    def add(self, values: npt.NDArray[np.floating]) -> None:
        """Count values of any shape.

        Raises:
            ExportError: They hold NaN or infinity.
        """
        flat = values.ravel()
        if not flat.size:
            return
        low, high = float(flat.min()), float(flat.max())
        if not np.isfinite(low) or not np.isfinite(high):
            raise ExportError("an activation of a calibration sample is NaN or infinite")
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._widen(max(abs(low), abs(high)))
        scale = _BINS / (2 * self.reach)
        flat = flat[:: -(-flat.size // _MOST_COUNTED)]
        bins = np.clip(((flat + self.reach) * scale).astype(np.int64), 0, _BINS - 1)
        self.counts += np.bincount(bins, minlength=_BINS)

    def minmax(self) -> Range:
        """Return the range of everything seen, zero included."""
        return Range(low=min(self.low, 0.0), high=max(self.high, 0.0))

    def percentile(self, percent: float) -> Range:
        """Return the range that leaves out ``100 - percent`` per cent, half at each end.

        Args:
            percent: In (50, 100]; 100 is :meth:`minmax`.
        """
        if not self.counts.any():
            return Range(low=0.0, high=0.0)
        seen = self.minmax()
        if percent >= 100:
            return seen
        share = np.cumsum(self.counts) / self.counts.sum()
        tail = (100 - percent) / 200
        edges = np.linspace(-self.reach, self.reach, _BINS + 1)
        # The outer edge of the bin in which the tail ends: never tighter than was asked.
        low = edges[int(np.searchsorted(share, tail, side="right"))]
        high = edges[min(int(np.searchsorted(share, 1 - tail, side="left")) + 1, _BINS)]
        return Range(low=max(seen.low, min(float(low), 0.0)), high=min(seen.high, max(high, 0.0)))

    def least_error(self, levels: int = 255) -> Range:
        """Return the range, a share of :meth:`minmax`, whose rounding and clipping lose least.

        Both ends shrink alike. The rounding error of a value inside is the variance of a uniform
        distribution over one step.
        """
        seen = self.minmax()
        if seen.low == seen.high:
            return seen
        edges = np.linspace(-self.reach, self.reach, _BINS + 1)
        middles, counts = (edges[1:] + edges[:-1]) / 2, self.counts
        best, least = seen, np.inf
        for share in _TRIED:
            low, high = share * seen.low, share * seen.high
            beyond = np.maximum(middles - high, 0) + np.maximum(low - middles, 0)
            inside = beyond == 0
            step = (high - low) / levels
            error = float(
                (counts * np.square(beyond)).sum() + counts[inside].sum() * step * step / 12
            )
            if error < least:
                best, least = Range(low=float(low), high=float(high)), error
        return best

    def to_arrays(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Return counts, and reach, low and high, to be stored."""
        return self.counts, np.array([self.reach, self.low, self.high])

    @classmethod
    def from_arrays(
        cls, counts: npt.NDArray[np.int64], extent: npt.NDArray[np.float64]
    ) -> Histogram:
        """Read what :meth:`to_arrays` gave."""
        made = cls()
        made.counts = counts
        made.reach, made.low, made.high = map(float, extent)
        return made

    def _widen(self, needed: float) -> None:
        if self.reach == 0.0:
            self.reach = max(needed, 1e-6)
        while self.reach < needed:
            # Twice the width around the same centre: pairs of bins become one, in the middle half.
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.pad(merged, _BINS // 4)
            self.reach *= 2


def float_tensors(model: onnx.ModelProto) -> list[str]:
    """Return the float tensors of a model that are computed or fed, constants left out.

    Those whose type the file does not say are inferred by ONNX.
    """
    inferred = onnx.shape_inference.infer_shapes(model)
    graph = inferred.graph
    constants = {row.name for row in graph.initializer}
    rows = (*graph.input, *graph.value_info, *graph.output)
    names = (row.name for row in rows if row.type.tensor_type.elem_type == TensorProto.FLOAT)
    made = {name for node in graph.node for name in node.output}
    made |= {row.name for row in graph.input}
    return [name for name in dict.fromkeys(names) if name not in constants and name in made]


def collect_histograms(
    model: onnx.ModelProto,
    names: Sequence[str],
    feeds: Iterable[Tensors],
    *,
    num_threads: int = 1,
) -> dict[str, Histogram]:
    """Run samples through a float model and count the values of some tensors.

    Args:
        model: The float model.
        names: Float tensors inside it.
        feeds: Real, preprocessed inputs; one sample a feed, so that nothing is padding.
        num_threads: Threads of one run.

    Raises:
        ExportError: An activation is NaN or infinite, or there is no sample at all.
    """
    session, fed = _probing_session(model, names, num_threads)
    histograms = {name: Histogram() for name in names}
    asked = [name for name in names if name not in fed]
    calibrated = False
    for feed in feeds:
        calibrated = True
        for name in fed & histograms.keys():
            histograms[name].add(np.asarray(feed[name]))
        found = session.run(asked, dict(feed)) if asked else []
        for name, values in zip(asked, found, strict=True):
            histograms[name].add(values)
    if not calibrated:  # ranges of nothing would quantize everything to zero
        raise ExportError("there is no calibration sample; at least one was expected; give data")
    return histograms


def _probing_session(
    model: onnx.ModelProto, names: Sequence[str], num_threads: int
) -> tuple[onnxruntime.InferenceSession, set[str]]:
    """Open a model that gives these tensors too, holding its weights once; and name its inputs."""
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    fed = {row.name for row in probed.graph.input}
    present = fed | {row.name for row in probed.graph.output}
    probed.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in names
        if name not in present
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.log_severity_level = 4
    # A few hundred runs: weights that are packed for speed would be held twice.
    options.add_session_config_entry("session.disable_prepacking", "1")
    with tempfile.TemporaryDirectory(prefix="edgeml-probe-") as folder:
        place = Path(folder) / "probed.onnx"
        onnx.save(probed, place)
        del probed
        session = onnxruntime.InferenceSession(
            str(place), options, providers=["CPUExecutionProvider"]
        )
    return session, fed


def ranges_of(histograms: Mapping[str, Histogram], *, percent: float) -> dict[str, Range]:
    """Return a range for each tensor: see :meth:`Histogram.percentile`."""
    return {name: row.percentile(percent) for name, row in histograms.items()}
