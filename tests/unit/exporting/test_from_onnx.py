"""A graph from elsewhere: read within limits, run, and described as it really is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeml.errors import InputError
from edgeml.exporting.from_onnx import OnnxModel, load_onnx, modernise
from edgeml.exporting.trying import synthetic_feed

LINEAR = """
<ir_version: 8, opset_import: ["": 17]>
linear (float[N, 4] x) => (float[N, 3] y)
<float[4, 3] w = {1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1, 1}>
{ y = MatMul(x, w) }
"""


def _save(text: str, file: Path, **constants: np.ndarray[Any, Any]) -> Path:
    model = onnx.parser.parse_model(text)
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    file.write_bytes(model.SerializeToString())
    return file


def _load(text: str, tmp_path: Path, **constants: np.ndarray[Any, Any]) -> OnnxModel:
    return load_onnx(_save(text, tmp_path / "m.onnx", **constants))


def _described(loaded: OnnxModel) -> list[str]:
    signature = loaded.signature
    return [f"{spec.name} {spec.describe()}" for spec in (*signature.inputs, *signature.outputs)]


def _runs(loaded: OnnxModel, batch: int) -> dict[str, np.ndarray[Any, Any]]:
    """Run the model that came out on made-up inputs."""
    session = onnxruntime.InferenceSession(
        loaded.model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    feed = synthetic_feed(
        loaded.signature.inputs, vocabulary=loaded.vocabulary, batch=batch, sizes=loaded.sizes
    )
    names = [spec.name for spec in loaded.signature.outputs]
    return dict(zip(names, session.run(names, feed), strict=True))


def test_a_free_batch_is_called_so_and_notes_of_the_exporter_are_gone(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(LINEAR)
    model.graph.node[0].doc_string = "File /home/someone/model.py"
    model.metadata_props.append(onnx.StringStringEntryProto(key="author", value="someone"))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    loaded = load_onnx(tmp_path / "m.onnx")
    assert _described(loaded) == ["x float32 (batch, 4)", "y float32 (batch, 3)"]
    assert (loaded.opset, loaded.quantized, loaded.notes) == (17, "", ())
    assert b"someone" not in loaded.model.SerializeToString()
    assert _runs(loaded, 5)["y"].shape == (5, 3)


def test_axes_of_outputs_follow_those_of_inputs_where_they_do(tmp_path: Path) -> None:
    text = """
    <ir_version: 8, opset_import: ["": 17]>
    shapes (float[b, rows, cols] x, float[b, cols] z)
        => (float[u, v, w] same, float[u, v] sums, float[u, v] joined, float[u] flat)
    <int64[1] last = {2}, int64[1] first = {1}, int64[2] pair = {0, -1}>
    {
        same = Relu(x)
        sums = ReduceSum<keepdims = 0>(x, last)
        joined = Reshape(x, pair)
        total = ReduceSum<keepdims = 0>(z, first)
        flat = Identity(total)
    }
    """
    loaded = _load(text.replace("last = {2}", "last = {-1}"), tmp_path)
    assert _described(loaded) == [
        "x float32 (batch, rows, cols)",
        "z float32 (batch, cols)",
        "same float32 (batch, rows, cols)",
        "sums float32 (batch, rows)",
        "joined float32 (batch, v)",
        "flat float32 (batch)",
    ]
    assert loaded.sizes == {"rows": 16, "cols": 16}


def test_nameless_axes_get_names_and_the_batch_is_only_first(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(LINEAR)
    del model.graph.initializer[:]
    model.graph.node[0].CopyFrom(helper.make_node("Relu", ["x"], ["y"]))
    model.graph.input[0].CopyFrom(
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, None, "batch"])
    )
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, None))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert _described(load_onnx(tmp_path / "m.onnx")) == [
        "x float32 (batch, x_axis1, x_axis2)",
        "y float32 (batch, x_axis1, x_axis2)",
    ]


def test_a_batch_that_is_free_in_name_alone_is_fixed_and_said(tmp_path: Path) -> None:
    text = """
    <ir_version: 8, opset_import: ["": 17]>
    stuck (float[batch, 2, 3] x) => (float[batch, 6] y)
    <int64[2] shape = {1, 6}>
    { y = Reshape(x, shape) }
    """
    loaded = _load(text, tmp_path)
    assert _described(loaded) == ["x float32 (1, 2, 3)", "y float32 (1, 6)"]
    (note,) = loaded.notes
    assert note.startswith("the graph cannot take batches: two samples fail")
    assert loaded.model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1


def test_two_samples_joined_into_one_are_no_batch(tmp_path: Path) -> None:
    text = """
    <ir_version: 8, opset_import: ["": 17]>
    joined (float[batch, 2, 3] x) => (float[n, m] y)
    <int64[2] shape = {1, -1}>
    { y = Reshape(x, shape) }
    """
    loaded = _load(text, tmp_path)
    assert _described(loaded) == ["x float32 (1, 2, 3)", "y float32 (1, 6)"]
    assert "for two samples the output 'y' has the shape (1, 12)" in loaded.notes[0]


def test_an_axis_that_runs_at_one_size_only_is_fixed_and_said(tmp_path: Path) -> None:
    text = """
    <ir_version: 8, opset_import: ["": 17]>
    pictures (float[b, c, h, w] x) => (float[b, 5] y)
    <int64[2] shape = {0, 16}>
    { first = Conv<strides = [74, 74]>(x, k)  flat = Reshape(first, shape)  y = MatMul(flat, w0) }
    """
    kernel = np.ones((1, 3, 2, 2), dtype=np.float32)
    loaded = _load(text, tmp_path, k=kernel, w0=np.ones((16, 5), dtype=np.float32))
    assert _described(loaded)[0] == "x float32 (batch, 3, 224, 224)"
    assert "the axis 'h' is fixed to 224" in "; ".join(loaded.notes)
    assert loaded.sizes == {}
    assert _runs(loaded, 2)["y"].shape == (2, 5)


def test_a_fixed_batch_of_one_stays_one(tmp_path: Path) -> None:
    loaded = _load(LINEAR.replace("N,", "1,"), tmp_path)
    assert _described(loaded) == ["x float32 (1, 4)", "y float32 (1, 3)"]
    assert loaded.notes == ()


def test_old_graphs_list_their_weights_among_the_inputs(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(LINEAR)
    model.ir_version = 3
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 3]))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    loaded = load_onnx(tmp_path / "m.onnx")
    assert [row.name for row in loaded.model.graph.input] == ["x"]
    assert loaded.model.ir_version >= 4
    assert _runs(loaded, 2)["y"].shape == (2, 3)


def test_ids_stay_within_the_smallest_table_that_they_reach(tmp_path: Path) -> None:
    text = """
    <ir_version: 8, opset_import: ["": 17]>
    words (int64[b, s] ids, int32[b, s] shifted, int64[b, s] attention_mask, uint8[b, s] pixels)
        => (float[b, s, 2] y)
    <int32[1] offset = {3}>
    {
        first = Gather(large, ids)
        as_int = Cast<to = 6>(ids)
        second = Gather(small, as_int)
        added = Add(shifted, offset)
        third = Gather(small, added)
        a = Add(first, second)
        ab = Add(a, third)
        m = Cast<to = 1>(attention_mask)
        p = Cast<to = 1>(pixels)
        mp = Add(m, p)
        axes = Constant<value_ints = [2]>()
        mpu = Unsqueeze(mp, axes)
        y = Add(ab, mpu)
    }
    """
    loaded = _load(
        text,
        tmp_path,
        large=np.zeros((50, 2), dtype=np.float32),
        small=np.zeros((9, 2), dtype=np.float32),
    )
    assert loaded.vocabulary == {"ids": 9, "shifted": 6, "attention_mask": 2, "pixels": 256}
    feed = synthetic_feed(
        loaded.signature.inputs, vocabulary=loaded.vocabulary, batch=40, sizes=loaded.sizes
    )
    assert set(feed["ids"].ravel()) == set(range(9))
    assert (feed["attention_mask"] == 1).all()


def test_an_old_operator_set_is_converted_and_answers_alike(tmp_path: Path) -> None:
    text = """
    <ir_version: 6, opset_import: ["": 11]>
    old (float[N, 4] x) => (float[N, 1] y)
    {
        s = Softmax<axis = 1>(x)
        r = ReduceSum<axes = [1]>(s)
        u = Unsqueeze<axes = [2]>(r)
        y = Squeeze<axes = [2]>(u)
    }
    """
    loaded = _load(text, tmp_path)
    assert loaded.opset == 11
    assert loaded.model.opset_import[0].version == 17
    assert loaded.notes[0].startswith("opset 11 was converted to 17 (answers")
    np.testing.assert_allclose(_runs(loaded, 3)["y"], 1, atol=1e-6)


def test_a_recent_operator_set_is_left_alone() -> None:
    model = onnx.parser.parse_model(LINEAR)
    same, note = modernise(model)
    assert same is model
    assert note == ""


def test_external_data_beside_the_file_is_embedded(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(LINEAR)
    weights = numpy_helper.to_array(model.graph.initializer[0])
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "w"))
    onnx.save(
        model,
        tmp_path / "m.onnx",
        save_as_external_data=True,
        location="m.data",
        size_threshold=0,
    )
    assert (tmp_path / "m.data").is_file()
    loaded = load_onnx(tmp_path / "m.onnx")
    (row,) = loaded.model.graph.initializer
    assert row.data_location == TensorProto.DEFAULT
    np.testing.assert_array_equal(numpy_helper.to_array(row), weights)


def _with_external(tmp_path: Path, location: str, *, length: int = 48) -> Path:
    model = onnx.parser.parse_model(LINEAR)
    row = model.graph.initializer[0]
    row.ClearField("raw_data")
    row.ClearField("float_data")
    row.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(length))):
        row.external_data.append(onnx.StringStringEntryProto(key=key, value=value))
    folder = tmp_path / "inner"
    folder.mkdir()
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return folder / "m.onnx"


@pytest.mark.parametrize(
    ("location", "found"),
    [
        ("../w.data", "outside the model's folder"),
        ("/etc/hostname", "outside the model's folder"),
        ("link.data", "outside the model's folder"),
        ("w.data", "the external data file 'w.data' is missing"),
        ("short.data", "'short.data' has 7 bytes and 'w' needs 48"),
    ],
)
def test_external_data_elsewhere_missing_or_short_is_refused(
    location: str, found: str, tmp_path: Path
) -> None:
    file = _with_external(tmp_path, location)
    (tmp_path / "w.data").write_bytes(bytes(48))
    (file.parent / "short.data").write_bytes(bytes(7))
    (file.parent / "link.data").symlink_to(tmp_path / "w.data")
    with pytest.raises(InputError, match=found):
        load_onnx(file)


def test_over_two_gigabytes_are_refused_before_they_are_read(tmp_path: Path) -> None:
    file = _with_external(tmp_path, "big.data", length=3_000_000_000)
    with (file.parent / "big.data").open("wb") as opened:
        opened.truncate(3_000_000_000)  # a hole, no disk
    with pytest.raises(InputError, match=r"3\.0 GB with its external data; at most 2 GB"):
        load_onnx(file)


@pytest.mark.parametrize(
    ("contents", "found"),
    [
        (b"", "it is empty"),
        (b"this is text\n", "not an ONNX model"),
        (b"\x1c\0\0\0ORTM" + bytes(64), "ONNX Runtime's own format"),
        (b"\x89PNG\r\n\x1a\n" + bytes(32), "not an ONNX model"),
    ],
)
def test_other_files_are_refused(contents: bytes, found: str, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(contents)
    with pytest.raises(InputError, match=found) as caught:
        load_onnx(tmp_path / "m.onnx")
    assert "\n" not in str(caught.value)


def test_a_truncated_file_and_no_file_are_refused(tmp_path: Path) -> None:
    file = _save(LINEAR, tmp_path / "m.onnx")
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(InputError, match="damaged"):
        load_onnx(file)
    with pytest.raises(InputError, match="does not exist"):
        load_onnx(tmp_path / "none.onnx")
    with pytest.raises(InputError, match="is a folder"):
        load_onnx(tmp_path)


REFUSED = {
    "opset": (LINEAR.replace('"": 17', '"": 10'), "opset 10; 11 to 22 was expected"),
    "newer": (LINEAR.replace('"": 17', '"": 23'), "opset 23; 11 to 22 was expected"),
    "fixed": (LINEAR.replace("[N, 4]", "[8, 4]"), "input 'x' is fixed to 8; a free batch axis"),
    "string": (
        '<ir_version: 8, opset_import: ["": 17]> g (string[N] x) => (string[N] y)'
        "{ y = Identity(x) }",
        "the input 'x' is of the type string",
    ),
    "complex": (
        '<ir_version: 8, opset_import: ["": 17]> g (float[N, 2] x) => (complex64[N] y)'
        "{ y = Identity(x) }",
        "the output 'y' is of the type complex64",
    ),
    "sequence": (
        '<ir_version: 8, opset_import: ["": 17]> g (float[N, 2] x) => (seq(float[N, 2]) y)'
        "{ y = SequenceConstruct(x) }",
        "the output 'y' is of the type sequence",
    ),
    "scalar": (
        '<ir_version: 8, opset_import: ["": 17]> g (float[N, 2] x, float s) => (float[N, 2] y)'
        "{ y = Mul(x, s) }",
        "the input 's' is a scalar",
    ),
    "mixed": (
        '<ir_version: 8, opset_import: ["": 17]> g (float[N, 2] x, float[1, 2] s)'
        "=> (float[N, 2] y) { y = Mul(x, s) }",
        "'s' is fixed and that of 'x' is free",
    ),
    "loss": (
        '<ir_version: 8, opset_import: ["": 17]> g (float[N, 2] x) => (float y)'
        "{ y = ReduceSum<keepdims = 0>(x) }",
        "the output 'y' is a scalar",
    ),
    "second": (
        '<ir_version: 8, opset_import: ["": 17]> g (float[N, 2] x) => (float[2, N] y)'
        "{ y = Transpose(x) }",
        r"the output 'y' has the shape \(2, 1\) for one sample",
    ),
    "unknown": (
        '<ir_version: 8, opset_import: ["": 17, "other": 1]> g (float[N, 2] x) => (float[N, 2] y)'
        "{ y = other.Magic(x) }",
        "ONNX Runtime cannot open it",
    ),
    "never-runs": (
        '<ir_version: 8, opset_import: ["": 17]> g (float[N, s] x) => (float[N, 2] y)'
        "<int64[2] shape = {0, 7}> { z = Reshape(x, shape) y = Relu(z) }",
        r"cannot run this graph on made-up inputs \(Non-zero status.*cannot be reshaped",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_served_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    text, found = REFUSED[case]
    with pytest.raises(InputError, match=found) as caught:
        _load(text, tmp_path)
    assert "\n" not in str(caught.value)
    assert "m.onnx" in str(caught.value)
