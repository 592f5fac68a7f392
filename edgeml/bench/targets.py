"""What is measured, and how the generator's process comes by it.

A predictor cannot be sent to another process. So a target is named: a factory
(``package.module:function``) and its arguments, which are JSON. The generator's process imports
the factory, calls it and gets a :class:`Target`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from edgeml.core.predictor import Predictor
from edgeml.errors import InputError

Call = Callable[[int], Any]


class Target(Protocol):
    """Something that answers numbered samples."""

    @property
    def client(self) -> str:
        """The client that carries the queries: its floor stands in the report."""
        ...

    @property
    def num_samples(self) -> int:
        """Samples that it knows: a call's argument lies below."""
        ...

    @property
    def checks_answers(self) -> bool:
        """Whether it knows the right answers."""
        ...

    @property
    def conditions(self) -> Mapping[str, Any]:
        """JSON values that shall stand beside the record: who answers, with how many threads."""
        ...

    def connect(self) -> Call:
        """Return one caller's way to ask: sample to answer, raising where there is none.

        Called once for each caller, in the caller's own thread, before the clock runs.
        """
        ...

    def check(self, sample: int, answer: Any) -> str | None:
        """Say what is wrong with an answer, or None. Called after the clock has stopped."""
        ...

    def close(self) -> None:
        """Release what the target holds."""
        ...


@dataclass(frozen=True, kw_only=True)
class TargetSpec:
    """How to make a target.

    Attributes:
        factory: ``package.module:function``; called with the options as keywords.
        options: JSON values.
        environment: Variables of the generator's process, beside those of this one.
    """

    factory: str
    options: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    def make(self) -> Target:
        """Import the factory and call it.

        Raises:
            InputError: There is no such factory.
        """
        module, _, name = self.factory.partition(":")
        try:
            factory = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as exc:
            raise InputError(
                f"the target factory '{self.factory}' cannot be imported ({exc}); "
                "package.module:function was expected"
            ) from exc
        target: Target = factory(**self.options)
        return target


class CallTarget:
    """A target over one plain function that all callers share.

    Args:
        call: Sample to answer; safe to call from several threads.
        num_samples: Samples that it knows.
        client: Name of the client.
        expected: The right answers by sample; without them answers are not checked.
        same: Whether an answer is the expected one.
        close: What to do at the end.
        conditions: JSON values that shall stand beside the record.
    """

    def __init__(
        self,
        call: Call,
        *,
        num_samples: int = 1,
        client: str = "in-process",
        expected: Sequence[Any] | None = None,
        same: Callable[[Any, Any], bool] | None = None,
        close: Callable[[], None] | None = None,
        conditions: Mapping[str, Any] | None = None,
    ) -> None:
        if num_samples < 1 or (expected is not None and len(expected) != num_samples):
            known = "no" if expected is None else len(expected)
            raise InputError(f"{num_samples} samples and {known} expected answers do not fit")
        self._call = call
        self._close = close
        self._expected = expected
        self._same = same or _equal
        self.num_samples = num_samples
        self.client = client
        self.checks_answers = expected is not None
        self.conditions = dict(conditions or {})

    def connect(self) -> Call:
        """Return the function."""
        return self._call

    def check(self, sample: int, answer: Any) -> str | None:
        """Compare with the expected answer."""
        if self._expected is None or self._same(self._expected[sample], answer):
            return None
        return f"sample {sample}: {_short(answer)} where {_short(self._expected[sample])} is right"

    def close(self) -> None:
        """Call the function given for it."""
        if self._close is not None:
            self._close()


def predictor_target(
    predictor: Predictor,
    items: Sequence[Any],
    *,
    expected_labels: Sequence[str | None] | None = None,
    client: str = "in-process",
) -> CallTarget:
    """Return a target that asks a predictor for one item at a time.

    Args:
        predictor: Closed with the target.
        items: One item a sample.
        expected_labels: The right labels.
        client: Name of the client that the predictor uses.
    """
    return CallTarget(
        lambda sample: predictor.predict(items[sample]).label,
        num_samples=len(items),
        client=client,
        expected=expected_labels,
        close=predictor.close,
        conditions={"served_by": predictor.served_by},
    )


def _equal(expected: Any, answer: Any) -> bool:
    return bool(expected == answer)


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
