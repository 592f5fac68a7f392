"""What every training loop of ours does alike: its threads and chance, and its state as tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from edgeml.errors import DataError
from edgeml.training.allocator import freed_memory_kept


@contextlib.contextmanager
def own_threads_and_seed(*, num_threads: int | None, seed: int) -> Iterator[None]:
    """Give a run its threads, its seed and freed memory, and give the caller's back.

    Args:
        num_threads: Threads of torch; None leaves them.
        seed: Seed of torch's chance.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(num_threads or threads)
    try:
        with freed_memory_kept(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


def packed(
    parts: Mapping[str, Mapping[str, Tensor]],
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Return a run's tensors by ``part/name``: its parts, the optimizer's moments, its chance.

    Args:
        parts: Such as weights and averages, each a table of tensors by name.
        optimizer: Its moments become ``moments/parameter/name``.
        generator: What draws the order of samples.
    """
    tensors = {
        f"{part}/{name}": value for part, rows in parts.items() for name, value in rows.items()
    }
    state: Any = optimizer.state_dict()
    for index, moments in state["state"].items():
        tensors.update({f"moments/{index}/{name}": value for name, value in moments.items()})
    tensors["chance/order"] = generator.get_state()
    tensors["chance/torch"] = torch.get_rng_state()
    return tensors


def grouped(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Split tensors named ``part/name`` by their part."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        part, _, rest = name.partition("/")
        parts.setdefault(part, {})[rest] = value
    return parts


def restore_moments(optimizer: torch.optim.Optimizer, rows: Mapping[str, Tensor]) -> None:
    """Give an optimizer the moments that :func:`packed` named ``parameter/name``."""
    moments = {int(index): values for index, values in grouped(rows).items()}
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})


def restore_chance(generator: torch.Generator, rows: Mapping[str, Tensor]) -> None:
    """Go on drawing where a run had stopped."""
    generator.set_state(rows["order"])
    torch.set_rng_state(rows["torch"])


def no_number(value: float, step: int) -> DataError:
    """Return the error of a loss that is NaN or infinite."""
    reason = f"the loss is {value} at step {step}; lower the learning rate"
    return DataError(source="training", reason=reason)
