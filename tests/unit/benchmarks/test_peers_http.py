"""The peers behind a socket: ours for real, and a server that ends before it answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.peers.engines import ours_http
from benchmarks.peers.engines.over_http import Caller, caller, free_port, start
from benchmarks.peers.opened import Place
from tests.text_bundles import make_text_bundle


def test_our_own_server_is_a_peer(tmp_path: Path) -> None:
    bundle = make_text_bundle(tmp_path / "text.bundle")
    peer = ours_http.open_peer(Place(checkpoint=tmp_path, bundle=bundle.path))
    assert isinstance(peer.answer, Caller)
    label, score = peer.answer("the good film")
    peer.answer.close()
    assert label == "good"
    assert 0.5 < score <= 1.0


def test_a_server_that_ends_is_said() -> None:
    process = start(["-c", "raise SystemExit(3)"])
    with pytest.raises(RuntimeError, match="ended with 3"):
        caller(free_port(), process)
