"""A server's queue, as long as a deadline allows.

Of requests for one item each, a server with a deadline ``D`` and a time ``s`` for an item answers
``n = 0.75 * D * runs at once / s`` within it; the quarter is for the way and for slow runs.
What is under way, or formed and next, is one batch an instance; the rest may wait:

    batch   = n // (instances + 1), at most what the options say, so that one can form while waiting
    waiting = n - instances * batch
    timeout = D - time of one batch an instance, a third longer than usual

so that what has waited longer is refused instead of computed too late: it matters in a slow spell,
and for low priorities, which others overtake.

Triton 2.51 needs a second instance for that. With a bound and one instance its batcher loses
wake-ups: under overload every arrival is refused, none wakes the batcher, and it sleeps for up to
half a second beside a full queue. With two instances it does not, and a resource of which there is
one lets them take turns, so that they compute no more at once than the one did.
"""

from __future__ import annotations

from dataclasses import replace

from edgeml.errors import InputError
from edgeml.serving.repository.options import ServingOptions

_SHARE = 0.75


def bounded_for(
    options: ServingOptions, *, deadline_s: float, item_s: float, turn: str
) -> ServingOptions:
    """Return options whose queue holds what can be answered by a deadline.

    Args:
        options: How the model is served otherwise; largest batch and instances among them.
        deadline_s: Time from a request's arrival to its answer.
        item_s: Time that one instance takes for one item, with the threads that it has.
        turn: Name of the resource by which two instances take turns where the options ask for one;
            no other model of the server may have the same.

    Raises:
        InputError: A time is none, the options have a bound already, or the deadline is too short.
    """
    for name, value in (("deadline", deadline_s), ("time for one item", item_s)):
        if not 0 < value < float("inf"):
            raise InputError(f"the {name} is {value:g} s; a positive, finite time was expected")
    if options.bounds_queue:
        raise InputError(
            "max_queue_size or queue_timeout_us is given besides a deadline to derive them from; "
            "one of the two was expected; leave the other out"
        )
    at_once, instances = options.instances, max(2, options.instances)
    items = int(_SHARE * deadline_s * at_once / item_s)
    batch = min(options.max_batch_size, items // (instances + 1))
    if batch < 1:
        least_ms = 1e3 * (instances + 1) * item_s / (_SHARE * at_once)
        raise InputError(
            f"a deadline of {1e3 * deadline_s:g} ms leaves no room for a queue where an item takes "
            f"{1e3 * item_s:.3g} ms; at least {least_ms:.3g} ms was expected; allow more time, or "
            "take more instances or a faster model"
        )
    alone = options.instances == 1
    under_way_s = instances * batch * item_s / (_SHARE * at_once)
    return replace(
        options,
        instances=instances,
        num_threads=2 * options.num_threads if alone else options.num_threads,
        resources={**options.resources, turn: 1} if alone else options.resources,
        max_batch_size=batch,
        max_queue_size=items - instances * batch,
        queue_timeout_us=int(1e6 * (deadline_s - under_way_s)),
    )
