"""Our bundle through the public interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import edgeml
from benchmarks.peers.opened import OpenPeer, Place
from edgeml.workflows.loading import task_of

PACKAGES = ("edgeml", "onnxruntime", "tokenizers", "numpy")


def open_peer(place: Place) -> OpenPeer:
    """Load the bundle with one thread."""
    assert place.bundle is not None
    bundle = edgeml.Bundle.read(place.bundle)
    if list(bundle.manifest.labels) != place.labels:
        raise ValueError("the bundle has other labels than the checkpoint; export the checkpoint")
    predictor = edgeml.load(bundle, variant=place.variant, num_threads=1)
    task = task_of(bundle)

    def answer(text: str) -> tuple[str, float]:
        prediction = predictor.predict(text)
        return str(prediction.label), prediction.score

    def answer_all(texts: Sequence[str]) -> list[str]:
        return [str(row.label) for row in predictor.predict_batch(texts)]

    def model_alone(text: str) -> Callable[[], object]:
        tensors = task.collate([task.prepare(text)])
        return lambda: predictor.run(tensors)

    return OpenPeer(
        answer=answer,
        answer_all=answer_all,
        model_alone=model_alone,
        facts={"served_by": predictor.served_by},
    )
