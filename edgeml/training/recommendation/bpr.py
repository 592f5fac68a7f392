"""Matrix factorisation by Bayesian personalised ranking (Rendle et al. 2009), in torch.

A user should score an item of theirs above one that is not theirs: pairs are drawn uniformly over
the log and over the items that the user does not have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgeml.errors import DataError
from edgeml.training.recommendation.best_so_far import BestSoFar
from edgeml.training.recommendation.retrieval_settings import BprSettings

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class BprArrays:
    """What was learned, as arrays.

    Attributes:
        user_table: float32 ``(num_users, dimension + 1)``; the last entry is 1.
        item_vectors: float32 ``(num_items, dimension + 1)``; the last entry is the item's bias.
        known: float32 ``(num_users,)``: 1 for users of the log.
    """

    user_table: FloatArray
    item_vectors: FloatArray
    known: FloatArray


def train_bpr(
    users: IntArray,
    items: IntArray,
    *,
    num_users: int,
    num_items: int,
    settings: BprSettings | None = None,
    judge: Callable[[BprArrays], float] | None = None,
) -> BestSoFar[BprArrays]:
    """Train on an interaction log of positives.

    Args:
        users: int64 ``(rows,)`` codes; rows with user or item 0 are left out.
        items: int64 ``(rows,)`` codes.
        num_users: User codes.
        num_items: Item codes.
        settings: Sizes and schedule.
        judge: Validation figure of a candidate, higher is better, for early stopping.

    Returns:
        The best arrays, their figure and epoch.

    Raises:
        DataError: No row is left to train on, or training diverged.
    """
    settings = settings or BprSettings()
    kept = (users != 0) & (items != 0)
    users, items = users[kept], items[kept]
    if users.size == 0:
        raise DataError(source="training log", reason="no row has a known user and item")
    generator = torch.Generator().manual_seed(settings.seed)
    owned = _owned_pairs(users, items, num_items)
    model = _Factors(num_users, num_items, settings.dimension, generator)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    pairs = torch.from_numpy(np.stack([users, items], axis=1))
    best = BestSoFar[BprArrays](judge=judge, patience=settings.patience)
    known = np.bincount(users, minlength=num_users) > 0
    for epoch in range(1, settings.max_epochs + 1):
        order = torch.randperm(len(pairs), generator=generator)
        for rows in torch.split(order, settings.batch):
            user, positive = pairs[rows].unbind(1)
            negative = _negatives(user, owned, num_items, generator)
            loss = model.loss(user, positive, negative, l2=settings.l2)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        if epoch % settings.look_every == 0 or epoch == settings.max_epochs:
            best.look(_arrays(model, known), epoch=epoch)
            if best.stop:
                break
    return best


class _Factors(nn.Module):
    def __init__(
        self, num_users: int, num_items: int, dimension: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        scale = dimension**-0.5
        self.users = nn.Parameter(scale * torch.randn(num_users, dimension, generator=generator))
        self.items = nn.Parameter(scale * torch.randn(num_items, dimension, generator=generator))
        self.biases = nn.Parameter(torch.zeros(num_items))

    def loss(self, user: Tensor, positive: Tensor, negative: Tensor, *, l2: float) -> Tensor:
        who, liked, other = self.users[user], self.items[positive], self.items[negative]
        difference = (who * (liked - other)).sum(1) + self.biases[positive] - self.biases[negative]
        size = (who**2).sum(1) + (liked**2).sum(1) + (other**2).sum(1)
        return nn.functional.softplus(-difference).mean() + l2 * size.mean()


def _owned_pairs(users: IntArray, items: IntArray, num_items: int) -> Tensor:
    return torch.from_numpy(np.unique(users * num_items + items))


def _negatives(user: Tensor, owned: Tensor, num_items: int, generator: torch.Generator) -> Tensor:
    """Draw an item for each row that its user does not have; after ten tries, any."""
    drawn = torch.randint(1, num_items, user.shape, generator=generator)
    for _ in range(10):
        cell = user * num_items + drawn
        place = torch.searchsorted(owned, cell).clamp(max=len(owned) - 1)
        taken = owned[place] == cell
        if not taken.any():
            break
        again = torch.randint(1, num_items, (int(taken.sum()),), generator=generator)
        drawn[taken] = again
    return drawn


def _arrays(model: _Factors, known: npt.NDArray[np.bool_]) -> BprArrays:
    with torch.no_grad():
        users, items, biases = (
            parameter.detach().numpy().copy()
            for parameter in (model.users, model.items, model.biases)
        )
    if not (np.isfinite(users).all() and np.isfinite(items).all()):
        raise DataError(source="training log", reason="training diverged; lower the learning rate")
    return BprArrays(
        user_table=np.concatenate([users, np.ones((len(users), 1), np.float32)], axis=1),
        item_vectors=np.concatenate([items, biases[:, None]], axis=1),
        known=known.astype(np.float32),
    )
