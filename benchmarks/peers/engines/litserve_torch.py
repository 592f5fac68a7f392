"""LitServe around torch: one worker, one thread, no batching, as its documentation begins."""

from __future__ import annotations

from benchmarks.peers.engines.over_http import caller, free_port, start
from benchmarks.peers.opened import OpenPeer, Place

PACKAGES = ("litserve", "torch", "transformers")


def open_peer(place: Place) -> OpenPeer:
    """Start the server in a process of its own."""
    port = free_port()
    module = "benchmarks.peers.engines.litserve_app"
    process = start(["-m", module, str(place.checkpoint), str(port)])
    return OpenPeer(answer=caller(port, process), facts={"placement": "co-located, loopback"})
