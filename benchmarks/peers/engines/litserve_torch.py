"""LitServe around torch: one worker, one thread, no batching, as its documentation begins."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from benchmarks.peers.engines.over_http import caller, free_port, start
from benchmarks.peers.opened import OpenPeer, Place

PACKAGES = ("litserve", "torch", "transformers")


def open_peer(place: Place) -> OpenPeer:
    """Start the server in a process of its own."""
    port = free_port()
    module = "benchmarks.peers.engines.litserve_torch"
    process = start(["-m", module, str(place.checkpoint), str(port)])
    return OpenPeer(answer=caller(port, process), facts={"placement": "co-located, loopback"})


def main(checkpoint: str, port: int) -> None:
    """Serve until this process is ended."""
    import litserve

    class Classifier(litserve.LitAPI):  # type: ignore[misc] # untyped library
        def setup(self, device: str) -> None:
            import torch

            from benchmarks.peers.engines.torch_plain import open_classifier

            del device
            torch.set_num_threads(1)
            torch.set_num_interop_threads(1)
            self.classify = open_classifier(Place(checkpoint=Path(checkpoint)))

        def decode_request(self, request: dict[str, Any]) -> str:
            return str(request["text"])

        def predict(self, text: str) -> tuple[str, float]:
            label, score = self.classify(text)
            return label, score

        def encode_response(self, output: tuple[str, float]) -> dict[str, Any]:
            return {"label": output[0], "score": output[1]}

    server = litserve.LitServer(
        Classifier(), accelerator="cpu", devices=1, workers_per_device=1, timeout=60
    )
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
