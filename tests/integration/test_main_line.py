"""The whole line on a small real model: one contract, one predictor, on the edge and on Triton."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import edgeml
from edgeml.core.predictor import Predictor
from edgeml.data.opening import open_image_data, prepare_images
from edgeml.serving.installation.finding import Installation
from edgeml.serving.server.serve import TritonServer
from edgeml.tasks.image import ImagePreprocessing
from edgeml.training.checkpoint import read_checkpoint
from tests.contract.predictor_contract import PredictorContract
from tests.trained import Trained

pytestmark = pytest.mark.triton


@pytest.fixture(scope="module")
def deployed(
    trained: Trained, triton: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    repository = tmp_path_factory.mktemp("line")
    edgeml.publish(trained.bundle, repository=repository, name="line")
    with edgeml.serve_triton(repository) as server:
        yield server


def test_every_stage_makes_the_same_pixels(trained: Trained, deployed: TritonServer) -> None:
    dataset = open_image_data(trained.pictures)
    checkpoint, _ = read_checkpoint(trained.checkpoint)
    indices = np.arange(len(dataset.targets))
    in_training = prepare_images(
        dataset, indices, ImagePreprocessing.from_json(checkpoint.preprocessing)
    )
    seen: list[np.ndarray] = []
    with (
        edgeml.load(trained.bundle, num_threads=1) as edge,
        edgeml.connect(deployed.grpc, model="line", bundle=trained.bundle) as server,
    ):
        for predictor in (edge, server):
            run = predictor._engine.run
            fed: list[np.ndarray] = []

            def record(tensors, run=run, fed=fed):
                fed.append(tensors["image"])
                return run(tensors)

            predictor._engine.run = record
            predictor.predict_batch(list(dataset.items))
            seen.append(np.concatenate(fed))
    golden = edgeml.Bundle.read(trained.bundle).golden()

    assert np.array_equal(in_training, seen[0])
    assert np.array_equal(in_training, seen[1])
    for one in golden.tensors["image"]:
        assert any(np.array_equal(one, made) for made in in_training)


def test_edge_and_server_give_the_same_predictions(
    trained: Trained, deployed: TritonServer
) -> None:
    pictures = sorted(trained.pictures.rglob("*.png"))[::7]
    with edgeml.connect(deployed.grpc, model="line", bundle=trained.bundle) as server:
        variant = server.served_by.split("/")[2]
        with edgeml.load(trained.bundle, variant=variant, num_threads=1) as edge:
            here, there = edge.predict_batch(pictures), server.predict_batch(pictures)
        single = [server.predict(path) for path in pictures]

    assert [row.label for row in here] == [row.label for row in there]
    for one, other, alone in zip(here, there, single, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-6)
        assert alone.scores == pytest.approx(other.scores, abs=1e-6)
        assert one.served_by.startswith("onnxruntime/cpu/")
        assert other.served_by.startswith("triton/cpu/")


class TestTriton(PredictorContract):
    """The server's predictor keeps the contract of every predictor."""

    tolerance = 1e-6

    @pytest.fixture
    def predictor(self, server: TritonServer) -> Iterator[Predictor]:
        with edgeml.connect(server.grpc, model="tiny") as predictor:
            yield predictor
