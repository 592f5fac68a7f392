"""What a ranker is trained for: rows by themselves, or a request's candidates as rivals.

Labels that are NaN are not known and count for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from edgeml.tasks.recommendation.ranking import Head


def head_losses(logits: Tensor, labels: Tensor, heads: Sequence[Head], others: float) -> Tensor:
    """Return cross-entropy of the binary heads plus Huber loss of the amounts.

    Args:
        logits: float32 ``(rows, heads)``.
        labels: float32 ``(rows, heads)``.
        heads: Their kinds.
        others: Weight of all but the first.
    """
    total = logits.new_zeros(())
    for place, head in enumerate(heads):
        known = ~torch.isnan(labels[:, place])
        wanted = labels[:, place].nan_to_num(0.0)
        if head.kind == "binary":
            rows = functional.binary_cross_entropy_with_logits(
                logits[:, place], wanted, reduction="none"
            )
        else:
            rows = functional.huber_loss(logits[:, place], wanted, reduction="none")
        loss = (rows * known).sum() / known.sum().clamp(min=1)
        total = total + (loss if place == 0 else others * loss)
    return total


def listwise_loss(scores: Tensor, labels: Tensor, groups: Tensor) -> Tensor:
    """Return the softmax cross-entropy of the positives within their groups.

    Args:
        scores: float32 ``(rows,)``.
        labels: float32 ``(rows,)``, 1 and 0.
        groups: int64 ``(rows,)``, numbered from 0 without gaps.
    """
    count = int(groups.max()) + 1
    highest = scores.new_full((count,), -torch.inf).scatter_reduce(0, groups, scores, "amax")
    shifted = (scores - highest.detach()[groups]).exp()
    total = scores.new_zeros(count).index_add(0, groups, shifted)
    log_share = scores - highest.detach()[groups] - total.log()[groups]
    positive = (labels > 0.5).float()
    each = scores.new_zeros(count).index_add(0, groups, positive)
    # Each request counts once, however many positives it has.
    weight = positive / each.clamp(min=1)[groups]
    return -(weight * log_share).sum() / (each > 0).sum().clamp(min=1)
