"""``edgeml serve`` on our bundle: the row that other servers stand beside."""

from __future__ import annotations

from benchmarks.peers.engines.over_http import caller, free_port, start
from benchmarks.peers.opened import OpenPeer, Place

PACKAGES = ("edgeml", "onnxruntime", "fastapi", "uvicorn")


def open_peer(place: Place) -> OpenPeer:
    """Start the app in a process of its own, with one thread and one worker."""
    assert place.bundle is not None
    port = free_port()
    words = ["-m", "edgeml", "serve", str(place.bundle), "--port", str(port), "--threads", "1"]
    if place.variant is not None:
        words += ["--variant", place.variant]
    process = start(words)
    return OpenPeer(answer=caller(port, process), facts={"placement": "co-located, loopback"})
