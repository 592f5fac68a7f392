"""What each target's client costs by itself: no latency below it can be measured."""

from __future__ import annotations

from edgeml.bench.floors import Floor, measure_floor, null_floor
from edgeml.bench.null_server import null_server
from edgeml.bench.targets import CallTarget, TargetSpec
from edgeml.errors import EdgemlError
from edgeml.workflows.profiling.deployments import Deployment
from edgeml.workflows.profiling.http_caller import HttpCaller
from edgeml.workflows.profiling.servers import Running

_HERE = "edgeml.workflows.profiling.floors"
_SECONDS = 1.0


def floor_of(deployment: Deployment, server: Running | None) -> Floor:
    """Measure the client of a deployment; a floor that cannot be had says why.

    Clients of Triton ask whether the server is ready: a call of the same client without a model
    and without a payload.
    """
    try:
        if server is None:
            return null_floor("in-process", seconds=_SECONDS)
        if deployment.kind.server == "http":
            with null_server("http") as port:
                spec = TargetSpec(
                    factory=f"{_HERE}:asking", options={"url": f"http://127.0.0.1:{port}"}
                )
                return measure_floor(spec, server="null server", seconds=_SECONDS)
        if deployment.name == "triton-http-json":
            spec = TargetSpec(
                factory=f"{_HERE}:asking", options={"url": server.urls["http"], "path": "/v2"}
            )
            return measure_floor(spec, server="Triton's metadata", seconds=_SECONDS)
        scheme = "http" if deployment.name == "triton-http" else "grpc"
        url = server.urls.get(scheme) or next(iter(server.urls.values()))
        spec = TargetSpec(
            factory=f"{_HERE}:asking_ready", options={"url": url, "model": server.model}
        )
        return measure_floor(spec, server="Triton's readiness", seconds=_SECONDS)
    except (EdgemlError, KeyError) as exc:
        return Floor(client=deployment.name, reason=f"not measured ({exc})")


def asking(*, url: str, path: str = "/predict") -> CallTarget:
    """Return a target that exchanges an empty JSON object over ``http.client``."""
    caller = HttpCaller(url)
    method, body = ("POST", b"{}") if path == "/predict" else ("GET", None)
    return CallTarget(
        lambda _: caller.exchange(method, path, body, "application/json"),
        client="http.client",
        close=caller.close,
    )


def asking_ready(*, url: str, model: str) -> CallTarget:
    """Return a target that asks a server over our client whether a model is ready."""
    from edgeml.serving.client.opening import open_transport
    from edgeml.serving.client.transport import address_of

    transport = open_transport(
        address_of(url, token=None, root_certificates=None), shared_memory=False
    )
    return CallTarget(
        lambda _: transport.is_ready(model, "", 10.0),
        client=f"edgeml {url.partition(':')[0]}",
        close=transport.close,
    )
