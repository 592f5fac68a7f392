"""What a ranker reads: named ids and numbers, those of the request apart from the candidates'.

Declared once: the torch module, the graph's inputs, the checks at run time and the rows for
training all derive from :class:`RankingFields`. It refuses what would corrupt a ranking silently:
codes outside a vocabulary, numbers that are NaN or infinite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgeml.core.signature import ModelSignature, TensorSpec
from edgeml.errors import InputError

CANDIDATES = "candidates"
_LABEL = "label:"


@dataclass(frozen=True, kw_only=True)
class IdField:
    """A column of codes.

    Attributes:
        name: Of the column.
        size: Codes are 0 to ``size - 1``; 0 is what no vocabulary knows.
    """

    name: str
    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"the vocabulary of '{self.name}' has {self.size} codes; at least 1")


@dataclass(frozen=True, kw_only=True)
class Head:
    """One thing that a ranker predicts.

    Attributes:
        name: Of the signal.
        kind: ``binary``: a probability; ``amount``: a number of at least 0, such as a logarithm of
            seconds.
    """

    name: str
    kind: Literal["binary", "amount"] = "binary"

    def __post_init__(self) -> None:
        if self.kind not in ("binary", "amount"):
            raise ValueError(f"head '{self.name}' is of kind {self.kind!r}; binary or amount")


@dataclass(frozen=True, kw_only=True)
class RankingFields:
    """Names, order and sizes of a ranker's inputs and heads.

    Attributes:
        request_ids: Codes known once a request, such as user and hour.
        request_numbers: Numbers known once a request, such as the user's own rates.
        candidate_ids: Codes of a candidate, such as item and author.
        candidate_numbers: Numbers of a candidate, alone or with the user.
        crosses: Pairs of names of codes that the wide part weighs together.
        heads: What is predicted; the first one is binary, and ranks.
    """

    request_ids: tuple[IdField, ...]
    request_numbers: tuple[str, ...]
    candidate_ids: tuple[IdField, ...]
    candidate_numbers: tuple[str, ...]
    crosses: tuple[tuple[str, str], ...] = ()
    heads: tuple[Head, ...] = (Head(name="positive"),)

    def __post_init__(self) -> None:
        ids = [field.name for field in (*self.request_ids, *self.candidate_ids)]
        # A column may be both a code and a number; two codes or two numbers are told apart by name.
        for names in (ids, [*self.request_numbers, *self.candidate_numbers]):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"two columns are called {twice[0]!r}; each needs its own name")
        if not (self.candidate_ids or self.candidate_numbers):
            raise ValueError("nothing tells one candidate from another: no column of a candidate")
        if not self.heads or self.heads[0].kind != "binary":
            raise ValueError("the first head ranks and is binary")
        known = {field.name for field in (*self.request_ids, *self.candidate_ids)}
        for pair in self.crosses:
            for name in pair:
                if name not in known:
                    raise ValueError(f"a cross names {name!r}, which is none of the codes")

    @property
    def signature(self) -> ModelSignature:
        """The graph's inputs and outputs."""
        count = CANDIDATES

        def spec(name: str, dtype: str, shape: tuple[int | str, ...]) -> TensorSpec:
            return TensorSpec(name=name, dtype=dtype, shape=shape)

        return ModelSignature(
            inputs=(
                spec("request_ids", "int64", (1, len(self.request_ids))),
                spec("request_numbers", "float32", (1, len(self.request_numbers))),
                spec("candidate_ids", "int64", (count, len(self.candidate_ids))),
                spec("candidate_numbers", "float32", (count, len(self.candidate_numbers))),
            ),
            outputs=(
                spec("scores", "float32", (count,)),
                spec("heads", "float32", (count, len(self.heads))),
            ),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RankingFields:
        """Return the fields that :meth:`to_json` described.

        Raises:
            ValueError: They do not describe a ranker's inputs.
        """
        try:
            return cls(
                request_ids=tuple(IdField(**row) for row in value["request_ids"]),
                request_numbers=tuple(value["request_numbers"]),
                candidate_ids=tuple(IdField(**row) for row in value["candidate_ids"]),
                candidate_numbers=tuple(value["candidate_numbers"]),
                crosses=tuple((str(left), str(right)) for left, right in value["crosses"]),
                heads=tuple(Head(**row) for row in value["heads"]),
            )
        except (KeyError, TypeError) as exc:
            raise ValueError(f"no description of a ranker's inputs: {exc!r}") from exc

    def feed(self, rows: RankingRows) -> dict[str, npt.NDArray[Any]]:
        """Return one request's feed: the request's row once, its candidates after it."""
        return {
            "request_ids": rows.request_ids[:1],
            "request_numbers": rows.request_numbers[:1],
            "candidate_ids": rows.candidate_ids,
            "candidate_numbers": rows.candidate_numbers,
        }

    def check(self, feed: Mapping[str, npt.NDArray[Any]]) -> None:
        """Check codes and numbers of a feed or of rows.

        Raises:
            InputError: A code lies outside its vocabulary, or a number is NaN or infinite; the
                column is named.
        """
        for part, ids in (("request", self.request_ids), ("candidate", self.candidate_ids)):
            _check_codes(feed[f"{part}_ids"], ids)
        _check_numbers(feed["request_numbers"], self.request_numbers)
        _check_numbers(feed["candidate_numbers"], self.candidate_numbers)


@dataclass(frozen=True, kw_only=True)
class RankingRows:
    """Rows to train and judge a ranker on: one is a request with one candidate.

    Attributes:
        request_ids: int64 ``(rows, request ids)``.
        request_numbers: float32 ``(rows, request numbers)``.
        candidate_ids: int64 ``(rows, candidate ids)``.
        candidate_numbers: float32 ``(rows, candidate numbers)``.
        labels: Head to float32 ``(rows,)``; NaN is not known.
        groups: int64 ``(rows,)``: the user, or the request whose candidates compete.
    """

    request_ids: npt.NDArray[np.int64]
    request_numbers: npt.NDArray[np.float32]
    candidate_ids: npt.NDArray[np.int64]
    candidate_numbers: npt.NDArray[np.float32]
    labels: Mapping[str, npt.NDArray[np.float32]]
    groups: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        for name, array in self.to_arrays().items():
            if len(array) != len(self.groups):
                raise ValueError(f"{name} has {len(array)} rows; groups has {len(self.groups)}")

    def __len__(self) -> int:
        return len(self.groups)

    def take(self, rows: npt.NDArray[Any]) -> RankingRows:
        """Return some rows, by position or mask."""
        return self.from_arrays({name: array[rows] for name, array in self.to_arrays().items()})

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return named arrays, such as ``numpy.savez`` takes."""
        arrays = {row.name: getattr(self, row.name) for row in fields(self) if row.name != "labels"}
        return arrays | {f"{_LABEL}{name}": values for name, values in self.labels.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> RankingRows:
        """Return the rows that :meth:`to_arrays` described."""
        names = [row.name for row in fields(cls) if row.name != "labels"]
        labels = {
            name.removeprefix(_LABEL): array
            for name, array in arrays.items()
            if name.startswith(_LABEL)
        }
        return cls(**{name: arrays[name] for name in names}, labels=labels)

    @staticmethod
    def concatenate(parts: Sequence[RankingRows]) -> RankingRows:
        """Return the rows of several parts, in their order."""
        arrays = [part.to_arrays() for part in parts]
        return RankingRows.from_arrays(
            {name: np.concatenate([row[name] for row in arrays]) for name in arrays[0]}
        )


def _check_codes(codes: npt.NDArray[Any], expected: Sequence[IdField]) -> None:
    if not codes.size:
        return
    sizes = np.array([field.size for field in expected])
    wrong = ((codes < 0) | (codes >= sizes)).any(axis=0)
    if wrong.any():
        field = expected[int(np.argmax(wrong))]
        raise InputError(
            f"column '{field.name}' holds a code outside 0..{field.size - 1}; encode with the "
            "bundle's own encoders, which give 0 to what they do not know",
            limit="vocabulary",
            got=field.name,
        )


def _check_numbers(numbers: npt.NDArray[Any], names: Sequence[str]) -> None:
    if numbers.size and not np.isfinite(numbers.sum(dtype=np.float64)):
        wrong = ~np.isfinite(numbers).all(axis=0)
        name = names[int(np.argmax(wrong))] if wrong.any() else "?"
        raise InputError(
            f"column '{name}' holds NaN or infinity; a ranker's numbers are finite: fill what is "
            "missing before",
            limit="finite",
            got=name,
        )
