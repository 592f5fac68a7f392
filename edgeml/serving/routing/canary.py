"""A canary: a share of the keys is answered by a candidate, and it is watched while it answers.

Who answers is decided in the client, by a hash of a key: a version number inside one model name on
a server would reach strangers as well, so the candidate is a model of its own name there.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, Literal, TypeVar, overload

import numpy.typing as npt

from edgeml.core.closing import Closing
from edgeml.core.deadline import remaining_s
from edgeml.core.gate import Gate
from edgeml.core.identity import ModelIdentity, identity_of
from edgeml.core.predictor import Prediction, Predictor
from edgeml.core.signature import ModelSignature, Tensors
from edgeml.errors import ClosedError, EdgemlError, InputError
from edgeml.serving.routing.assignment import Key, content_of, key_bytes, place_of
from edgeml.serving.routing.comparing import CanaryReport
from edgeml.serving.routing.health import CanarySettings
from edgeml.serving.routing.metrics import Metrics
from edgeml.serving.routing.observing import CANDIDATE, STABLE, Observer, copied
from edgeml.serving.routing.pairing import check_pair, check_same_inputs, join_metrics, listed
from edgeml.serving.routing.promotion import Decision, Decisions
from edgeml.serving.routing.trying import Asked, Trial, signed

Answer = TypeVar("Answer")
_KEY: ContextVar[bytes | None] = ContextVar("edgeml_canary_key", default=None)


class CanaryPredictor(Closing):
    """A :class:`~edgeml.core.predictor.Predictor` of which a candidate answers a share.

    What the candidate cannot answer is answered by the stable model: its errors reach no caller. A
    caller's own bad input does, since the stable model refuses it as well. ``Prediction.served_by``
    begins with ``stable:`` or ``candidate:``.

    Args:
        stable: The model that answers for sure.
        candidate: The model that is tried.
        share: Share of the keys that the candidate answers, from 0 to 1.
        shadow: Share of the answers for which the other model is asked as well, in the background.
        key: Gives an item's key, or that of a feed of tensors; None takes its contents.
        settings: When the candidate is stopped, and what it may cost.
        close_members: Whether both are closed with it.

    Raises:
        InputError: The two do not answer in the same words, or a share is no fraction.
    """

    def __init__(
        self,
        stable: Predictor,
        candidate: Predictor,
        *,
        share: float,
        shadow: float,
        key: Callable[[Any], Key] | None = None,
        settings: CanarySettings | None = None,
        close_members: bool = True,
    ) -> None:
        self._pair = check_pair(stable, candidate, names=(STABLE, CANDIDATE))
        self._settings = settings or CanarySettings()
        self._stable, self._candidate = stable, candidate
        self._key, self._shadow = key, _fraction("shadow", shadow)
        self._salt = self._settings.salt or _salt_of(candidate)
        self._random = random.Random(self._settings.seed)
        self._random_lock = threading.Lock()
        self._close_members = close_members
        self._closed = False
        self.metrics = Metrics(model=self._pair.name)
        join_metrics(self.metrics, {STABLE: stable, CANDIDATE: candidate})
        self._observer = Observer(
            stable, candidate, pair=self._pair, settings=self._settings, metrics=self.metrics
        )
        self._trial = Trial(stable, candidate, observer=self._observer, settings=self._settings)
        self._decisions = Decisions()
        self._share = 0.0
        self.set_share(share)

    @property
    def signature(self) -> ModelSignature:
        """Inputs and outputs of the stable model."""
        return self._stable.signature

    @property
    def served_by(self) -> str:
        """Both who may answer; the answer itself says who did: ``Prediction.served_by``."""
        return f"{STABLE}:{self._stable.served_by}|{CANDIDATE}:{self._candidate.served_by}"

    @property
    def identity(self) -> ModelIdentity | None:
        """Which model the stable one is, where it knows."""
        return identity_of(self._stable)

    @property
    def candidate(self) -> Predictor:
        """The model that is tried."""
        return self._candidate

    @property
    def share(self) -> float:
        """Share of the keys that the candidate answers now; 0 once it was stopped."""
        return 0.0 if self._observer.stopped is not None else self._share

    @property
    def stopped(self) -> str | None:
        """Why the candidate was stopped; None where it was not."""
        return self._observer.stopped

    def set_share(self, share: float) -> None:
        """Change the share; a larger one takes no key back from the candidate.

        Raises:
            InputError: It is no fraction, or the candidate was stopped.
        """
        _fraction("share", share)
        if self._observer.stopped is not None and share:
            raise InputError(
                f"the candidate was stopped ({self._observer.stopped}); a share of 0 was expected; "
                "make a new canary once it is mended"
            )
        self._share = share
        self._observer.counts.share.set(share)

    def stop(self, reason: str = "by hand") -> None:
        """End the candidate's share and all comparisons; once is enough."""
        self._observer.stop("hand", reason)

    @contextlib.contextmanager
    def keyed(self, key: Key) -> Iterator[None]:
        """Give all calls inside the block one key, such as the id of a user.

        Raises:
            InputError: The key is neither text, bytes nor a whole number.
        """
        token = _KEY.set(key_bytes(key))
        try:
            yield
        finally:
            _KEY.reset(token)

    def report(self) -> CanaryReport:
        """Return what was seen so far."""
        return self._observer.report(share=self.share)

    def finish_comparing(self, *, timeout_s: float = 30.0) -> bool:
        """Wait until every comparison that was taken is made; return whether it came in time."""
        return self._observer.finish(timeout_s)

    def metrics_text(self) -> str:
        """Return what happened so far, as OpenMetrics text."""
        return self.metrics.text()

    def feedback(self, item: Any, label: str | Collection[str]) -> bool:
        """Tell the right label of an item; both models answer it in the background, and are judged.

        Args:
            item: What the models accept.
            label: Its label; all of them where several may hold.

        Returns:
            Whether there was room for it.

        Raises:
            InputError: There is no such label.
            ClosedError: The canary was closed.
        """
        self._check_open()
        labels = frozenset([label] if isinstance(label, str) else label)
        known = self.identity.labels if self.identity is not None else ()
        unknown = sorted(labels - set(known)) if known else []
        if unknown:
            raise InputError(
                f"the label '{unknown[0]}' is none of the model's; one of {', '.join(known)} was "
                "expected"
            )
        kept = copied(item)
        return self._observer.judge_later(lambda model: [model.predict(kept)], labels)

    def decide(self, gate: Gate | None = None) -> Decision:
        """Return whether what was seen proves the candidate, and what is missing.

        With labels that were fed back by its accuracy, without any by its agreement with the stable
        model. May be asked again and again: the more often, the wider its bounds.

        Args:
            gate: The limits; None is half a point of accuracy, and half a percent of flips, proven.
        """
        return self._decisions.decide(
            self._observer.tally,
            gate=gate or Gate(require_proof=True),
            stopped=self._observer.stopped,
        )

    def predict(self, item: Any) -> Prediction:
        """Answer one item.

        Args:
            item: What both models accept; each prepares it for itself.

        Raises:
            InputError: The item is unusable, or no key can be made of it.
            ServerError: The stable model could not answer.
            ClosedError: The canary was closed.
        """
        return self._compared(item, lambda model, held: [model.predict(held)])[0]

    @overload
    def predict_batch(self, items: Iterable[Any]) -> list[Prediction]: ...

    @overload
    def predict_batch(
        self, items: Iterable[Any], *, on_error: Literal["return"]
    ) -> list[Prediction | EdgemlError]: ...

    @overload
    def predict_batch(
        self, items: Iterable[Any], *, on_error: Literal["raise"]
    ) -> list[Prediction]: ...

    def predict_batch(self, items: Iterable[Any], *, on_error: Any = "raise") -> Any:
        """Answer several items, in their order; each by the model that its own key has.

        Inside :meth:`keyed` they have one key. The candidate is asked first, so that the stable
        model answers in one batch what is its own and what the candidate failed.

        Args:
            items: What both models accept; read to its end first.
            on_error: ``raise`` stops at the first bad item and names its position; ``return`` puts
                the error in its place.

        Raises:
            InputError: An item is unusable, or ``on_error`` is neither word.
            ServerError: The stable model could not answer.
            ClosedError: The canary was closed.
        """
        self._check_open()
        rows = listed(items)
        if rows is None or on_error not in ("raise", "return"):
            return self._stable.predict_batch(items, on_error=on_error)  # it says what is wrong
        return self._answer_batch(rows, keep_errors=on_error == "return")

    def predict_tensors(self, tensors: Tensors) -> list[Prediction]:
        """Answer preprocessed tensors, batch first; one model answers them all.

        Raises:
            InputError: The models take different tensors, or (as SignatureError) the feed does not
                fit them.
            ServerError: The stable model could not answer.
            ClosedError: The canary was closed.
        """
        check_same_inputs(self._pair, self._stable, self._candidate)
        return self._compared(tensors, lambda model, held: model.predict_tensors(held))

    def run(self, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
        """Return the raw outputs for preprocessed tensors; these are not compared.

        Raises:
            InputError: As :meth:`predict_tensors`.
            ServerError: Likewise.
            ClosedError: The canary was closed.
        """
        check_same_inputs(self._pair, self._stable, self._candidate)
        asked = self._asked(tensors, lambda model, held: model.run(held))
        rows = len(next(iter(tensors.values())))
        self._observer.answered(asked.by, num_items=rows, elapsed_s=asked.elapsed_s)
        return asked.answer

    def close(self) -> None:
        """End the comparisons and close both models, where they are ours to close."""
        self._closed = True
        self._observer.close()
        if self._close_members:
            self._stable.close()
            self._candidate.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError

    def _takes(self, item: Any) -> bool:
        """Return whether an item is the candidate's."""
        share = self.share
        if not share or not remaining_s():
            return False
        key = _KEY.get()
        if key is None:
            key = key_bytes(self._key(item)) if self._key is not None else content_of(item)
        return place_of(key, salt=self._salt) < share

    def _is_compared(self) -> bool:
        if not self._shadow or self._observer.stopped is not None:
            return False
        with self._random_lock:
            return self._random.random() < self._shadow

    def _compared(
        self, item: Any, ask: Callable[[Predictor, Any], list[Prediction]]
    ) -> list[Prediction]:
        """Answer a question, and perhaps let the other model answer it later."""
        kept = copied(item) if self._is_compared() else None
        asked = self._asked(item, ask)
        if kept is not None and not asked.failure:
            self._observer.compare_later(
                lambda model: ask(model, kept),
                asked.answer,
                by=asked.by,
                elapsed_s=asked.elapsed_s,
            )
        self._observer.answered(asked.by, num_items=len(asked.answer), elapsed_s=asked.elapsed_s)
        return [signed(row, asked) for row in asked.answer]

    def _asked(self, item: Any, ask: Callable[[Predictor, Any], Answer]) -> Asked[Answer]:
        self._check_open()
        return self._trial.ask(item, ask, by_candidate=self._takes(item))

    def _answer_batch(self, items: Sequence[Any], *, keep_errors: bool) -> list[Any]:
        """Answer items, each by whom its key says, and let the other model answer some later."""
        kept = {place: copied(item) for place, item in enumerate(items) if self._is_compared()}
        mine = [place for place, item in enumerate(items) if self._takes(item)]
        rows = self._trial.ask_batch(items, mine, keep_errors=keep_errors)
        for place, item in kept.items():
            asked = rows[place]
            if isinstance(asked.answer, Prediction) and not asked.failure:
                self._compare_one(item, asked.answer, asked.by)
        return [signed(asked.answer, asked) for asked in rows]

    def _compare_one(self, item: Any, answer: Prediction, by: str) -> None:
        """Compare one item of a batch; its time is not its own."""
        self._observer.compare_later(
            lambda model: [model.predict(item)], [answer], by=by, elapsed_s=None
        )


def _salt_of(candidate: Predictor) -> str:
    """Return a salt that other candidates do not have: the hashes of its files, where known."""
    identity = identity_of(candidate)
    if identity is None or not identity.artefacts:
        return "canary"
    return "canary " + " ".join(sorted(identity.artefacts.values()))


def _fraction(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise InputError(f"{name} is {value:g}; a fraction from 0 to 1 was expected", got=value)
    return value
