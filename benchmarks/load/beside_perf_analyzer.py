"""The official perf_analyzer and our engine on one model of one Triton, in turns, one caller each.

Both keep one gRPC channel and send the same prepared tensors; perf_analyzer is C++ and ours is
Python, so what is left between them is the client.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2

import edgeml
from benchmarks.perf_analyzer.tool import command_for, prepare
from benchmarks.perf_analyzer.tool import run as perf_analyzer
from edgeml.bench.running import run
from edgeml.bench.scenarios import SingleStream
from edgeml.bench.targets import TargetSpec

_INFER = "/inference.GRPCInferenceService/ModelInfer"


def compare_with_perf_analyzer(bundle: Path, *, pairs: int, num_queries: int) -> dict[str, Any]:
    """Publish a bundle, serve it on the real Triton and let both ask it.

    Args:
        bundle: A bundle whose model takes one tensor of a fixed shape.
        pairs: Pairs of runs.
        num_queries: Queries of each run, at least.
    """
    rows = []
    prepare()
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "repository"
        model = edgeml.publish(bundle, repository=repository, name="subject").model
        with edgeml.serve_triton(repository, supervised=False) as server:
            address = server.grpc.removeprefix("grpc://")
            spec = TargetSpec(
                factory="edgeml.bench.raw_grpc:grpc_target",
                options={
                    "address": address,
                    "method": _INFER,
                    "messages_hex": [_message(address, model).hex()],
                },
            )
            words = command_for(model, url=server.grpc, requests=num_queries)
            for number in range(pairs):
                both = {
                    "perf_analyzer": lambda: perf_analyzer(words).p50_ms * 1e3,
                    "ours": lambda: _ours(spec, num_queries=num_queries),
                }
                names = list(both) if number % 2 == 0 else list(both)[::-1]
                found = {name: both[name]() for name in names}
                rows.append({**found, "ratio_p50": found["ours"] / found["perf_analyzer"]})
    return {
        "num_queries": num_queries,
        "rows_p50_us": rows,
        "median_ratio_p50": float(np.median([row["ratio_p50"] for row in rows])),
    }


def _ours(spec: TargetSpec, *, num_queries: int) -> float:
    record = run(spec, SingleStream(seconds=1.0, min_queries=num_queries))
    return float(np.quantile(record.service_ms, 0.5)) * 1e3


def _message(address: str, model: str) -> bytes:
    """Return a serialised request of zeros: a dense network does the same work for any values."""
    import grpc

    with grpc.insecure_channel(address) as channel:
        ask = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelMetadata",
            request_serializer=service_pb2.ModelMetadataRequest.SerializeToString,
            response_deserializer=service_pb2.ModelMetadataResponse.FromString,
        )
        (tensor,) = ask(service_pb2.ModelMetadataRequest(name=model), timeout=10).inputs
    shape = [1, *tensor.shape[1:]]
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=shape)
    dtypes = {"UINT8": np.uint8, "FP32": np.float32, "INT64": np.int64}
    request.raw_input_contents.append(np.zeros(shape, dtypes[tensor.datatype]).tobytes())
    message: bytes = request.SerializeToString()
    return message
