"""How a published model is run: threads, instances, batches, queue, accelerator. Data alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeml.core.priority import PRIORITIES, level_of
from edgeml.errors import InputError

_AT_LEAST = {
    "num_threads": 1,
    "instances": 1,
    "max_batch_size": 1,
    "queue_delay_us": 0,
    "max_queue_size": 0,
    "queue_timeout_us": 0,
    "priority": 0,
}


@dataclass(frozen=True, kw_only=True)
class ServingOptions:
    """How a server runs a model.

    Attributes:
        num_threads: Threads on a CPU for all instances together; each gets an equal share.
        instances: Copies of the model that answer at the same time, each with its own weights.
        max_batch_size: Most samples of one run.
        queue_delay_us: How long a request waits for others to share a run with, in microseconds; 0
            never waits.
        max_queue_size: Requests that may wait; more are refused at once. 0 is without a bound. With
            one instance a bound loses wake-ups (decision records 0022 and 0079):
            :func:`edgeml.queue_for_deadline` gives one that does not.
        queue_timeout_us: After so long in the queue a request is refused, in microseconds; a
            request may ask for less. 0 is never.
        priorities: Whether requests have one of three priorities (:func:`edgeml.priority`), each
            with a queue of its own; the highest that waits goes first.
        resources: What an instance takes of the server while it runs, by name: instances that
            together ask for more than there is run one after the other. The server has as many of
            each as the greediest instance asks for.
        priority: Whose turn it is where instances wait for resources: one of priority 2 gets half
            as many turns as one of priority 1. 0 says nothing, and counts as 1.
        tensorrt: Whether a GPU runs the graph through TensorRT, with a cache of engines.
        warmup: Whether a server runs golden samples before a model is ready.
        encoded: Whether an image classifier also gets ``NAME_encoded``, which takes JPEG or PNG
            files and decodes them on the server.

    Raises:
        InputError: A number is too small, a resource has no name, the threads are not enough for
            the instances, or a priority is given without resources.
    """

    num_threads: int = 1
    instances: int = 1
    max_batch_size: int = 32
    queue_delay_us: int = 0
    max_queue_size: int = 0
    queue_timeout_us: int = 0
    priorities: bool = False
    resources: Mapping[str, int] = field(default_factory=dict)
    priority: int = 0
    tensorrt: bool = False
    warmup: bool = True
    encoded: bool = False

    def __post_init__(self) -> None:
        numbers = {name: (getattr(self, name), least) for name, least in _AT_LEAST.items()}
        for name, count in self.resources.items():
            if not name.strip():
                raise InputError("a resource has no name; such as 'memory' was expected")
            numbers[f"the resource '{name}'"] = (count, 1)
        for name, (value, least) in numbers.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InputError(f"{name} is {value!r}; a whole number from {least} was expected")
        if self.priority and not self.resources:
            raise InputError(
                f"priority is {self.priority} and nothing is waited for; resources were expected "
                "with it; name one, or leave the priority out"
            )
        if self.instances > self.num_threads:
            raise InputError(
                f"{self.instances} instances share {self.num_threads} threads; at least one thread "
                "each was expected; raise num_threads or take fewer instances"
            )

    @property
    def threads_each(self) -> int:
        """Threads of one instance."""
        return self.num_threads // self.instances

    @property
    def bounds_queue(self) -> bool:
        """Whether requests may be refused for waiting."""
        return bool(self.max_queue_size or self.queue_timeout_us)

    def rate_limiter(self) -> dict[str, Any]:
        """Return the message ``rate_limiter`` of an instance group as values; empty for none."""
        if not self.resources:
            return {}
        rows = [{"name": name, "count": count} for name, count in sorted(self.resources.items())]
        return {"resources": rows} | ({"priority": self.priority} if self.priority else {})

    def dynamic_batching(self) -> dict[str, Any]:
        """Return the message ``dynamic_batching`` as values."""
        values: dict[str, Any] = {}
        if self.queue_delay_us:
            values["max_queue_delay_microseconds"] = self.queue_delay_us
        if self.bounds_queue:
            policy: dict[str, Any] = {
                "allow_timeout_override": True
            }  # refusing is the default action
            if self.max_queue_size:
                policy["max_queue_size"] = self.max_queue_size
            if self.queue_timeout_us:
                policy["default_timeout_microseconds"] = self.queue_timeout_us
            values["default_queue_policy"] = policy
        if self.priorities:
            values["priority_levels"] = len(PRIORITIES)
            values["default_priority_level"] = level_of("normal")
        return values
