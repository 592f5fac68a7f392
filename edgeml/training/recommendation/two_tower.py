"""A tower for users and one for items, trained by in-batch softmax, in torch.

Each row's item competes with the other rows' items. Popular items are in more batches than rare
ones, so the logarithm of how often an item is drawn is taken off its logit (Yi et al. 2019);
without it the model learns to shun what is popular. An item that the row's user has anyway is no
negative, and the history that a row is predicted from does not hold the row's own item.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgeml.errors import DataError, InputError
from edgeml.training.recommendation.best_so_far import BestSoFar
from edgeml.training.recommendation.retrieval_settings import TwoTowerSettings

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
LayerArrays = tuple[FloatArray, FloatArray]


@dataclass(frozen=True, kw_only=True)
class TwoTowerArrays:
    """What was learned, as arrays.

    Attributes:
        user_table: float32 ``(num_users, width)``; users without a row have row 0's embedding.
        event_table: float32 ``(num_items, width)``.
        user_features: float32 ``(num_users, features)`` as they were given.
        user_layers: Weight ``(inputs, outputs)`` and bias of the hidden and the last layer.
        item_vectors: float32 ``(num_items, dimension)``, of length 1.
        unknown_item: float32 ``(width,)``.
        item_layers: As ``user_layers``.
    """

    user_table: FloatArray
    event_table: FloatArray
    user_features: FloatArray
    user_layers: tuple[LayerArrays, LayerArrays]
    item_vectors: FloatArray
    unknown_item: FloatArray
    item_layers: tuple[LayerArrays, LayerArrays]


@dataclass(frozen=True, kw_only=True)
class InteractionPairs:
    """A log of positives, each pair once, and what is known of users and items.

    Attributes:
        users: int64 ``(rows,)`` codes above 0, ascending.
        items: int64 ``(rows,)`` codes above 0, in the log's order within a user.
        user_features: float32 ``(num_users, features)``; row 0 stands for anybody.
        item_features: float32 ``(num_items, features)``.
    """

    users: IntArray
    items: IntArray
    user_features: FloatArray
    item_features: FloatArray

    @classmethod
    def of(
        cls,
        users: IntArray,
        items: IntArray,
        *,
        user_features: FloatArray,
        item_features: FloatArray,
    ) -> InteractionPairs:
        """Gather a log; its length without features is said by arrays of no columns.

        Raises:
            InputError: A feature is not finite, or a code has no row of features.
            DataError: No row is left to train on.
        """
        for name, features, codes in (
            ("user", user_features, users),
            ("item", item_features, items),
        ):
            if not np.isfinite(features).all():
                raise InputError(f"{name} features hold NaN or infinity; finite ones were expected")
            if codes.size and int(codes.max()) >= len(features):
                raise InputError(
                    f"{name} code {int(codes.max())} has no row among {len(features)} of features"
                )
        kept = np.flatnonzero((users != 0) & (items != 0))
        cells = users[kept] * len(item_features) + items[kept]
        _, first = np.unique(cells, return_index=True)
        kept = kept[np.sort(first)]
        kept = kept[np.argsort(users[kept], kind="stable")]
        if kept.size == 0:
            raise DataError(source="training log", reason="no row has a known user and item")
        return cls(
            users=users[kept],
            items=items[kept],
            user_features=user_features.astype(np.float32),
            item_features=item_features.astype(np.float32),
        )


def train_two_tower(
    pairs: InteractionPairs,
    *,
    settings: TwoTowerSettings | None = None,
    judge: Callable[[TwoTowerArrays], float] | None = None,
) -> BestSoFar[TwoTowerArrays]:
    """Train both towers.

    Args:
        pairs: The log and the features.
        settings: Sizes and schedule.
        judge: Validation figure of a candidate, higher is better, for early stopping.

    Returns:
        The best arrays, their figure and epoch.

    Raises:
        DataError: Training diverged.
    """
    settings = settings or TwoTowerSettings()
    generator = torch.Generator().manual_seed(settings.seed)
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        model = _Towers(pairs, settings)
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        best = BestSoFar[TwoTowerArrays](judge=judge, patience=settings.patience)
        for epoch in range(1, settings.max_epochs + 1):
            model.train()
            order = torch.randperm(pairs.users.size, generator=generator)
            for rows in torch.split(order, settings.batch):
                optimizer.zero_grad()
                torch.autograd.backward(model.loss(rows))
                optimizer.step()
            if epoch % settings.look_every == 0 or epoch == settings.max_epochs:
                best.look(model.arrays(), epoch=epoch)
                if best.stop:
                    break
    return best


@dataclass(frozen=True, kw_only=True)
class _History:
    """The events of a batch's users, each user once, and which of them each row's user is."""

    row: Tensor
    events: Tensor
    offsets: Tensor
    lengths: Tensor


class _Towers(nn.Module):
    """The module; it holds the log as well, since a row's inputs are made of others' rows."""

    def __init__(self, pairs: InteractionPairs, settings: TwoTowerSettings) -> None:
        super().__init__()
        self.settings = settings
        self.users, self.items = torch.from_numpy(pairs.users), torch.from_numpy(pairs.items)
        self.user_features = torch.from_numpy(pairs.user_features)
        self.item_features = torch.from_numpy(pairs.item_features)
        num_users, num_items = len(self.user_features), len(self.item_features)
        width = settings.width
        self.user_table = nn.Parameter(0.1 * torch.randn(num_users, width))
        self.event_table = nn.Parameter(0.1 * torch.randn(num_items, width))
        self.item_table = nn.Parameter(0.1 * torch.randn(num_items, width))
        self.user_tower = self._tower(2 * width + self.user_features.shape[1])
        self.item_tower = self._tower(width + self.item_features.shape[1])
        counts = torch.bincount(self.items, minlength=num_items).clamp(min=1)
        self.log_share = torch.log(counts / counts.sum())
        # The last events of each user; a row's own item is taken off where it is among them.
        ends = torch.from_numpy(np.cumsum(np.bincount(pairs.users, minlength=num_users)))
        self.starts = torch.cat([torch.zeros(1, dtype=torch.int64), ends[:-1]])
        self.starts = torch.maximum(self.starts, ends - settings.max_history)
        self.ends = ends
        place = torch.arange(len(self.users))
        self.in_history = (place >= self.starts[self.users]).float()

    def _tower(self, inputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Dropout(self.settings.dropout),
            nn.Linear(inputs, self.settings.hidden),
            nn.ReLU(),
            nn.Linear(self.settings.hidden, self.settings.dimension),
        )

    def loss(self, rows: Tensor) -> Tensor:
        """Return the softmax loss of a batch of rows of the log."""
        users, items = self.users[rows], self.items[rows]
        history = self._history(users)
        queries = self._user_vectors(users, items, self.in_history[rows], history)
        targets = self._item_vectors(items)
        logits = queries @ targets.T / self.settings.temperature - self.log_share[items]
        logits = logits.masked_fill(self._other_items_of_theirs(items, history), float("-inf"))
        return nn.functional.cross_entropy(logits, torch.arange(len(rows)))

    def _user_vectors(
        self, users: Tensor, items: Tensor, in_history: Tensor, history: _History
    ) -> Tensor:
        sums = nn.functional.embedding_bag(
            history.events, self.event_table, history.offsets, mode="sum"
        )
        sums = sums[history.row] - in_history[:, None] * self.event_table[items]
        counts = history.lengths[history.row] - in_history
        mean = sums / counts.clamp(min=1)[:, None]
        codes = self._hidden_codes(users)
        inputs = torch.cat([self.user_table[codes], mean, self.user_features[users]], dim=1)
        return nn.functional.normalize(self.user_tower(inputs))

    def _history(self, users: Tensor) -> _History:
        unique, row = torch.unique(users, return_inverse=True)
        lengths = self.ends[unique] - self.starts[unique]
        offsets = torch.cumsum(lengths, 0) - lengths
        within = torch.arange(int(lengths.sum())) - torch.repeat_interleave(offsets, lengths)
        events = self.items[torch.repeat_interleave(self.starts[unique], lengths) + within]
        return _History(row=row, events=events, offsets=offsets, lengths=lengths)

    def _other_items_of_theirs(self, items: Tensor, history: _History) -> Tensor:
        """Return which of the batch's items a row's user has, its own item left out."""
        unique, column = torch.unique(items, return_inverse=True)
        columns = torch.full((len(self.item_features),), -1)
        columns[unique] = torch.arange(len(unique))
        owner = torch.repeat_interleave(torch.arange(len(history.lengths)), history.lengths)
        place = columns[history.events]
        has = torch.zeros(len(history.lengths), len(unique), dtype=torch.bool)
        has[owner[place >= 0], place[place >= 0]] = True
        others = has[history.row][:, column] | (items[:, None] == items)
        return others.fill_diagonal_(fill_value=False)

    def _item_vectors(self, items: Tensor) -> Tensor:
        # Without features an item that is hidden could not be told from any other.
        codes = self._hidden_codes(items) if self.item_features.shape[1] else items
        inputs = torch.cat([self.item_table[codes], self.item_features[items]], dim=1)
        return nn.functional.normalize(self.item_tower(inputs))

    def _hidden_codes(self, codes: Tensor) -> Tensor:
        if not self.training:
            return codes
        hidden = torch.rand(codes.shape) < self.settings.code_dropout
        return torch.where(hidden, 0, codes)

    def arrays(self) -> TwoTowerArrays:
        """Return copies of what was learned so far."""
        self.eval()
        with torch.no_grad():
            seen = torch.bincount(self.users, minlength=len(self.user_table)) > 0
            sold = torch.bincount(self.items, minlength=len(self.item_table)) > 0
            users = torch.where(seen[:, None], self.user_table, self.user_table[0])
            events = torch.where(sold[:, None], self.event_table, 0)
            items = torch.where(sold[:, None], self.item_table, self.item_table[0])
            inputs = torch.cat([items, self.item_features], dim=1)
            vectors = nn.functional.normalize(self.item_tower(inputs))
        if not torch.isfinite(vectors).all():
            raise DataError(source="training log", reason="training diverged; learn more slowly")
        return TwoTowerArrays(
            user_table=users.numpy().copy(),
            event_table=events.numpy().copy(),
            user_features=self.user_features.numpy(),
            user_layers=_layers(self.user_tower),
            item_vectors=vectors.numpy().copy(),
            unknown_item=self.item_table[0].detach().numpy().copy(),
            item_layers=_layers(self.item_tower),
        )


def _layers(tower: nn.Sequential) -> tuple[LayerArrays, LayerArrays]:
    state = tower.state_dict()
    first, last = (
        (state[f"{place}.weight"].numpy().T.copy(), state[f"{place}.bias"].numpy().copy())
        for place in (1, 3)
    )
    return first, last
