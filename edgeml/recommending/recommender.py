"""``recommend``: ids in, ids out, over one bundle's pipeline. Imports no torch.

The order of a request: retrieve, rank, fuse, rules, diversify, tell. Rules and the exposure log are
seams: functions that the caller brings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgeml.core.closing import Closing
from edgeml.errors import ClosedError, InputError
from edgeml.recommending.pipeline import Pipeline, Request, Shortlist
from edgeml.recommending.reranking import rerank_by_margin
from edgeml.tasks.recommendation.features import context_codes
from edgeml.tasks.recommendation.recommendation import Recommendation

Integers = npt.NDArray[np.int64]
_MOST_ITEMS = 10_000


class Rule(Protocol):
    """Changes a shortlist before it is cut to ``k``: business rules of the caller."""

    def __call__(self, request: Request, shortlist: Shortlist) -> Shortlist:
        """Return what may be shown, in its order."""
        ...


Exposure = Callable[[Request, Sequence[Recommendation]], None]


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """Ids by code, and what users did.

    Attributes:
        user_ids: Text by user code; row 0 is nobody.
        item_ids: Text by item code; row 0 is no item.
        liked_offsets: int64 ``(users + 1,)``: where each user's items begin.
        liked_items: int64 ``(events,)``: distinct items that each user wanted, oldest first.
        vectors: float32 ``(items, d)``, rows of length 1 or 0: what items are like, for diversity
            and reasons.
        as_of_ms: The moment after the log's last event: when requests happen unless told.
    """

    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    liked_offsets: Integers
    liked_items: Integers
    vectors: npt.NDArray[np.float32]
    as_of_ms: int

    def liked(self, user: int) -> Integers:
        """Return what a user wanted, oldest first; nothing for a code that is not known."""
        if not 0 < user < len(self.liked_offsets) - 1:
            return np.zeros(0, dtype=np.int64)
        return self.liked_items[self.liked_offsets[user] : self.liked_offsets[user + 1]]


class Recommender(Closing):
    """Answers ``recommend``. Safe to call from several threads; a context manager that closes.

    Args:
        pipeline: The stages.
        catalogue: Ids and histories.
        served_by: Engine, device, variant and version of the ranker.
        close: Releases what the stages hold.
        rules: Applied in their order.
        on_exposure: Told of each answer.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        catalogue: Catalogue,
        *,
        served_by: str,
        close: Callable[[], None] = lambda: None,
        rules: Sequence[Rule] = (),
        on_exposure: Exposure | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.catalogue = catalogue
        self.served_by = served_by
        self._close = close
        self._rules = tuple(rules)
        self._on_exposure = on_exposure
        self._closed = False
        self._users = {text: code for code, text in enumerate(catalogue.user_ids) if code}
        self._items = {text: code for code, text in enumerate(catalogue.item_ids) if code}

    def recommend(
        self,
        user: str | int | None = None,
        k: int = 20,
        history: Iterable[str | int] | None = None,
        candidates: Iterable[str | int] | None = None,
        *,
        context: Mapping[str, Any] | None = None,
        at_ms: int | None = None,
    ) -> list[Recommendation]:
        """Recommend items that the user has not had yet.

        Args:
            user: Id as the log wrote it; None, or an id that the log did not have, is answered by
                ``history`` or else by what is popular, and the reasons say so.
            k: How many; fewer where fewer are left.
            history: Ids of items that the user wanted, oldest first, in the place of what the log
                says; ids that the catalogue lacks are left out.
            candidates: Ids among which to choose; None: the whole catalogue.
            context: What is known of the request, by the names of the schema's context columns.
            at_ms: The moment in milliseconds since 1970; None: the end of the log.

        Returns:
            Best first.

        Raises:
            InputError: ``k`` is out of range, an argument has a wrong kind, a candidate's id is
                given twice or is empty, no candidate is in the catalogue, or none is left that the
                user has not had.
            ClosedError: The recommender is closed.
        """
        if self._closed:
            raise ClosedError
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= _MOST_ITEMS:
            raise InputError(
                f"k is {k!r}; a whole number from 1 to {_MOST_ITEMS} was expected",
                limit="k",
                got=k,
            )
        request, notes = self._request(user, history, candidates, context, at_ms)
        shortlist = self.pipeline.shortlist(request)
        if k > len(shortlist.items) == self.pipeline.policy.num_candidates:
            shortlist = self._longer(request, shortlist, k)
        for rule in self._rules:
            shortlist = rule(request, shortlist)
        if not len(shortlist.items):
            raise InputError(
                "no item is left: what was asked for is all seen or filtered out; wider candidates "
                "or another user were expected"
            )
        chosen = self._diversified(shortlist, k)
        answer = [self._told(request, shortlist, int(place), notes) for place in chosen]
        if self._on_exposure is not None:
            self._on_exposure(request, answer)
        return answer

    def close(self) -> None:
        """Release what the stages hold; a second call does nothing."""
        if not self._closed:
            self._closed = True
            self._close()

    def _request(
        self,
        user: str | int | None,
        history: Iterable[str | int] | None,
        candidates: Iterable[str | int] | None,
        context: Mapping[str, Any] | None,
        at_ms: int | None,
    ) -> tuple[Request, tuple[str, ...]]:
        code = self._users.get(_id_text(user, "user"), 0) if user is not None else 0
        liked = seen = self.catalogue.liked(code)
        notes: list[str] = []
        if history is not None:
            given = [self._items.get(text, 0) for text in _ids(history, "history")]
            liked = np.asarray([item for item in given if item], dtype=np.int64)
            seen = np.union1d(seen, liked)
            if given and not len(liked):
                notes.append("no item of the history is in the catalogue")
        elif user is not None and code == 0:
            notes.append("unknown user")
        elif not len(liked):
            notes.append("no history")
        allowed = self._allowed(candidates, seen)
        try:
            context_ids = context_codes(self.pipeline.features.context, context or {})
        except (KeyError, TypeError, ValueError) as exc:
            known = ", ".join(row.name for row in self.pipeline.features.context) or "none"
            raise InputError(
                f"the context has {exc}, which does not fit; known names: {known}; mend it"
            ) from exc
        request = Request(
            user=code,
            history=liked,
            seen=seen,
            at_ms=self.catalogue.as_of_ms if at_ms is None else at_ms,
            allowed=allowed,
            context_ids=context_ids,
            given=history is not None,
        )
        return request, tuple(notes)

    def _allowed(
        self, candidates: Iterable[str | int] | None, seen: Integers
    ) -> npt.NDArray[np.bool_] | None:
        if candidates is None:
            return None
        texts = _ids(candidates, "candidates")
        if len(set(texts)) != len(texts):
            twice = next(text for text in texts if texts.count(text) > 1)
            raise InputError(
                f"the candidate '{twice}' is given twice; each id once was expected; remove it"
            )
        codes = [self._items[text] for text in texts if text in self._items]
        if not codes:
            raise InputError(
                f"none of the {len(texts)} candidates is in the catalogue of "
                f"{len(self._items)} items; ids as in the log were expected; check them"
            )
        allowed = np.zeros(len(self.catalogue.item_ids), dtype=bool)
        allowed[codes] = True
        allowed[seen] = False
        if not allowed.any():
            raise InputError(
                f"no candidate is left: the user has had all {len(codes)} that are in the "
                "catalogue; others were expected; give more candidates"
            )
        return allowed

    def _longer(self, request: Request, ranked: Shortlist, k: int) -> Shortlist:
        """Put retrieval's further items behind what was ranked, for a ``k`` beyond it."""
        items, scores, by_popularity = self.pipeline.retrieve(request, k)
        rest = ~np.isin(items, ranked.items)
        below = float(ranked.scores.min()) - 1 - np.arange(int(rest.sum()), dtype=np.float32)
        return Shortlist(
            items=np.concatenate([ranked.items, items[rest]]),
            retrieval=np.concatenate([ranked.retrieval, scores[rest]]),
            ranking=np.concatenate([ranked.ranking, np.full(int(rest.sum()), np.nan, np.float32)]),
            scores=np.concatenate([ranked.scores, below]),
            by_popularity=by_popularity,
        )

    def _diversified(self, shortlist: Shortlist, k: int) -> Integers:
        """Return places in the shortlist, at most ``k``."""
        policy = self.pipeline.policy
        count = min(k, len(shortlist.items))
        if policy.diversity_weight >= 1 or count < 2:
            return np.arange(count)
        near = min(max(policy.diversified, count), len(shortlist.items))
        places = rerank_by_margin(
            shortlist.scores[:near],
            self.catalogue.vectors[shortlist.items[:near]],
            k=count,
            weight=policy.diversity_weight,
        )
        return np.asarray(places, dtype=np.int64)

    def _told(
        self, request: Request, shortlist: Shortlist, place: int, notes: tuple[str, ...]
    ) -> Recommendation:
        item = int(shortlist.items[place])
        reasons = ("popular", *notes) if shortlist.by_popularity else self._because(request, item)
        return Recommendation(
            item=self.catalogue.item_ids[item],
            score=round(float(shortlist.scores[place]), 6),
            reasons=reasons,
        )

    def _because(self, request: Request, item: int) -> tuple[str, ...]:
        """Name the item of the history that lies nearest, if any lies near."""
        vectors = self.catalogue.vectors
        near = vectors[request.history] @ vectors[item]
        if near.max() <= 0:
            return ("popular among users like you",)
        closest = int(request.history[int(near.argmax())])
        return (f"because you liked {self.catalogue.item_ids[closest]}",)


def _ids(values: Iterable[str | int], what: str) -> list[str]:
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise InputError(f"{what} is {type(values).__name__}; a list of ids was expected")
    return [_id_text(value, what) for value in values]


def _id_text(value: object, what: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, np.integer)) or value == "":
        raise InputError(
            f"{what} holds {value!r}; an id as the log wrote it, text or whole number, was expected"
        )
    return str(value)
