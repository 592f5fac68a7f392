"""Signatures: what is refused, what the error says, and the round trip."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeml.core.signature import ModelSignature, TensorSpec
from edgeml.errors import SignatureError
from tests.strategies import signatures, tensor_specs

TEXT = ModelSignature(
    inputs=(
        TensorSpec(name="ids", dtype="int64", shape=("batch", "sequence")),
        TensorSpec(name="mask", dtype="int64", shape=("batch", "sequence")),
        TensorSpec(name="weights", dtype="float32", shape=("batch", 3)),
    ),
    outputs=(TensorSpec(name="probabilities", dtype="float32", shape=("batch", 2)),),
)


def _feed(batch: int = 2, sequence: int = 5, **changes: Any) -> dict[str, Any]:
    feed: dict[str, Any] = {
        "ids": np.ones((batch, sequence), dtype=np.int64),
        "mask": np.ones((batch, sequence), dtype=np.int64),
        "weights": np.ones((batch, 3), dtype=np.float32),
    }
    feed.update(changes)
    return feed


@dataclass(frozen=True, kw_only=True)
class FeedCase:
    """A feed with one thing wrong."""

    id: str
    changes: dict[str, Any]
    tensor: str
    says: str


_INT = np.ones((2, 5), dtype=np.int64)
_FLOAT = np.ones((2, 3), dtype=np.float32)
BAD = (
    FeedCase(id="unknown", changes={"extra": _INT}, tensor="extra", says="only ids, mask, weights"),
    FeedCase(id="dtype", changes={"ids": _INT.astype(np.int32)}, tensor="ids", says="int32 (2, 5)"),
    FeedCase(
        id="unsigned",
        changes={"ids": _INT.astype(np.uint64)},
        tensor="ids",
        says="is uint64 (2, 5)",
    ),
    FeedCase(
        id="double",
        changes={"weights": _FLOAT.astype(np.float64)},
        tensor="weights",
        says="float64",
    ),
    FeedCase(id="bool", changes={"mask": _INT > 0}, tensor="mask", says="bool"),
    FeedCase(
        id="foreign-byte-order",
        changes={"weights": _FLOAT.astype(np.dtype("f4").newbyteorder())},
        tensor="weights",
        says="foreign byte order",
    ),
    FeedCase(id="text", changes={"ids": np.array([["a"]])}, tensor="ids", says="str"),
    FeedCase(id="object", changes={"ids": _INT.astype(object)}, tensor="ids", says="object (2, 5)"),
    FeedCase(id="rank-low", changes={"ids": _INT[0]}, tensor="ids", says="int64 (5)"),
    FeedCase(id="rank-high", changes={"ids": _INT[None]}, tensor="ids", says="int64 (1, 2, 5)"),
    FeedCase(id="scalar", changes={"ids": np.array(1)}, tensor="ids", says="int64 ()"),
    FeedCase(id="axis", changes={"weights": _FLOAT[:, :2]}, tensor="weights", says="(2, 2)"),
    FeedCase(id="list", changes={"ids": [[1]]}, tensor="ids", says="a list"),
    FeedCase(id="none", changes={"ids": None}, tensor="ids", says="a NoneType"),
    FeedCase(
        id="other-batch", changes={"mask": _INT[:1]}, tensor="mask", says="size 1 on axis 'batch'"
    ),
    FeedCase(
        id="other-sequence",
        changes={"mask": _INT[:, :4]},
        tensor="mask",
        says="size 4 on axis 'sequence'; the model expects size 5",
    ),
    FeedCase(
        id="nan",
        changes={"weights": np.where(np.eye(2, 3) > 0, np.nan, 1).astype(np.float32)},
        tensor="weights",
        says="holds NaN",
    ),
)


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.id)
def test_a_bad_feed_names_the_tensor_and_what_is_wrong(case: FeedCase) -> None:
    with pytest.raises(SignatureError) as caught:
        TEXT.check_inputs(_feed(**case.changes))
    assert caught.value.tensor == case.tensor
    assert case.says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["ids", "mask", "weights"])
def test_a_missing_tensor_is_named(name: str) -> None:
    feed = _feed()
    del feed[name]
    with pytest.raises(SignatureError, match="is missing") as caught:
        TEXT.check_inputs(feed)
    assert caught.value.tensor == name


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(SignatureError, match="an empty batch"):
        TEXT.check_inputs(_feed(batch=0))


@given(batch=st.integers(1, 40), sequence=st.integers(1, 40))
def test_any_size_of_a_free_axis_passes_and_the_batch_is_returned(
    batch: int, sequence: int
) -> None:
    assert TEXT.check_inputs(_feed(batch, sequence)) == batch


def test_infinity_is_no_nan() -> None:
    weights = np.array([[np.inf, -np.inf, 0.0]] * 2, dtype=np.float32)
    assert TEXT.check_inputs(_feed(weights=weights)) == 2


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_nan_is_found_in_every_float_type(dtype: str) -> None:
    spec = TensorSpec(name="x", dtype=dtype, shape=("n",))
    array = np.zeros(1000, dtype=dtype)
    spec.check(array)
    array[999] = np.nan
    with pytest.raises(SignatureError, match="NaN"):
        spec.check(array)


@given(signatures)
def test_json_brings_a_signature_back(signature: ModelSignature) -> None:
    text = json.dumps(signature.to_json())
    assert ModelSignature.from_json(json.loads(text)) == signature


@given(tensor_specs, st.data())
def test_an_array_made_to_a_spec_passes_and_another_dtype_does_not(
    spec: TensorSpec, data: st.DataObject
) -> None:
    shape = tuple(
        axis if isinstance(axis, int) else data.draw(st.integers(0, 5)) for axis in spec.shape
    )
    spec.check(np.zeros(shape, dtype=spec.dtype))
    other = "int8" if spec.dtype != "int8" else "uint8"
    with pytest.raises(SignatureError):
        spec.check(np.zeros(shape, dtype=other))


@dataclass(frozen=True, kw_only=True)
class SpecCase:
    """Arguments of a spec that must not exist."""

    id: str
    changes: dict[str, Any]
    says: str


@pytest.mark.parametrize(
    "case",
    [
        SpecCase(id="no-name", changes={"name": ""}, says="name"),
        SpecCase(id="number-as-name", changes={"name": 5}, says="name"),
        SpecCase(id="dtype", changes={"dtype": "complex64"}, says="unknown dtype 'complex64'"),
        SpecCase(id="python-type", changes={"dtype": "int"}, says="unknown dtype"),
        SpecCase(id="negative-axis", changes={"shape": (-1, 3)}, says="axis -1"),
        SpecCase(id="fraction-axis", changes={"shape": (1.5,)}, says="axis 1.5"),
        SpecCase(id="none-axis", changes={"shape": (None, 3)}, says="axis None"),
        SpecCase(id="bool-axis", changes={"shape": (True,)}, says="axis True"),
        SpecCase(id="nameless-axis", changes={"shape": ("",)}, says="axis ''"),
    ],
    ids=lambda case: case.id,
)
def test_a_bad_spec_cannot_be_written(case: SpecCase) -> None:
    good: dict[str, Any] = {"name": "x", "dtype": "int8", "shape": ("batch", 3)}
    TensorSpec(**good)
    with pytest.raises(ValueError, match=case.says):
        TensorSpec(**{**good, **case.changes})


def test_a_signature_needs_distinct_tensors_with_a_batch_axis() -> None:
    spec = TensorSpec(name="x", dtype="int8", shape=("batch",))
    flat = TensorSpec(name="y", dtype="int8", shape=())
    with pytest.raises(ValueError, match="distinct"):
        ModelSignature(inputs=(), outputs=(spec,))
    with pytest.raises(ValueError, match="distinct"):
        ModelSignature(inputs=(spec,), outputs=(spec, spec))
    with pytest.raises(ValueError, match="batch"):
        ModelSignature(inputs=(spec,), outputs=(flat,))
