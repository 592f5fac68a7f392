"""The tree of errors: as drawn, catchable by the builtin, one line a message."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from edgeml import errors
from edgeml.errors import (
    BundleError,
    ClosedError,
    DataError,
    EdgemlError,
    ExportError,
    GateError,
    HostError,
    InferenceError,
    InputError,
    IntegrityError,
    MeasurementError,
    MissingExtraError,
    ModelNotReadyError,
    ModelOutputError,
    ParityError,
    ProviderUnavailableError,
    PublishError,
    RequestRefusedError,
    ServerError,
    ServerOverloadedError,
    ServerTimeoutError,
    ServerUnreachableError,
    SignatureError,
)

CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, BaseException) and not issubclass(kind, Warning)
}


@dataclass(frozen=True, kw_only=True)
class ErrorCase:
    """One error, as edgeml raises it."""

    make: Callable[[], EdgemlError]
    says: str
    builtin: type[BaseException]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return type(self.make()).__name__


CASES = (
    ErrorCase(
        make=lambda: MissingExtraError(module="torch", extra="train"),
        says="pip install 'edgeml[train]'",
        builtin=ImportError,
        facts={"module": "torch", "extra": "train"},
    ),
    ErrorCase(
        make=lambda: InputError("too large", item="a.png", limit="max_bytes", got=9),
        says="a.png: too large",
        builtin=ValueError,
        facts={"item": "a.png", "limit": "max_bytes", "got": 9},
    ),
    ErrorCase(
        make=lambda: SignatureError(tensor="image", expected="uint8 (1)", got="int8 (1)"),
        says="int8 (1); the model expects uint8 (1)",
        builtin=ValueError,
        facts={"tensor": "image", "expected": "uint8 (1)", "got": "int8 (1)", "limit": None},
    ),
    ErrorCase(
        make=lambda: DataError(source="shirts", reason="one class only; add another"),
        says="shirts: one class only",
        builtin=ValueError,
        facts={"source": "shirts", "reason": "one class only; add another"},
    ),
    ErrorCase(
        make=lambda: GateError("too slow", gate="speedup", measured=0.9, limit=1.2),
        says="too slow",
        builtin=RuntimeError,
        facts={"gate": "speedup", "measured": 0.9, "limit": 1.2},
    ),
    ErrorCase(
        make=lambda: BundleError(path="a.bundle", reason="no manifest"),
        says="a.bundle: no manifest",
        builtin=ValueError,
        facts={"path": "a.bundle", "reason": "no manifest"},
    ),
    ErrorCase(
        make=lambda: IntegrityError(path="a.bundle", reason="changed"),
        says="a.bundle: changed",
        builtin=BundleError,
        facts={"path": "a.bundle", "reason": "changed"},
    ),
    ErrorCase(make=lambda: ExportError("no opset"), says="no opset", builtin=RuntimeError),
    ErrorCase(
        make=lambda: ParityError(variant="fp32", max_abs_diff=0.5, tolerance=0.1, sample=3),
        says="'fp32' differs from its source by 0.5 at sample 3; at most 0.1",
        builtin=ExportError,
        facts={"max_abs_diff": 0.5, "tolerance": 0.1, "sample": 3},
    ),
    ErrorCase(
        make=lambda: ProviderUnavailableError(requested="CUDA", available=("CPU", "Azure")),
        says="'CUDA' is not available",
        builtin=RuntimeError,
        facts={"requested": "CUDA", "available": ("CPU", "Azure")},
    ),
    ErrorCase(
        make=lambda: ModelOutputError(tensor="probabilities"),
        says="'probabilities' holds NaN or infinity",
        builtin=ArithmeticError,
        facts={"tensor": "probabilities"},
    ),
    ErrorCase(
        make=lambda: InferenceError(reason="index out of range"),
        says="(index out of range)",
        builtin=RuntimeError,
        facts={"reason": "index out of range"},
    ),
    ErrorCase(make=ClosedError, says="closed", builtin=RuntimeError),
    ErrorCase(
        make=lambda: MeasurementError("the generator died; look at it"),
        says="the generator died; look at it",
        builtin=RuntimeError,
    ),
    ErrorCase(
        make=lambda: PublishError(model="m", version=3, kept=2, reason="it answers otherwise"),
        says="version 3 of 'm' is not served: it answers otherwise; version 2 keeps serving; mend "
        "what is named and try again",
        builtin=RuntimeError,
    ),
    ErrorCase(
        make=lambda: HostError(what="port 8001 is taken", needed="choose another"),
        says="port 8001 is taken; choose another",
        builtin=OSError,
        facts={"what": "port 8001 is taken", "needed": "choose another"},
    ),
    ErrorCase(
        make=lambda: ServerError("broken", url="grpc://a:1"),
        says="grpc://a:1: broken",
        builtin=RuntimeError,
        facts={"url": "grpc://a:1"},
    ),
    ErrorCase(
        make=lambda: ServerUnreachableError("gone", url="grpc://a:1"),
        says="grpc://a:1: gone",
        builtin=ConnectionError,
        facts={"url": "grpc://a:1"},
    ),
    ErrorCase(
        make=lambda: ServerTimeoutError(url="grpc://a:1", timeout_s=0.5),
        says="grpc://a:1: no answer within 0.5 s",
        builtin=TimeoutError,
        facts={"url": "grpc://a:1", "timeout_s": 0.5},
    ),
    ErrorCase(
        make=lambda: ModelNotReadyError("loading", url="grpc://a:1", model="clothing"),
        says="grpc://a:1: loading",
        builtin=ServerError,
        facts={"url": "grpc://a:1", "model": "clothing"},
    ),
    ErrorCase(
        make=lambda: RequestRefusedError("a wrong shape", url="grpc://a:1"),
        says="grpc://a:1: a wrong shape",
        builtin=ServerError,
        facts={"url": "grpc://a:1"},
    ),
    ErrorCase(
        make=lambda: ServerOverloadedError("full", url="grpc://a:1", reason="queue-full"),
        says="grpc://a:1: full",
        builtin=ServerError,
        facts={"url": "grpc://a:1", "reason": "queue-full"},
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_an_error_is_catchable_readable_and_holds_its_facts(case: ErrorCase) -> None:
    error = case.make()
    with pytest.raises(case.builtin) as caught:
        raise error
    assert caught.value is error
    assert isinstance(error, EdgemlError)
    assert case.says in str(error)
    assert "\n" not in str(error)
    for name, value in case.facts.items():
        assert getattr(error, name) == value


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_an_error_can_be_copied_as_it_is_between_processes_and_threads(case: ErrorCase) -> None:
    error = case.make()
    again = copy.copy(error)
    assert type(again) is type(error)
    assert again is not error
    assert str(again) == str(error)
    for name, value in case.facts.items():
        assert getattr(again, name) == value


def test_every_error_has_a_case() -> None:
    assert {case.id for case in CASES} == set(CLASSES) - {"EdgemlError"}


def test_the_tree_is_as_drawn() -> None:
    drawn = _drawn()
    assert drawn.pop("EdgemlError") == ("", "")
    real = {}
    for name, kind in CLASSES.items():
        ours = [base.__name__ for base in kind.__bases__ if issubclass(base, EdgemlError)]
        builtins = [base.__name__ for base in kind.__bases__ if not issubclass(base, EdgemlError)]
        real[name] = (ours[0] if ours else "", builtins[0] if builtins else "")
        assert len(ours) <= 1
        assert len(builtins) <= 1
    assert real.pop("EdgemlError") == ("", "Exception")
    assert drawn == real


def _drawn() -> dict[str, tuple[str, str]]:
    """Parse the head of errors.py: name -> (parent, builtin)."""
    tree: dict[str, tuple[str, str]] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        row = re.fullmatch(
            r"    (?P<rule>[│├└─ ]*)(?P<name>\w+Error)( \((?P<base>\w+)\))?( .*)?", line
        )
        if row is None:
            continue
        depth = len(row["rule"]) // 3
        del above[depth:]
        tree[row["name"]] = (above[-1] if above else "", row["base"] or "")
        above.append(row["name"])
    return tree
