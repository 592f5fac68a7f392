"""Mutated requests: no model dies, no neighbour suffers; the guard refuses what kills Triton."""

from __future__ import annotations

import pytest

from benchmarks.robustness.campaign import Campaign, drafts_of, replay
from benchmarks.robustness.drafts import HttpRequest
from benchmarks.robustness.requests import make_request
from benchmarks.robustness.subjects import make_subjects

pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("triton")]

SEED = 0
COUNT = 500


@pytest.fixture(scope="module")
def strained(tmp_path_factory):
    """A repository of models of every kind, and requests whose answers are known."""
    root = tmp_path_factory.mktemp("strained")
    return root / "models", make_subjects(root / "bundles", repository=root / "models")


def test_a_request_is_made_again_from_its_number(strained):
    drafts = drafts_of(strained[1])
    for number in range(40):
        first, second = (make_request(SEED, number, drafts) for _ in range(2))
        assert first == second
        assert isinstance(first.content, bytes if number % 2 else HttpRequest)


def test_mutated_requests_harm_nobody(strained):
    repository, subjects = strained
    report = Campaign(repository, subjects, seed=SEED).run(range(COUNT))
    assert sum(report.statuses.values()) == COUNT
    assert report.lost_stubs == []
    assert report.faults == []
    assert report.neighbours["right"] > COUNT
    assert sum(report.refused_by_models.values()) > COUNT / 20
    # Requests ran together with those of the callers, not only beside them.
    assert any(samples > 1.2 * runs for _, _, samples, runs in report.joined.values())
    for crash in report.crashes:
        # Of Triton itself: they are kept by their number, and do not pass the guard.
        assert crash.protocol != "grpc", f"new: {crash}"
        _, lives = replay(repository, subjects, seed=SEED, number=crash.number, guard=True)
        assert lives, f"passes the guard: {crash}"


def test_mutated_requests_do_not_pass_the_guard(strained):
    repository, subjects = strained
    report = Campaign(repository, subjects, seed=SEED + 1, guard=True).run(range(COUNT // 2))
    assert (report.crashes, report.lost_stubs, report.faults) == ([], [], [])
