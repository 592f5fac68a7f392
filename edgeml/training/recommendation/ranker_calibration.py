"""Platt's calibration: a slope and an offset a head, fitted on rows that trained nothing.

It lies inside the graph, changes no order, and makes a probability of 0.3 come true three times in
ten where these rows are like those of production.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_STEPS = 50
# A handful of labels, or one class alone, would bend the slope to anything.
_FEWEST = 50


def platt(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return the slope and offset of least cross-entropy; 1 and 0 where labels are too few.

    Args:
        logits: float32 ``(rows,)``.
        labels: float32 ``(rows,)``, 1, 0 or NaN.
    """
    known = ~torch.isnan(labels)
    logits, labels = logits[known].double(), labels[known].double()
    if min(float(labels.sum()), float((1 - labels).sum())) < _FEWEST:
        return 1.0, 0.0
    values = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([values], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(logits * values[0] + values[1], labels)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    slope, offset = values.detach().tolist()
    # A slope that is not positive would turn the ranking over.
    return (slope, offset) if slope > 1e-3 else (1.0, 0.0)
