"""Arrays as data: what a file must hold, its split, and synthetic samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeml.core.archives import write_archive
from edgeml.core.signature import ModelSignature, TensorSpec
from edgeml.data.arrays import (
    ArrayDataset,
    make_array_split,
    open_arrays,
    read_samples,
    row_hashes,
    synthetic_arrays,
)
from edgeml.errors import DataError

OUTPUT = TensorSpec(name="y", dtype="float32", shape=("batch",))
SIGNATURE = ModelSignature(
    inputs=(
        TensorSpec(name="x", dtype="float32", shape=("batch", "n", 2)),
        TensorSpec(name="ids", dtype="int32", shape=("batch", "n")),
    ),
    outputs=(OUTPUT,),
)
COUNT = 40
Change = dict[str, Any]


def _arrays() -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    return {
        "x": rng.normal(size=(COUNT, 3, 2)),
        "ids": rng.integers(0, 9, (COUNT, 3)),
        "labels": np.arange(COUNT) % 3,
    }


def _file(folder: Path, change: Change | None = None) -> Path:
    arrays = {**_arrays(), **(change or {})}
    path = folder / "data.npz"
    path.write_bytes(write_archive({n: a for n, a in arrays.items() if a is not None}))
    return path


def test_a_file_becomes_data(tmp_path: Path) -> None:
    path = _file(tmp_path)
    data = open_arrays(path, SIGNATURE)
    assert (data.name, data.place, len(data)) == ("data", str(path), COUNT)
    assert list(data.inputs) == ["x", "ids"]
    assert [array.dtype.name for array in data.inputs.values()] == ["float32", "int32"]
    assert np.array_equal(data.inputs["ids"], _arrays()["ids"])
    assert data.targets is not None
    assert (data.targets.dtype.name, data.targets.tolist()) == ("int64", [*_arrays()["labels"]])
    assert open_arrays(_file(tmp_path, {"labels": None}), SIGNATURE).targets is None


@pytest.mark.parametrize(
    "labels",
    [_arrays()["labels"].astype(dtype) for dtype in (np.uint8, np.int8, np.float32, np.float64)],
    ids=lambda array: array.dtype.name,
)
def test_labels_are_whole_numbers_of_any_dtype(tmp_path: Path, labels: Any) -> None:
    targets = open_arrays(_file(tmp_path, {"labels": labels}), SIGNATURE).targets
    assert targets is not None
    assert (targets.dtype.name, targets.tolist()) == ("int64", [*_arrays()["labels"]])


@pytest.mark.parametrize("dtype", [np.bool_, np.int64, np.float32])
def test_a_table_of_truth_values_is_several_labels(tmp_path: Path, dtype: Any) -> None:
    table = (np.arange(COUNT)[:, None] >> np.arange(3)) & 1
    targets = open_arrays(_file(tmp_path, {"labels": table.astype(dtype)}), SIGNATURE).targets
    assert targets is not None
    assert (targets.dtype.name, targets.tolist()) == ("bool", table.astype(bool).tolist())


def test_an_input_may_be_called_labels(tmp_path: Path) -> None:
    spec = TensorSpec(name="labels", dtype="float32", shape=("batch",))
    data = open_arrays(
        _file(tmp_path, {"x": None, "ids": None}), ModelSignature(inputs=(spec,), outputs=(OUTPUT,))
    )
    assert data.targets is None
    assert data.inputs["labels"].dtype == np.float32


def test_the_fingerprint_is_of_what_the_model_sees(tmp_path: Path) -> None:
    first = open_arrays(_file(tmp_path), SIGNATURE).fingerprint
    as_int16 = {"ids": _arrays()["ids"].astype(np.int16)}
    assert open_arrays(_file(tmp_path, as_int16), SIGNATURE).fingerprint == first
    moved = _arrays()["x"]
    moved[3, 0, 0] += 1
    changes: list[Change] = [
        {"x": moved},
        {"labels": None},
        {"labels": np.zeros(COUNT, dtype=np.int64)},
    ]
    others = {open_arrays(_file(tmp_path, change), SIGNATURE).fingerprint for change in changes}
    assert len(others - {first}) == 3


def _with_nan() -> Any:
    x = _arrays()["x"]
    x[7, 1, 1] = np.nan
    return x


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"x": None}, "has no array 'x'; the model's inputs are 'x', 'ids'"),
        ({"X": np.zeros(COUNT)}, "has an unknown array 'X'"),
        ({"x": np.zeros((COUNT, 3))}, r"'x' has the shape \(40, 3\); float32 \(batch, n, 2\)"),
        ({"x": np.zeros((COUNT, 3, 4))}, r"shape \(40, 3, 4\)"),
        ({"x": np.zeros((COUNT, 4, 2))}, "'x' and 'ids' have 4 and 3 on the axis 'n'"),
        ({"x": np.zeros((30, 3, 2))}, "different numbers of samples"),
        ({"x": np.zeros((COUNT, 3, 2), dtype=bool)}, "from bool to float"),
        ({"ids": np.zeros((COUNT, 3))}, "from float to integer"),
        ({"ids": np.full((COUNT, 3), 2**40)}, "holds 1099511627776"),
        ({"x": _with_nan()}, "'x' holds NaN or infinity at sample 7"),
        ({name: array[:19] for name, array in _arrays().items()}, "holds 19 samples; at least 20"),
        ({name: array[:0] for name, array in _arrays().items()}, "holds no sample"),
        ({"labels": np.zeros(39, dtype=int)}, r"labels have the shape \(39,\)"),
        ({"labels": np.zeros((COUNT, 1), dtype=int)}, r"labels have the shape \(40, 1\)"),
        ({"labels": np.zeros((COUNT, 2, 2), dtype=int)}, "labels have the shape"),
        ({"labels": np.array(3)}, r"labels have the shape \(\)"),
        ({"labels": np.full(COUNT, -1)}, "labels hold -1"),
        ({"labels": np.full(COUNT, 0.5)}, "labels are float64"),
        ({"labels": np.full(COUNT, np.nan)}, "labels are float64"),
        ({"labels": np.full(COUNT, "a")}, "labels are str"),
        ({"labels": np.full((COUNT, 2), 3)}, "a table that holds 3"),
    ],
    ids=lambda value: value if isinstance(value, str) else ",".join(value),
)
def test_what_is_no_data_is_one_line(tmp_path: Path, change: Change, says: str) -> None:
    with pytest.raises(DataError, match=r"data\.npz: .*" + says) as caught:
        open_arrays(_file(tmp_path, change), SIGNATURE)
    assert "\n" not in str(caught.value)


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((COUNT, 3)))
    np.savez(tmp_path / "x.npz", x=np.array([{}], dtype=object))
    for name, says in (("none", "not there"), ("", "a folder"), ("x.npy", "one array"),
                       ("x.npz", "without pickled objects")):  # fmt: skip
        with pytest.raises(DataError, match=says):
            open_arrays(tmp_path / name, SIGNATURE)


def test_samples_to_answer_may_be_few_and_labelled(tmp_path: Path) -> None:
    few = {name: array[:2] for name, array in _arrays().items()}
    path = _file(tmp_path, few | {"x": _with_nan()[6:8]})
    found = read_samples(path, SIGNATURE, name="here")
    assert {name: array.shape for name, array in found.items()} == {"x": (2, 3, 2), "ids": (2, 3)}
    assert np.isnan(found["x"]).any()  # for the task to refuse, sample by sample
    assert list(read_samples(path.read_bytes(), SIGNATURE, name="-")) == ["x", "ids"]
    np.save(tmp_path / "x.npy", few["x"])
    with pytest.raises(DataError, match="here: this is one array"):
        read_samples(tmp_path / "x.npy", SIGNATURE, name="here")
    single = ModelSignature(inputs=SIGNATURE.inputs[:1], outputs=(OUTPUT,))
    assert read_samples(tmp_path / "x.npy", single, name="here")["x"].dtype == np.float32


def _dataset(count: int, *, classes: int = 0, repeats: int = 1) -> ArrayDataset:
    made = synthetic_arrays(SIGNATURE, num_samples=count, seed=1)
    inputs = {name: np.tile(a, (repeats,) + (1,) * (a.ndim - 1)) for name, a in made.inputs.items()}
    targets = np.arange(count * repeats) % count % classes if classes else None
    return replace(made, inputs=inputs, targets=targets)


def test_a_split_deals_each_class_by_the_same_shares() -> None:
    data = _dataset(200, classes=4)
    split = make_array_split(data, seed=3)
    assert split.sizes() == {"train": 60, "validation": 80, "test": 60}
    parts = (split.train, split.validation, split.test)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(200))
    assert data.targets is not None
    for part, expected in zip(parts, (15, 20, 15), strict=True):
        assert (np.abs(np.bincount(data.targets[part]) - expected) <= 1).all()
    again, other = make_array_split(data, seed=3), make_array_split(data, seed=4)
    assert np.array_equal(again.test, split.test)
    assert not np.array_equal(other.test, split.test)


def test_equal_samples_land_in_one_part() -> None:
    data = _dataset(30, repeats=3)
    hashes = row_hashes(data.inputs)
    assert len(set(hashes.tolist())) == 30
    split = make_array_split(data, seed=0)
    sets = [set(hashes[part].tolist()) for part in (split.train, split.validation, split.test)]
    assert sum(map(len, sets)) == 30
    assert [len(one) for one in sets] == [9, 12, 9]
    assert sum(split.sizes().values()) == 90


def test_a_class_of_one_is_no_obstacle_and_one_sample_is() -> None:
    assert sum(make_array_split(_dataset(25, classes=25), seed=0).sizes().values()) == 25
    table = np.zeros((25, 2), dtype=np.bool_)
    assert min(make_array_split(replace(_dataset(25), targets=table), seed=0).sizes().values()) == 7
    assert min(make_array_split(_dataset(3), seed=0).sizes().values()) == 1
    with pytest.raises(DataError, match="synthetic: it has 2 distinct samples; at least 3"):
        make_array_split(_dataset(2, repeats=20), seed=0)


def test_synthetic_samples_are_seeded_and_known_to_the_model() -> None:
    shapes: dict[str, tuple[int | str, ...]] = {
        "float16": ("batch", "n"),
        "float64": (1, 3),
        "uint8": ("batch", 4, 4),
        "int8": ("batch", "m"),
        "int64": ("batch", "n"),
        "bool": ("batch", "n"),
    }
    signature = ModelSignature(
        inputs=tuple(TensorSpec(name=name, dtype=name, shape=s) for name, s in shapes.items()),
        outputs=(OUTPUT,),
    )
    data = synthetic_arrays(
        signature, num_samples=60, seed=5, vocabulary={"int8": 1000, "uint8": 256}, sizes={"n": 7}
    )
    assert {name: (a.dtype.name, a.shape) for name, a in data.inputs.items()} == {
        "float16": ("float16", (60, 7)),
        "float64": ("float64", (60, 3)),
        "uint8": ("uint8", (60, 4, 4)),
        "int8": ("int8", (60, 16)),
        "int64": ("int64", (60, 7)),
        "bool": ("bool", (60, 7)),
    }
    assert (data.name, data.targets, data.place) == ("synthetic", None, "")
    assert abs(float(data.inputs["float64"].mean())) < 0.3
    assert data.inputs["uint8"].max() > 200
    assert (data.inputs["int8"].min(), data.inputs["int8"].max() > 100) == (0, True)
    assert set(data.inputs["int64"].reshape(-1).tolist()) == {0, 1}
    assert len(set(row_hashes(data.inputs).tolist())) == 60
    options: dict[str, Any] = {"vocabulary": {"int8": 1000, "uint8": 256}, "sizes": {"n": 7}}
    again = synthetic_arrays(signature, num_samples=60, seed=5, **options)
    other = synthetic_arrays(signature, num_samples=60, seed=6, **options)
    assert data.fingerprint == again.fingerprint != other.fingerprint
