"""One question to a candidate, and to the stable model where the candidate fails it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from edgeml.core.deadline import deadline, remaining_s
from edgeml.core.predictor import Prediction, Predictor
from edgeml.errors import EdgemlError
from edgeml.serving.routing.health import CanarySettings
from edgeml.serving.routing.observing import CANDIDATE, STABLE, Observer, words_of
from edgeml.serving.routing.pairing import at_position

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Asked(Generic[Answer]):
    """What came of a question.

    Attributes:
        answer: The answer.
        by: Who gave it.
        elapsed_s: How long it took, with whatever went wrong before.
        failure: Why the candidate did not give it; empty where it did or was not asked.
    """

    answer: Answer
    by: str
    elapsed_s: float = 0.0
    failure: str = ""


class Trial:
    """Asks a candidate in such a way that its errors reach nobody.

    Args:
        stable: The model that answers for sure.
        candidate: The model that is tried.
        observer: Told of everything.
        settings: How long the candidate is waited for.
    """

    def __init__(
        self,
        stable: Predictor,
        candidate: Predictor,
        *,
        observer: Observer,
        settings: CanarySettings,
    ) -> None:
        self._stable, self._candidate = stable, candidate
        self._observer, self._settings = observer, settings

    def ask(
        self, item: Any, question: Callable[[Predictor, Any], Answer], *, by_candidate: bool
    ) -> Asked[Answer]:
        """Put a question to one model.

        Whatever the candidate raises, the stable model is asked then: a bad input it refuses
        itself, and a deadline that has passed it tells itself.
        """
        started = time.perf_counter()
        if not by_candidate:
            answer = question(self._stable, item)
            return Asked(answer, STABLE, time.perf_counter() - started)
        try:
            with deadline(self._patience_s()):
                answer = question(self._candidate, item)
        except Exception as exc:
            answer = question(self._stable, item)
            self._observer.failed(exc)
            return Asked(answer, STABLE, time.perf_counter() - started, words_of(exc))
        return Asked(answer, CANDIDATE, time.perf_counter() - started)

    def ask_batch(
        self, items: Sequence[Any], mine: Sequence[int], *, keep_errors: bool
    ) -> list[Asked[Any]]:
        """Answer items: the candidate its own, the stable model all others in one batch.

        Args:
            items: All of them.
            mine: Places of the candidate's.
            keep_errors: Whether an error stands in a bad item's place, or is raised.
        """
        found: dict[int, Any] = {}
        failures: dict[int, Exception] = {}
        for place, row in zip(mine, self._candidate_rows([items[p] for p in mine]), strict=True):
            (failures if isinstance(row, Exception) else found)[place] = row
        rest = [place for place in range(len(items)) if place not in found]
        rows = self._timed_batch(STABLE, self._stable, [items[place] for place in rest])
        stable = dict(zip(rest, rows, strict=True))
        answers: list[Asked[Any]] = []
        for place in range(len(items)):
            if place in found:
                answers.append(Asked(found[place], CANDIDATE))
                continue
            row, failure = stable[place], failures.get(place)
            if isinstance(row, EdgemlError):
                if not keep_errors:
                    raise at_position(row, place)
            elif failure is not None:
                self._observer.failed(failure)
            answers.append(Asked(row, STABLE, failure=words_of(failure) if failure else ""))
        return answers

    def _patience_s(self) -> float:
        """Return what the candidate may take: the stable model must still be able to answer."""
        return min(self._settings.candidate_timeout_s, remaining_s() / 2)

    def _candidate_rows(self, items: Sequence[Any]) -> Sequence[Any]:
        """Return the candidate's answers, or what each could not be answered for."""
        if not items:
            return []
        try:
            with deadline(self._patience_s()):
                return self._timed_batch(CANDIDATE, self._candidate, items)
        except Exception as exc:
            return [exc] * len(items)

    def _timed_batch(self, by: str, model: Predictor, items: Sequence[Any]) -> Sequence[Any]:
        if not items:
            return []
        started = time.perf_counter()
        rows = model.predict_batch(items, on_error="return")
        given = sum(isinstance(row, Prediction) for row in rows)
        self._observer.answered(by, num_items=given, elapsed_s=time.perf_counter() - started)
        return rows


def signed(row: Any, asked: Asked[Any]) -> Any:
    """Say in an answer who gave it, and why the candidate did not."""
    if not isinstance(row, Prediction):
        return row
    text = f"{asked.by}:{row.served_by}"
    if asked.failure:
        text += f" (candidate failed: {asked.failure})"
    return replace(row, served_by=text)
