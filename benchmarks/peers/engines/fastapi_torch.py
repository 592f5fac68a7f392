"""What many teams write first: FastAPI and uvicorn around torch, one worker, one thread."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from benchmarks.peers.engines.over_http import caller, free_port, start
from benchmarks.peers.opened import OpenPeer, Place

PACKAGES = ("fastapi", "uvicorn", "torch", "transformers")


def open_peer(place: Place) -> OpenPeer:
    """Start the app in a process of its own."""
    port = free_port()
    module = "benchmarks.peers.engines.fastapi_torch"
    process = start(["-m", module, str(place.checkpoint), str(port)])
    return OpenPeer(answer=caller(port, process), facts={"placement": "co-located, loopback"})


def main(checkpoint: str, port: int) -> None:
    """Serve until this process is ended."""
    import torch
    import uvicorn
    from fastapi import FastAPI

    from benchmarks.peers.engines.torch_plain import open_classifier

    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    classify = open_classifier(Place(checkpoint=Path(checkpoint)))
    app = FastAPI()

    @app.post("/predict")
    def predict(value: dict[str, Any]) -> dict[str, Any]:
        label, score = classify(value["text"])
        return {"label": label, "score": score}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
