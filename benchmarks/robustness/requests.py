"""The numbered requests of a seed: each is made again from its seed and its number alone."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.robustness.drafts import Draft, HttpRequest, to_binary, to_grpc, to_json
from benchmarks.robustness.mutations import mutate_draft, mutate_http, mutate_message

PROTOCOLS = ("http-json", "http-binary", "grpc")
# Shares of the requests: bytes changed and nothing else, bytes changed as well, values alone. The
# last pass Triton's own checks, and are the model's to answer or to refuse.
_BYTES_ALONE, _BYTES_TOO, _VALUES_ALONE = 0.15, 0.30, 0.50


@dataclass(frozen=True, kw_only=True)
class Mutated:
    """One request to send.

    Attributes:
        number: Its number.
        protocol: One of ``PROTOCOLS``.
        model: The model that the unchanged request was for.
        changes: What was changed, by name.
        content: The request: a message for gRPC, otherwise one of HTTP.
    """

    number: int
    protocol: str
    model: str
    changes: tuple[str, ...]
    content: HttpRequest | bytes


def make_request(seed: int, number: int, drafts: Sequence[Draft]) -> Mutated:
    """Return the request of a number: HTTP for even ones, gRPC for odd ones.

    Args:
        seed: Of the whole series.
        number: From 0.
        drafts: Requests that are answered, of which one is changed.
    """
    rng = np.random.default_rng([seed, number])
    draft = copy.deepcopy(drafts[int(rng.integers(len(drafts)))])
    protocol = "grpc" if number % 2 else PROTOCOLS[int(rng.integers(2))]
    model, drawn = draft.model, rng.random()
    changes: list[str] = []
    if drawn >= _BYTES_ALONE:
        changes = mutate_draft(rng, draft, values_only=_BYTES_TOO <= drawn < _VALUES_ALONE)
    content: HttpRequest | bytes
    if protocol == "grpc":
        content = to_grpc(draft)
    else:
        content = to_binary(draft) if protocol == "http-binary" else to_json(draft)
    if drawn < _BYTES_TOO:
        if isinstance(content, bytes):
            kind, content = mutate_message(rng, content)
        else:
            kind, content = mutate_http(rng, content)
        changes.append(f"bytes:{kind}")
    return Mutated(
        number=number, protocol=protocol, model=model, changes=tuple(changes), content=content
    )
