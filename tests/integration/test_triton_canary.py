"""Canaries and cascades against the real Triton: a candidate there is a model of its own name."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import edgeml
from edgeml.serving.repository.publish import publish_bundle
from edgeml.serving.server.running import TritonServer
from edgeml.serving.server.serve import start_triton
from edgeml.serving.server.stubs import stubs_of
from tests.unit.serving.tiny_bundle import make_tiny_bundle

pytestmark = pytest.mark.triton

CALLS = 300


@pytest.fixture(scope="module")
def unwatched(triton, tiny, tmp_path_factory) -> Iterator[TritonServer]:
    """A server that cures no model: the stable one, equal ones, and a wrong one."""
    root = tmp_path_factory.mktemp("canary")
    wrong = make_tiny_bundle(tmp_path_factory.mktemp("bundles") / "wrong.bundle", seed=1)
    publish_bundle(tiny, root)
    publish_bundle(tiny, root, name="tiny_next")
    publish_bundle(tiny, root, name="tiny_doomed")
    publish_bundle(tiny, root, name="tiny_old")
    publish_bundle(wrong, root, name="tiny_wrong")
    with start_triton(root, installation=triton, supervised=False) as server:
        yield server


@pytest.fixture
def pictures(rng: np.random.Generator) -> list[np.ndarray]:
    # Colours of their own: the tiny model looks at nothing else.
    colours = rng.integers(0, 256, (CALLS, 1, 1, 3))
    return list(np.broadcast_to(colours, (CALLS, 8, 8, 3)).astype(np.uint8))


def connected(server: TritonServer, candidate: str, **options) -> edgeml.Predictor:
    return edgeml.canary(
        edgeml.connect(server.grpc, model="tiny"),
        edgeml.connect(server.grpc, model=candidate),
        **{"share": 0.3, **options},
    )


def test_keys_are_shared_out_alike_by_every_client(unwatched, pictures) -> None:
    def asked() -> list[bool]:
        with connected(unwatched, "tiny_next", shadow=0.0) as canary:
            answers = canary.predict_batch(pictures)
            alone = [canary.predict(picture) for picture in pictures[:20]]
        assert [row.served_by for row in alone] == [row.served_by for row in answers[:20]]
        return [row.served_by.startswith("candidate:triton") for row in answers]

    first = asked()
    assert first == asked()
    assert 0.2 < np.mean(first) < 0.4


def test_a_wrong_candidate_is_stopped_by_what_it_answers(unwatched, pictures) -> None:
    with connected(unwatched, "tiny_wrong", shadow=1.0) as canary:
        for picture in pictures:
            canary.predict(picture)
            if canary.stopped is not None:
                break
            canary.finish_comparing()
        assert canary.stopped is not None
        assert canary.stopped.partition(":")[0] in ("flips", "labels", "confidence")
        assert canary.report().compared < 150
        assert canary.predict(pictures[0]).served_by.startswith("stable:triton")
        assert not canary.decide().passed


def test_a_proven_candidate_is_promoted_on_the_server(unwatched, tiny, pictures) -> None:
    stable = edgeml.connect(unwatched.grpc, model="tiny_old")
    candidate = edgeml.connect(unwatched.grpc, model="tiny_next")
    gate = edgeml.Gate(max_flips=0.03, require_proof=True)
    with edgeml.canary(stable, candidate, share=0.3, shadow=1.0) as canary:
        for picture in pictures:
            canary.predict(picture)
            canary.finish_comparing()
        done = edgeml.promote(
            canary,
            tiny,
            repository=unwatched.repository,
            name="tiny_old",
            gate=gate,
            server=unwatched.http,
        )
        assert done.promoted, done.decision.reason
        assert done.published.version == 2
        # The canary goes on, on both models, although one has another version now.
        answers = canary.predict_batch(pictures)
    assert {row.served_by.partition(":")[0] for row in answers} == {"stable", "candidate"}
    assert not any("failed" in row.served_by for row in answers)
    with edgeml.connect(unwatched.grpc, model="tiny_old") as anew:
        assert anew.predict(pictures[0]).served_by.endswith("/2")


def test_a_cascade_asks_the_server_only_for_what_the_edge_is_unsure_of(
    unwatched, tiny, pictures
) -> None:
    edge = edgeml.load(tiny)
    server = edgeml.connect(unwatched.grpc, model="tiny_wrong")
    expected = [row.score < 0.9 for row in edge.predict_batch(pictures)]
    with edgeml.cascade(edge, server, threshold=0.9) as both:
        answers = both.predict_batch(pictures)
    assert [row.served_by.startswith("second:triton") for row in answers] == expected
    assert 0 < sum(expected) < CALLS


def test_a_killed_candidate_is_stopped_and_no_caller_sees_an_error(unwatched, pictures) -> None:
    settings = edgeml.CanarySettings(candidate_timeout_s=0.3)
    with connected(unwatched, "tiny_doomed", settings=settings) as canary:
        before = [canary.predict(picture) for picture in pictures]
        assert canary.stopped is None
        assert any(row.served_by.startswith("candidate:") for row in before)
        (stub,) = stubs_of(unwatched.token)["tiny_doomed"]
        os.kill(stub.pid, signal.SIGKILL)
        with ThreadPoolExecutor(4) as pool:
            after = list(pool.map(canary.predict, pictures))
        assert [row.label for row in after] == [row.label for row in before]
        assert all(row.served_by.startswith("stable:") for row in after)
        assert canary.stopped is not None
        assert canary.stopped.startswith("errors: ")
        assert 13 <= canary.report().candidate_failures <= 25
        assert "edgeml_canary_stopped_total" in canary.metrics_text()
