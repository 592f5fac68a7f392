"""The Python models of a string-in model, with stand-ins for Triton."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from edgeml.serving.repository.config import DEFAULT_CONFIG, parse_config
from edgeml.serving.repository.publish import publish_bundle
from edgeml.workflows.loading import task_of
from tests.unit.serving.test_backend import (
    RepeatingTensor,
    Request,
    TritonError,
    TritonModelException,
    load_model_file,
)
from tests.unit.serving.tiny_text import GOLDEN_TEXTS, LABELS, MAX_LENGTH, make_texts


@pytest.fixture
def published(sentiment, repository) -> Path:
    publish_bundle(sentiment, repository)
    return repository


@pytest.fixture
def load(monkeypatch, published):
    def load_part(part: str):
        folder = published / f"sentiment_{part}"
        module = load_model_file(monkeypatch, folder / "1/model.py")
        return module, arguments(folder)

    return load_part


def arguments(folder: Path) -> dict[str, str]:
    config = parse_config((folder / DEFAULT_CONFIG).read_text(encoding="utf-8"))
    return {
        "model_config": json.dumps(config),
        "model_repository": str(folder),
        "model_version": "1",
    }


def strings(*values: bytes) -> Request:
    return Request({"text": np.array([[value] for value in values], dtype=np.object_)})


def started(loaded):
    module, given = loaded
    model = module.TritonPythonModel()
    model.initialize(given)
    return model


@pytest.mark.parametrize(
    ("length", "bucket"), [(2, 16), (16, 16), (17, 32), (33, 64), (65, 100), (100, 100)]
)
def test_the_bucket_is_the_smallest_that_holds_the_text(load, length, bucket):
    module, _ = load("tokenizer")
    assert module.bucket_of(length, most=100) == bucket


def test_ids_are_those_of_the_edge_padded_to_a_bucket(load, sentiment):
    model, task = started(load("tokenizer")), task_of(sentiment)
    texts = make_texts()
    for text, response in zip(
        texts, model.execute([strings(text.encode()) for text in texts]), strict=True
    ):
        prepared = task.prepare(text)
        got = {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors}
        length = got["input_ids"].shape[1]
        assert length in (16, 32, MAX_LENGTH)
        assert length == 16 or length / 2 < len(prepared.ids)
        expected = dict(task.pad([prepared], length=length))
        assert set(got) == {*expected, "truncated"}
        for name, array in expected.items():
            np.testing.assert_array_equal(got[name], array)
            assert got[name].dtype == np.int64
        assert got["truncated"].tolist() == [[prepared.truncated]]


def test_a_request_of_several_texts_has_one_length(load):
    model = started(load("tokenizer"))
    (response,) = model.execute([strings(b"good", b"good " * 20, b"bad " * 500)])
    got = {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors}
    assert got["input_ids"].shape == (3, MAX_LENGTH)
    assert got["attention_mask"].sum(axis=1).tolist() == [3, 22, MAX_LENGTH]
    assert got["truncated"].tolist() == [[False], [False], [True]]


@pytest.mark.parametrize("bad", [b"\xff", b"good \xc3", b"\xed\xa0\x80", "ß".encode("latin-1")])
def test_bytes_that_are_no_utf8_cost_only_their_request(load, bad):
    model = started(load("tokenizer"))
    first, refused, last = model.execute(
        [strings(b"good"), strings(b"fine", bad), strings("é".encode())]
    )
    assert first.error is None
    assert last.error is None
    assert "text 1 of the request is not valid UTF-8" in refused.error.message
    assert refused.error.code == TritonError.INVALID_ARG


def test_another_tokenizer_is_refused(load, published):
    loaded = load("tokenizer")
    path = published / "sentiment_tokenizer/1/tokenizer.json"
    path.write_bytes(path.read_bytes().replace(b"good", b"goof"))
    with pytest.raises(TritonModelException, match="the tokenizer has the sha256"):
        started(loaded)
    path.unlink()
    with pytest.raises(TritonModelException, match=r"No such file.*publish the bundle again"):
        started(loaded)


@pytest.mark.parametrize("part", ["tokenizer", "labels"])
def test_an_interpreter_with_wrong_values_is_refused(monkeypatch, published, part):
    folder = published / f"sentiment_{part}"
    module = load_model_file(monkeypatch, folder / "1/model.py", Tensor=RepeatingTensor)
    with pytest.raises(TritonModelException, match="arrive with wrong values"):
        started((module, arguments(folder)))


def test_labels_are_those_of_the_edge(load):
    model = started(load("labels"))
    rows = np.float32([[0.2, 0.2, 0.6], [0.4, 0.4, 0.2], [0.0, 0.0, 0.0]])
    bad = np.float32([[np.nan, 0, 0]])
    first, refused = model.execute(
        [Request({"probabilities": rows}), Request({"probabilities": bad})]
    )
    label, scores = (tensor.as_numpy() for tensor in first.output_tensors)
    assert [row[0].decode() for row in label] == [LABELS[2], LABELS[0], LABELS[0]]
    np.testing.assert_array_equal(scores, rows)
    assert "probabilities" in refused.error.message


ALONE = """
import json, sys
sys.path[:0] = sys.argv[1:4]
import model
assert model.TextTask.__module__ == "edgeml.tasks.text"
import edgeml
assert edgeml.__file__.startswith(sys.argv[1]), edgeml.__file__
heavy = {"onnxruntime", "torch", "transformers", "PIL", "google"} & set(sys.modules)
assert not heavy, heavy
from edgeml.tasks.classification import ClassLabels
from pathlib import Path
contract = json.loads(Path(sys.argv[1], "contract.json").read_bytes())
task = model.TextTask(
    model.TextPreprocessing.from_json(contract["preprocessing"]),
    ClassLabels(names=()),
    Path(sys.argv[1], "tokenizer.json").read_bytes(),
)
texts = json.loads(sys.stdin.read())
print(json.dumps([task.prepare(text).ids.tolist() for text in texts]))
"""


def test_the_published_folder_needs_nothing_but_numpy_and_tokenizers(
    published, sentiment, tmp_path
):
    """In an interpreter of its own, so that it cannot borrow the library that is tested."""
    (tmp_path / "triton_python_backend_utils.py").touch()
    packages = str(Path(tokenizers.__file__).parent.parent)
    folder = published / "sentiment_tokenizer/1"
    command = [sys.executable, "-I", "-c", ALONE, str(folder), str(tmp_path), packages]
    done = subprocess.run(
        command, input=json.dumps(GOLDEN_TEXTS), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    task = task_of(sentiment)
    assert json.loads(done.stdout) == [task.prepare(text).ids.tolist() for text in GOLDEN_TEXTS]
