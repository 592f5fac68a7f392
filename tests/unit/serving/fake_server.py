"""A gRPC server that speaks Triton's protocol and misbehaves on request."""

from __future__ import annotations

import contextlib
import mmap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.protobuf import text_format
from tritonclient.grpc import service_pb2, service_pb2_grpc


@dataclass
class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers every image with the same probabilities, unless told otherwise."""

    config: str
    versions: list[str] = field(default_factory=lambda: ["1"])
    ready: bool = True
    refusal: tuple[Any, str] | None = None
    wait: threading.Event | None = None
    cut_bytes: int = 0
    batches: list[int] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)
    regions: dict[str, mmap.mmap] = field(default_factory=dict)
    shared: list[bytes] = field(default_factory=list)

    def ModelReady(self, request, context):  # noqa: N802
        self._maybe(context)
        return service_pb2.ModelReadyResponse(ready=self.ready)

    def ModelMetadata(self, request, context):  # noqa: N802
        return service_pb2.ModelMetadataResponse(name=request.name, versions=self.versions)

    def ModelConfig(self, request, context):  # noqa: N802
        answer = service_pb2.ModelConfigResponse()
        text_format.Parse(self.config, answer.config)
        return answer

    def ModelInfer(self, request, context):  # noqa: N802
        self.metadata.append(dict(context.invocation_metadata()))
        self._read_shared(request, context)
        self._maybe(context)
        batch = request.inputs[0].shape[0]
        self.batches.append(batch)
        answer = service_pb2.ModelInferResponse(
            model_name=request.model_name, model_version=self.versions[-1]
        )
        answer.outputs.add(name="probabilities", datatype="FP32", shape=[batch, 2])
        values = np.tile(np.array([0.25, 0.75], dtype=np.float32), (batch, 1)).tobytes()
        answer.raw_output_contents.append(values[: len(values) - self.cut_bytes])
        return answer

    def SystemSharedMemoryRegister(self, request, context):  # noqa: N802
        self._maybe(context)
        with Path(f"/dev/shm{request.key}").open("r+b") as file:
            self.regions[request.name] = mmap.mmap(file.fileno(), request.byte_size)
        return service_pb2.SystemSharedMemoryRegisterResponse()

    def SystemSharedMemoryUnregister(self, request, context):  # noqa: N802
        del context
        self.regions.pop(request.name)
        return service_pb2.SystemSharedMemoryUnregisterResponse()

    def _read_shared(self, request, context):
        for row in request.inputs:
            if not row.parameters:
                continue
            name = row.parameters["shared_memory_region"].string_param
            if name not in self.regions:
                words = f"Unable to find shared memory region: '{name}'"
                context.abort(grpc.StatusCode.NOT_FOUND, words)
            start = row.parameters["shared_memory_offset"].int64_param
            size = row.parameters["shared_memory_byte_size"].int64_param
            self.shared.append(self.regions[name][start : start + size])

    def _maybe(self, context):
        if self.wait is not None:
            self.wait.wait(timeout=10)
        if self.refusal is not None:
            context.abort(*self.refusal)


@contextlib.contextmanager
def serving(fake: FakeTriton, port: int = 0) -> Iterator[str]:
    """Serve on a port of the loopback address, 0 being a free one; gives the URL."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        server = grpc.server(pool)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(fake, server)
        port = server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        try:
            yield f"grpc://127.0.0.1:{port}"
        finally:
            if fake.wait is not None:
                fake.wait.set()
            server.stop(grace=None).wait()
