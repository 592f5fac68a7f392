"""Bundles of named arrays on a server: what is published, and what a client makes of it."""

from __future__ import annotations

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

import edgeml
from edgeml.errors import InputError
from edgeml.serving.repository.config import CPU_CONFIG, read_config
from edgeml.serving.repository.contract import decode_contract
from edgeml.serving.repository.publish import publish_bundle
from tests.tensors import ONE, TWO, make_tensor_bundle
from tests.unit.serving.fake_server import FakeTriton, serving

SAMPLES = [{"values": [1, 2], "weights": [3, 4]}, {"values": [5, 6], "weights": [7, 8]}]


@pytest.fixture
def bundle(tmp_path):
    return make_tensor_bundle(tmp_path / "two.bundle", TWO, SAMPLES)


class Products(FakeTriton):
    """Answers with what the graph computes."""

    def ModelInfer(self, request, context):  # noqa: N802
        rows = zip(request.inputs, request.raw_input_contents, strict=True)
        kinds = {"FP32": np.float32, "INT64": np.int64}
        feed = {
            row.name: np.frombuffer(data, kinds[row.datatype]).reshape(row.shape)
            for row, data in rows
        }
        products = (feed["values"] * feed["weights"]).astype(np.float32)
        self.batches.append(len(products))
        answer = service_pb2.ModelInferResponse(
            model_name=request.model_name, model_version=self.versions[-1]
        )
        totals = products.sum(axis=1, keepdims=True)
        for name, array in (("products", products), ("totals", totals)):
            answer.outputs.add(name=name, datatype="FP32", shape=array.shape)
            answer.raw_output_contents.append(array.tobytes())
        return answer


def test_several_inputs_and_outputs_are_published(bundle, repository):
    published = publish_bundle(bundle, repository)
    model = read_config(published.path / CPU_CONFIG)
    assert model.signature is not None
    found = [
        (spec.name, spec.dtype, [isinstance(axis, str) for axis in spec.shape])
        for spec in (*model.signature.inputs, *model.signature.outputs)
    ]
    assert found == [
        ("values", "float32", [True, True]),
        ("weights", "int64", [True, True]),
        ("products", "float32", [True, True]),
        ("totals", "float32", [True]),
    ]
    contract = decode_contract(model.contract_text)
    assert contract["signature"] == bundle.manifest.signature.to_json()
    assert published.parts == ()
    assert not (published.path / "1/labels.txt").exists()


def test_a_client_answers_as_in_process(bundle, repository):
    config = (publish_bundle(bundle, repository).path / CPU_CONFIG).read_text(encoding="utf-8")
    fake = Products(config=config)
    other = {"values": [1, 2, 3], "weights": [1, 1, 1]}
    bad = {"values": [1], "weights": [1.5]}
    with serving(fake) as url, edgeml.load(bundle, num_threads=1) as edge:
        with edgeml.connect(url, model="tensors", bundle=bundle) as server:
            items = [*SAMPLES, other, bad]
            served = server.predict_batch(items, on_error="return")
        local = edge.predict_batch(items, on_error="return")
    assert fake.batches == [2, 2, 1]  # the golden feed, then a feed a shape
    assert isinstance(served[3], InputError)
    for one, two in zip(served[:3], local[:3], strict=True):
        assert one.outputs.keys() == two.outputs.keys()
        for name, array in one.outputs.items():
            assert np.array_equal(array, two.outputs[name])
            assert array.shape == two.outputs[name].shape
    assert served[0].served_by == "triton/cpu/fp32/1"


def test_a_model_of_one_sample_is_refused_before_anything_is_written(tmp_path, repository):
    bundle = make_tensor_bundle(tmp_path / "one.bundle", ONE, [{"x": [1, 2, 3]}])
    with pytest.raises(InputError, match=r"is float32 \(1, 3\); .*export with a dynamic batch"):
        publish_bundle(bundle, repository)
    assert [path.name for path in repository.rglob("*") if path.is_file()] == []
