"""Members as they are built: one tiny real one, the seeded tasks, the fixed recipes on it."""

from __future__ import annotations

import functools
import io
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

torch = pytest.importorskip("torch")

from benchmarks.zoo import timing  # noqa: E402
from benchmarks.zoo.builders.mobilenet import MobileNetV3Small  # noqa: E402
from benchmarks.zoo.builders.segmentation import UNet  # noqa: E402
from benchmarks.zoo.builders.tables import mlp  # noqa: E402
from benchmarks.zoo.built import Built  # noqa: E402
from benchmarks.zoo.catalogue import RECIPES  # noqa: E402
from benchmarks.zoo.fitting import fit_head  # noqa: E402
from benchmarks.zoo.making import make_member, read_or_none, write_whole  # noqa: E402
from benchmarks.zoo.members import Member  # noqa: E402
from benchmarks.zoo.opening import Array, Call, open_file  # noqa: E402
from benchmarks.zoo.peers import file_of, make_peers  # noqa: E402
from benchmarks.zoo.pictures import enlarged, gratings, shapes  # noqa: E402
from benchmarks.zoo.recipes import __main__ as recipe_command  # noqa: E402
from benchmarks.zoo.recipes.job import read_inputs  # noqa: E402
from benchmarks.zoo.topics import draw_topics  # noqa: E402
from edgeml.core.timing import TimingPlan  # noqa: E402


class TinyMember(Member):
    """The perceptron, small and hardly trained."""

    def build(self) -> Built:
        return _tiny()


@functools.cache
def _tiny() -> Built:
    return mlp(samples=340, steps=120, hidden=64)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


_TINY = TinyMember(name="tiny", builder="", about="tiny")


def test_a_member_is_whole_and_says_what_it_is(tmp_path: Path) -> None:
    about = make_member(_TINY, tmp_path)
    assert read_or_none(tmp_path / "member.json") == about
    model = onnx.load(str(tmp_path / "model.onnx"))
    assert {row.version for row in model.opset_import if row.domain == ""} == {18}
    assert [node.name for node in model.graph.input] == ["profile", "history", "context"]
    with np.load(tmp_path / "data.npz") as data:
        assert set(data.files) == {"profile", "history", "context", "labels"}
        assert data["labels"].dtype == np.int64
        assert {len(data[name]) for name in data.files} == {340}
    assert 0.3 < about["accuracy"] < 1.0


def test_a_free_batch_axis_came_out(tmp_path: Path) -> None:
    make_member(_TINY, tmp_path)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    inputs = read_inputs(tmp_path / "data.npz")
    for count in (1, 7):
        feed = {name: array[:count] for name, array in inputs.items()}
        assert session.run(None, feed)[0].shape == (count, 10)


def test_recipes_of_this_environment_are_made_and_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = make_member(_TINY, tmp_path)
    wanted = ("ort_fp32", "ort_static", "ort_dynamic")
    monkeypatch.setattr("benchmarks.zoo.peers.RECIPES", {name: RECIPES[name] for name in wanted})
    rows = make_peers(_TINY, tmp_path, model_sha256=about["model_sha256"], say=lambda line: None)
    assert all(rows[name]["made"] for name in wanted), rows
    assert rows["ort_fp32"]["drop"] == 0.0
    assert rows["ort_fp32"]["paired"]["num_samples"] == 40
    static = onnx.load(str(file_of(tmp_path, RECIPES["ort_static"])))
    assert any(node.op_type == "QuantizeLinear" for node in static.graph.node)
    call = open_file(file_of(tmp_path, RECIPES["ort_static"]), "onnxruntime")
    inputs = read_inputs(tmp_path / "data.npz")
    assert call({name: array[:1] for name, array in inputs.items()}).shape == (1, 10)


def test_everybody_takes_turns_on_the_same_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = make_member(_TINY, tmp_path)
    wanted = ("ort_fp32", "ort_dynamic")
    monkeypatch.setattr("benchmarks.zoo.peers.RECIPES", {name: RECIPES[name] for name in wanted})
    make_peers(_TINY, tmp_path, model_sha256=about["model_sha256"], say=lambda line: None)
    found = {"file_sha256": "a", "engine": "onnxruntime", "engine_options": {}}
    write_whole(tmp_path / "search.json", {"ort": found, "any": {**found, "file_sha256": "b"}})

    def bundle(place: Path, variant: str | None = None) -> Call:
        call = open_file(tmp_path / "model.onnx", "onnxruntime")

        def slow(feed: Mapping[str, Array]) -> Array:
            time.sleep(0.002 if place.name == "bundle-ort" and variant is None else 0)
            return call(feed)

        return slow

    monkeypatch.setattr(timing, "open_variant", bundle)
    monkeypatch.setattr(timing, "open_bundle", bundle)
    monkeypatch.setattr(timing, "_PLAN", TimingPlan(rounds=4, calls=2, warmup=1))
    measured = timing.measure(tmp_path)
    runs = measured["runs"]
    assert set(runs["ours_ort"]) == {"ours_ort", "ours_fp32", "ours_checked", *wanted}
    assert set(runs["ours_any"]) == {"ours_any", "ort_fp32"}
    assert runs["ours_ort"]["ort_fp32"]["faster_by"] < 0.6  # ours sleeps
    write_whole(tmp_path / "timing.json", measured)
    assert timing.time_member(tmp_path, again=False, say=pytest.fail) == measured


def test_openvino_gives_what_onnxruntime_gives(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    make_member(_TINY, tmp_path)
    inputs = read_inputs(tmp_path / "data.npz")
    feed = {name: array[:1] for name, array in inputs.items()}
    model = tmp_path / "model.onnx"
    expected = open_file(model, "onnxruntime")(feed)
    for fixed in (False, True):
        call = open_file(model, "openvino", batch_of_one=fixed)
        np.testing.assert_allclose(call(feed), expected, atol=1e-4)


def test_a_recipe_that_fails_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_member(_TINY, tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"no model")
    only = {"ort_dynamic": RECIPES["ort_dynamic"]}
    monkeypatch.setattr("benchmarks.zoo.peers.RECIPES", only)
    row = make_peers(_TINY, tmp_path, model_sha256="x", say=lambda line: None)["ort_dynamic"]
    assert not row["made"]
    assert not row["passed"]
    assert row["reason"]


def test_a_recipe_reads_its_job_and_leaves_facts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_member(_TINY, tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    job = {"model": str(tmp_path / "model.onnx"), "data": str(tmp_path / "data.npz"),
           "out": str(out), "file": "model.onnx", "count": 4, "transformer": False}  # fmt: skip
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(job)))
    monkeypatch.setattr(sys, "argv", ["recipes", "ort_static"])
    recipe_command.main()
    assert "preprocessing" in json.loads((out / "facts.json").read_text())
    assert (out / "model.onnx").is_file()


@pytest.mark.parametrize("draw", [gratings, shapes])
def test_pictures_are_seeded_and_of_eight_bits(draw) -> None:
    images, labels = draw(3, size=32, seed=5)
    again, same = draw(3, size=32, seed=5)
    other, _ = draw(3, size=32, seed=6)
    np.testing.assert_array_equal(images, again)
    np.testing.assert_array_equal(labels, same)
    assert not np.array_equal(images, other)
    assert images.dtype == np.float32
    assert images.shape == (3, 3, 32, 32)
    pixels = images * 64 + 127.5
    np.testing.assert_allclose(pixels, np.rint(pixels), atol=1e-3)


def test_an_enlarged_picture_keeps_its_pixels() -> None:
    small = np.array([[[0, 127], [255, 127]]], dtype=np.uint8)
    large = enlarged(small, size=4, seed=0)
    assert large.shape == (1, 3, 4, 4)
    np.testing.assert_array_equal(large[0, 0, ::2, ::2] * 128 + 127, small[0])


def test_a_topics_words_are_frequent_in_its_texts() -> None:
    tokens, labels = draw_topics(200, length=50, vocabulary=500, topics=4, share=0.4, seed=0)
    assert tokens.max() < 500
    own = (tokens // 40 == labels[:, None]).mean(axis=1)
    assert own.mean() > 0.35


def test_a_fitted_head_separates_what_can_be_separated() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 90)
    features = (np.eye(3)[labels] * 40 + 1000 + rng.normal(0, 1, (90, 3))).astype(np.float32)
    head = torch.nn.Linear(3, 3)
    fit_head(head, features, labels, decay=1e-4)
    with torch.no_grad():
        answers = head(torch.from_numpy(features)).argmax(dim=1).numpy()
    assert (answers == labels).mean() == 1.0


def test_networks_have_their_published_shapes() -> None:
    with torch.no_grad():
        mobile = MobileNetV3Small(num_classes=1000)
        parameters = sum(row.numel() for row in mobile.parameters())
        assert parameters == 2_542_856  # as published with a head of 1,000 classes
        assert mobile.eval()(torch.zeros(2, 3, 64, 64)).shape == (2, 1000)
        assert UNet(num_classes=4).eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 4, 32, 32)


def test_arrays_of_unequal_lengths_are_refused() -> None:
    built = _tiny()
    assert built.labels is not None
    with pytest.raises(ValueError, match="samples"):
        Built(model=built.model, inputs=built.inputs, labels=built.labels[:-1])
