"""Who is asked in an evaluation, what is known of them, and what they turned out to want."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeml.errors import DataError
from edgeml.recommending.pipeline import Request
from edgeml.recommending.retrieval.histories import Histories
from edgeml.tasks.recommendation.interactions import Interactions

if TYPE_CHECKING:  # a device that recommends reads no logs, and needs no reader of them
    from edgeml.data.interactions.preparing import Prepared


@dataclass(frozen=True, kw_only=True)
class EvaluationPart:
    """One request a user who wanted something in the part.

    Attributes:
        name: ``validation`` or ``test``.
        users: int64 ``(requests,)``, codes.
        histories: What each is known to have wanted, oldest first.
        seen: What is not recommended to them again.
        relevant: What they wanted in the part and had not before; codes beyond the catalogue are
            items that cannot be recommended.
        at_ms: The moment of the requests.
        known: The events that are known then.
    """

    name: str
    users: npt.NDArray[np.int64]
    histories: Histories
    seen: Histories
    relevant: Histories
    at_ms: int
    known: Interactions

    def __len__(self) -> int:
        return len(self.users)

    def request(self, row: int) -> Request:
        """Return one request as the pipeline takes it."""
        return Request(
            user=int(self.users[row]),
            history=self.histories[row],
            seen=self.seen[row],
            at_ms=self.at_ms,
        )

    def sample(self, count: int, *, seed: int) -> EvaluationPart:
        """Return at most ``count`` of the requests, drawn at random."""
        if count >= len(self):
            return self
        return self.rows(np.sort(np.random.default_rng(seed).permutation(len(self))[:count]))

    def rows(self, rows: npt.NDArray[np.int64]) -> EvaluationPart:
        """Return some of the requests, by their numbers."""
        return EvaluationPart(
            name=self.name,
            users=self.users[rows],
            histories=self.histories.rows(rows),
            seen=self.seen.rows(rows),
            relevant=self.relevant.rows(rows),
            at_ms=self.at_ms,
            known=self.known,
        )


def evaluation_part(prepared: Prepared, name: str) -> EvaluationPart:
    """Return the requests of ``validation`` or ``test``.

    Under the temporal split everything before the part is known: of the test part, validation too.
    Under the random one, as RecBole does it, models and histories are train's, and validation is
    masked at test.

    Raises:
        DataError: Nobody wants anything new in the part.
    """
    rows = prepared.split.validation if name == "validation" else prepared.split.test
    before = prepared.train
    if name == "test":
        before = before.followed_by(prepared.validation)
    random = prepared.rule.kind == "random"
    known = prepared.train if random else before
    latest = int(prepared.events.times_ms.max()) + 1
    at_ms = latest if random else int(prepared.events.times_ms[rows].min())
    part = part_of(
        name,
        prepared.events.take(rows),
        before=before,
        known=known,
        at_ms=at_ms,
        num_users=len(prepared.user_ids),
        num_items=prepared.num_items,
    )
    if not len(part):
        reason = (
            f"nobody in its {name} part ({len(rows)} rows) wants an item that they had not wanted "
            "before; more rows or another 'split' in the schema was expected"
        )
        raise DataError(source=prepared.log.name, reason=reason)
    return part


def part_of(
    name: str,
    events: Interactions,
    *,
    before: Interactions,
    known: Interactions,
    at_ms: int,
    num_users: int,
    num_items: int,
) -> EvaluationPart:
    """Return requests whose answers are what was newly wanted in some events.

    Args:
        name: Of the part.
        events: What users then did.
        before: What was wanted in these is masked.
        known: What is known at the moment of the requests.
        at_ms: That moment.
        num_users: User codes.
        num_items: Item codes of the catalogue.
    """
    seen = histories_of(before, num_users=num_users, num_items=num_items)
    histories = histories_of(known, num_users=num_users, num_items=num_items)
    relevant = _relevant(events, before, num_users=num_users)
    users = np.flatnonzero(relevant.lengths)
    return EvaluationPart(
        name=name,
        users=users,
        histories=histories.rows(users),
        seen=seen.rows(users),
        relevant=relevant.rows(users),
        at_ms=at_ms,
        known=known,
    )


def histories_of(events: Interactions, *, num_users: int, num_items: int) -> Histories:
    """Return what each user wanted, distinct, oldest first; only what the catalogue has."""
    wanted = events.positives()
    wanted = wanted.take(wanted.items < num_items)
    order = np.argsort(wanted.times_ms, kind="stable")
    return Histories.by_user(
        wanted.users[order], wanted.items[order], num_users=num_users
    ).distinct()


def _relevant(events: Interactions, before: Interactions, *, num_users: int) -> Histories:
    """Return what is newly wanted: a pair that was wanted before is neither shown nor counted."""
    wanted, had = events.positives(), before.positives()
    width = int(max(wanted.items.max(initial=0), had.items.max(initial=0))) + 1
    new = ~np.isin(wanted.users * width + wanted.items, had.users * width + had.items)
    wanted = wanted.take(new)
    return Histories.by_user(wanted.users, wanted.items, num_users=num_users).distinct()
