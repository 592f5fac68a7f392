"""The peers behind a socket: ours for real, and a server that ends before it answers."""

from __future__ import annotations

import socket
import threading
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


def test_a_connection_that_idled_is_opened_again() -> None:
    """Uvicorn closes one after five seconds; a peer waits longer while others are asked."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for _ in range(2):  # one answer a connection, which is closed without a word of it
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                body = b'{"label": "good", "score": 1.0}'
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                connection.sendall(head + body)

    with listener:
        threading.Thread(target=serve, daemon=True).start()
        ask = Caller(listener.getsockname()[1])
        assert [ask("one"), ask("two")] == [("good", 1.0)] * 2
        ask.close()


def test_a_server_that_ends_is_said() -> None:
    process = start(["-c", "raise SystemExit(3)"])
    with pytest.raises(RuntimeError, match="ended with 3"):
        caller(free_port(), process)
