"""Tell an engine that is at fault from samples that cannot be computed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from edgeml.core.predictor import Prediction
from edgeml.errors import EdgemlError, InferenceError, InputError, RequestRefusedError

# What may be wrong with one feed only, and not with the engine or the server.
OF_ONE_FEED = (InferenceError, RequestRefusedError)


def unless_all_fail(
    answers: Iterable[Prediction | EdgemlError], most: int
) -> Iterator[Prediction | EdgemlError]:
    """Pass on answers, and errors in the place of answers, as long as the engine computes anything.

    Errors of the engine are held back until an answer follows them. It is at fault where nothing
    was computed at all, of two samples or more, or nothing of ``most`` in a row. Items that never
    reached it say nothing about it.

    Args:
        answers: In order.
        most: Errors in a row that are held back, at least 2.

    Raises:
        InferenceError: The engine is at fault: the first error of that row; as well as
            RequestRefusedError, where a server refused them.
    """
    held: list[Prediction | EdgemlError] = []
    failures: list[EdgemlError] = []
    computed = False
    for answer in answers:
        held.append(answer)
        if isinstance(answer, OF_ONE_FEED):
            failures.append(answer)
            if len(failures) >= most:
                raise failures[0]
        elif not isinstance(answer, InputError):
            computed = True
            failures.clear()
        if not failures or len(held) >= most:
            yield from held
            held.clear()
    if len(failures) > 1 and not computed:
        raise failures[0]
    yield from held
