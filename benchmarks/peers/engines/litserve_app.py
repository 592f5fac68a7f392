"""The LitServe app, a module of its own: LitServe's processes import its class again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import litserve

from benchmarks.peers.opened import Place


class Classifier(litserve.LitAPI):  # type: ignore[misc] # untyped library
    """A text to its label and probability, by torch on one thread."""

    checkpoint = ""

    def setup(self, device: str) -> None:
        """Load the model, in LitServe's worker."""
        import torch

        from benchmarks.peers.engines.torch_plain import open_classifier

        del device
        torch.set_num_threads(1)
        torch.set_num_interop_threads(1)
        self.classify = open_classifier(Place(checkpoint=Path(self.checkpoint)))

    # LitServe reads the annotation of ``request``, and takes the body as JSON where there is none.
    def decode_request(self, request) -> str:  # type: ignore[no-untyped-def]
        """Take the text out of a body."""
        return str(request["text"])

    def predict(self, text: str) -> tuple[str, float]:
        """Answer it."""
        label, score = self.classify(text)
        return label, score

    def encode_response(self, output: tuple[str, float]) -> dict[str, Any]:
        """Make the body of an answer."""
        return {"label": output[0], "score": output[1]}


def main(checkpoint: str, port: int) -> None:
    """Serve until this process is ended."""
    classifier = Classifier()
    classifier.checkpoint = checkpoint
    server = litserve.LitServer(
        classifier, accelerator="cpu", devices=1, workers_per_device=1, timeout=60
    )
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
