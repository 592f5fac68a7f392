"""The peers and the files that they run, as rows: a new one is a row and an ``engines`` module."""

from __future__ import annotations

from dataclasses import dataclass

OURS = ("edgeml", "edgeml-fp32", "edgeml-http")
REFERENCE = "transformers"


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """Files made from the checkpoint before the clock runs.

    Attributes:
        name: Also the name of its folder.
        engine: Module of ``benchmarks.peers.engines`` whose ``prepare`` makes it.
        environment: Name of the requirements file.
        source: The artefact that it is made from; None for the checkpoint.
        calibrated: Whether it needs training sentences.
    """

    name: str
    engine: str
    environment: str
    source: str | None = None
    calibrated: bool = False


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One competitor.

    Attributes:
        name: Its row in the tables.
        engine: Module of ``benchmarks.peers.engines`` that opens it.
        about: What it is, for the report.
        environment: Name of the requirements file; None is the project's own environment.
        artefact: What it runs; None for the checkpoint itself or our bundle.
        variant: For our bundle: the variant; None takes the one that the export chose. For
            others: the way in which the engine runs, such as ``bf16``.
        offline: Whether it takes part in the table of whole lists.
    """

    name: str
    engine: str
    about: str
    environment: str | None = None
    artefact: str | None = None
    variant: str | None = None
    offline: bool = False

    @property
    def ours(self) -> bool:
        """Whether it runs our bundle."""
        return self.name in OURS

    @property
    def splits(self) -> bool:
        """Whether what it adds to its model can be told: our bundle, in the worker itself."""
        return self.engine == "ours"


ARTEFACTS = {
    row.name: row
    for row in (
        Artefact(name="onnx-fp32", engine="optimum_onnx", environment="optimum"),
        Artefact(
            name="onnx-int8", engine="optimum_onnx", environment="optimum", source="onnx-fp32"
        ),
        Artefact(
            name="openvino-int8",
            engine="openvino_nncf",
            environment="openvino",
            source="onnx-fp32",
            calibrated=True,
        ),
    )
}

PEERS = {
    row.name: row
    for row in (
        Peer(
            name="edgeml",
            engine="ours",
            about="edgeml.load(bundle).predict(text), the chosen variant",
            offline=True,
        ),
        Peer(
            name="edgeml-fp32",
            engine="ours",
            about="the same, variant fp32",
            variant="fp32",
        ),
        Peer(
            name="transformers",
            engine="torch_pipeline",
            about="transformers pipeline on torch, fp32",
            environment="transformers",
        ),
        Peer(
            name="optimum-fp32",
            engine="optimum_onnx",
            about="optimum's ONNX export in a transformers pipeline",
            environment="optimum",
            artefact="onnx-fp32",
            offline=True,
        ),
        Peer(
            name="optimum-int8",
            engine="optimum_onnx",
            about="optimum's dynamic avx512_vnni INT8 in a transformers pipeline",
            environment="optimum",
            artefact="onnx-int8",
            offline=True,
        ),
        Peer(
            name="openvino-int8",
            engine="openvino_nncf",
            about="bare tokenizers + OpenVINO, NNCF post-training INT8, dynamic shapes",
            environment="openvino",
            artefact="openvino-int8",
        ),
        Peer(
            name="bare-int8",
            engine="bare_onnxruntime",
            about="bare tokenizers + onnxruntime on optimum's INT8 file",
            environment="optimum",
            artefact="onnx-int8",
        ),
        Peer(
            name="torch-eager",
            engine="torch_plain",
            about="tokenizer and torch, eager, fp32, no pipeline",
            environment="transformers",
        ),
        Peer(
            name="torch-compile",
            engine="torch_plain",
            about="the same through torch.compile, dynamic shapes",
            environment="transformers",
            variant="compiled",
        ),
        Peer(
            name="openvino-fp32",
            engine="openvino_plain",
            about="bare tokenizers + OpenVINO, fp32",
            environment="openvino",
            artefact="onnx-fp32",
            variant="fp32",
        ),
        Peer(
            name="openvino-bf16",
            engine="openvino_plain",
            about="bare tokenizers + OpenVINO, bf16 inference precision",
            environment="openvino",
            artefact="onnx-fp32",
            variant="bf16",
        ),
        Peer(
            name="edgeml-http",
            engine="ours_http",
            about="edgeml serve on the bundle, over loopback",
        ),
        Peer(
            name="fastapi-torch",
            engine="fastapi_torch",
            about="FastAPI and uvicorn around torch, fp32, over loopback",
            environment="fastapi",
        ),
        Peer(
            name="litserve",
            engine="litserve_torch",
            about="LitServe around torch, fp32, over loopback",
            environment="litserve",
        ),
    )
}


def artefacts_for(peer: Peer) -> tuple[Artefact, ...]:
    """Return what must be made for a peer, sources first."""
    rows: list[Artefact] = []
    name = peer.artefact
    while name is not None:
        rows.append(ARTEFACTS[name])
        name = ARTEFACTS[name].source
    return tuple(reversed(rows))
