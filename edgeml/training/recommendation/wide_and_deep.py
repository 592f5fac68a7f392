"""Wide & Deep, with what depends on the request computed once.

Wide: one weight a code, a bin and a hashed cross, which remembers. Deep: embeddings and piecewise
linear numbers through a perceptron, which generalises. The first layer is split: the request's part
is one row, and is added to each candidate's; while training, both parts have as many rows.

Legend of shapes: N rows or candidates, M rows of the request (1 or N), R and C codes, P and Q
numbers, T pieces of a number, D width of an embedding, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeml.tasks.recommendation.ranking import IdField, RankingFields, RankingRows
from edgeml.training.recommendation.ranker_settings import RankerSettings

# A prime; two codes below 2**31 multiplied and added stay below 2**63.
_HASH = 1_000_003
# Standard deviations beyond which a number counts no more: one odd value is no certainty.
_FARTHEST = 5.0


class Numbers(nn.Module):
    """Numbers in standard deviations, and as piecewise linear codes.

    A code says how far the number lies through each of its quantile bins: what a line cannot say,
    such as that the middle is best, the first layer can then learn.

    Args:
        numbers: float32 ``(rows, columns)``, training rows.
        bins: Pieces of each number.
    """

    mean: Tensor
    inverse_deviation: Tensor
    low: Tensor
    inverse_width: Tensor

    def __init__(self, numbers: np.ndarray, bins: int) -> None:
        super().__init__()
        edges = np.zeros((numbers.shape[1], bins + 1), dtype=np.float32)
        if len(numbers):
            edges = np.quantile(numbers, np.linspace(0, 1, bins + 1), axis=0).T.astype(np.float32)
        mean, deviation = np.zeros(numbers.shape[1]), np.ones(numbers.shape[1])
        if len(numbers):
            mean, deviation = numbers.mean(axis=0), numbers.std(axis=0)
        # What never varied in train says nothing, whatever it is later.
        inverse_deviation = np.divide(
            1.0, deviation, out=np.zeros_like(deviation), where=deviation > 1e-6
        )
        self.register_buffer("mean", torch.from_numpy(mean.astype(np.float32)))
        self.register_buffer(
            "inverse_deviation", torch.from_numpy(inverse_deviation.astype(np.float32))
        )
        width = np.diff(edges, axis=1)
        # A bin without width is a value that many rows share: it is passed in one step.
        inverse = np.where(width > 1e-6, 1 / np.maximum(width, 1e-6), 1e6).astype(np.float32)
        self.register_buffer("low", torch.from_numpy(edges[:, :-1].copy()))
        self.register_buffer("inverse_width", torch.from_numpy(inverse))

    def forward(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Return float32 ``(N, columns)`` within +-5, and ``(N, columns * T)`` within 0 and 1."""
        line = ((numbers - self.mean) * self.inverse_deviation).clamp(-_FARTHEST, _FARTHEST)
        pieces = (numbers.unsqueeze(2) - self.low) * self.inverse_width
        return line, pieces.clamp(0.0, 1.0).flatten(1)


class CodeTable(nn.Module):
    """One table for several columns of codes, so that a lookup is one gather.

    Args:
        ids: The columns.
        width: Of a row.
        spread: Standard deviation of the first weights.
    """

    offsets: Tensor

    def __init__(self, ids: Sequence[IdField], width: int, spread: float) -> None:
        super().__init__()
        sizes = np.array([field.size for field in ids], dtype=np.int64)
        self.register_buffer("offsets", torch.from_numpy(np.cumsum(sizes) - sizes))
        self.table = nn.Parameter(torch.randn(max(int(sizes.sum()), 1), width) * spread)

    def forward(self, codes: Tensor) -> Tensor:
        """Return float32 ``(N, columns, width)``."""
        return functional.embedding(codes + self.offsets, self.table)


class WideAndDeep(nn.Module):
    """The ranker.

    Args:
        fields: What it reads and predicts.
        settings: Its size.
        rows: Training rows, for the quantiles of the numbers; None: loaded afterwards.
    """

    calibration: Tensor

    def __init__(
        self, fields: RankingFields, settings: RankerSettings, rows: RankingRows | None = None
    ) -> None:
        super().__init__()
        heads, width, bins = len(fields.heads), settings.embedding, settings.bins
        counts = (len(fields.request_numbers), len(fields.candidate_numbers))
        numbers = (
            [np.zeros((0, count), dtype=np.float32) for count in counts]
            if rows is None
            else [rows.request_numbers, rows.candidate_numbers]
        )
        self.request_scale, self.candidate_scale = (Numbers(part, bins) for part in numbers)
        sides = (fields.request_ids, fields.candidate_ids)
        self.request_deep, self.candidate_deep = (CodeTable(ids, width, 0.05) for ids in sides)
        self.request_wide, self.candidate_wide = (CodeTable(ids, heads, 0.0) for ids in sides)
        inputs = [
            len(ids) * width + count * (bins + 1) for ids, count in zip(sides, counts, strict=True)
        ]
        self.request_line, self.candidate_line = (
            nn.Linear(count, heads, bias=False) for count in counts
        )
        self.request_first = nn.Linear(inputs[0], settings.hidden[0])
        self.candidate_first = nn.Linear(inputs[1], settings.hidden[0], bias=False)
        self.layers = nn.ModuleList(
            nn.Linear(before, after)
            for before, after in zip(settings.hidden, settings.hidden[1:], strict=False)
        )
        self.last = nn.Linear(settings.hidden[-1], heads)
        self.dropout = nn.Dropout(settings.dropout)
        names = [field.name for field in (*fields.request_ids, *fields.candidate_ids)]
        self.crosses = [(names.index(left), names.index(right)) for left, right in fields.crosses]
        self.buckets = settings.cross_buckets
        if self.crosses:
            self.cross_wide = nn.Parameter(torch.zeros(self.buckets * len(self.crosses), heads))
        self.heads = fields.heads
        self.code_dropout = settings.code_dropout
        # A slope and an offset a head, fitted on validation rows after training.
        self.register_buffer("calibration", torch.tensor([[1.0, 0.0]] * heads))

    def tables(self) -> list[nn.Parameter]:
        """Return the embeddings and the wide part's weights of codes."""
        sides = (self.request_deep, self.candidate_deep, self.request_wide, self.candidate_wide)
        found = [side.table for side in sides]
        return [*found, self.cross_wide] if self.crosses else found

    def logits(
        self,
        request_ids: Tensor,
        request_numbers: Tensor,
        candidate_ids: Tensor,
        candidate_numbers: Tensor,
    ) -> Tensor:
        """Return float32 ``(N, H)``, not calibrated.

        Args:
            request_ids: int64 ``(M, R)``.
            request_numbers: float32 ``(M, P)``.
            candidate_ids: int64 ``(N, C)``.
            candidate_numbers: float32 ``(N, Q)``.
        """
        if self.training and self.code_dropout:
            request_ids = self._forget(request_ids)
            candidate_ids = self._forget(candidate_ids)
        request_line, request_pieces = self.request_scale(request_numbers)
        candidate_line, candidate_pieces = self.candidate_scale(candidate_numbers)
        request_deep = self.request_deep(request_ids).flatten(1)
        candidate_deep = self.candidate_deep(candidate_ids).flatten(1)
        request = self.request_first(torch.cat([request_deep, request_line, request_pieces], 1))
        candidate = self.candidate_first(
            torch.cat([candidate_deep, candidate_line, candidate_pieces], 1)
        )
        hidden = self.dropout(functional.relu(candidate + request))
        for layer in self.layers:
            hidden = self.dropout(functional.relu(layer(hidden)))
        wide = self.candidate_wide(candidate_ids).sum(1) + self.candidate_line(candidate_line)
        wide = wide + (self.request_wide(request_ids).sum(1) + self.request_line(request_line))
        if self.crosses:
            wide = wide + self._crossed(request_ids, candidate_ids)
        answer: Tensor = self.last(hidden) + wide
        return answer

    def forward(
        self,
        request_ids: Tensor,
        request_numbers: Tensor,
        candidate_ids: Tensor,
        candidate_numbers: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return scores float32 ``(N,)``, which rank, and all heads ``(N, H)``, calibrated."""
        logits = self.logits(request_ids, request_numbers, candidate_ids, candidate_numbers)
        scaled = logits * self.calibration[:, 0] + self.calibration[:, 1]
        columns = [
            torch.sigmoid(scaled[:, place])
            if head.kind == "binary"
            else functional.relu(scaled[:, place])
            for place, head in enumerate(self.heads)
        ]
        return columns[0], torch.stack(columns, 1)

    def _forget(self, codes: Tensor) -> Tensor:
        kept = torch.rand(codes.shape) >= self.code_dropout
        return codes * kept

    def _crossed(self, request_ids: Tensor, candidate_ids: Tensor) -> Tensor:
        columns = request_ids.shape[1]

        def column(place: int) -> Tensor:
            if place < columns:
                return request_ids[:, place]
            return candidate_ids[:, place - columns]

        total: Tensor | None = None
        for number, (left, right) in enumerate(self.crosses):
            bucket = (column(left) * _HASH + column(right)) % self.buckets + number * self.buckets
            weights = functional.embedding(bucket, self.cross_wide)
            total = weights if total is None else total + weights
        assert total is not None
        return total
