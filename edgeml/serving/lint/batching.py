"""Rules about batches, queues and the response cache."""

from __future__ import annotations

from collections.abc import Iterator

from tritonclient.grpc import model_config_pb2

from edgeml.serving.lint.findings import Fault, Rule
from edgeml.serving.lint.subjects import ConfigFile

RANDOMISED = "randomised"
_STRING = model_config_pb2.TYPE_STRING


def _no_batching(config: ConfigFile) -> Iterator[Fault]:
    message = config.message
    # A malformed string fails its neighbours too: a model that takes strings may run them alone.
    strings = any(row.data_type == _STRING for row in message.input)
    if message.max_batch_size <= 1 or config.is_ensemble or strings:
        return
    if message.WhichOneof("scheduling_choice") is None:
        yield Fault(
            message=f"max_batch_size is {message.max_batch_size} and nothing joins requests; "
            "dynamic_batching { } was expected; write it, or set max_batch_size to 1",
            line=config.line("max_batch_size"),
        )


def _joined_strings(config: ConfigFile) -> Iterator[Fault]:
    if config.message.WhichOneof("scheduling_choice") != "dynamic_batching":
        return
    if any(row.data_type == _STRING for row in config.message.input):
        yield Fault(
            message="requests with strings are joined; under Triton's Python backends one whose "
            "bytes are malformed fails all that share its run; remove dynamic_batching",
            line=config.line("dynamic_batching"),
        )


def _preferred(config: ConfigFile) -> Iterator[Fault]:
    batching = config.message.dynamic_batching
    accelerators = config.message.optimization.execution_accelerators
    if batching.preferred_batch_size and not any(
        row.name == "tensorrt" for row in accelerators.gpu_execution_accelerator
    ):
        yield Fault(
            message="preferred_batch_size makes requests wait for sizes that only TensorRT's "
            "profiles prefer; none was expected; remove it",
            line=config.line("dynamic_batching", "preferred_batch_size"),
        )


def _queue_policy(config: ConfigFile) -> Iterator[Fault]:
    batching = config.message.dynamic_batching
    found = [
        field
        for field in ("default_queue_policy", "priority_levels", "priority_queue_policy")
        if (batching.HasField(field) if field.startswith("default") else getattr(batching, field))
    ]
    instances = sum(group.count or 1 for group in config.message.instance_group)
    if found and config.kinds == {"KIND_CPU"} and instances < 2:
        yield Fault(
            message=f"{found[0]} and one instance on a CPU: a lone request now and then waits for "
            "half a second, and under overload most do (decision record 0079); a second instance "
            "was expected; publish with --queue-for-deadline, or bound the load before the server",
            line=config.line("dynamic_batching", found[0]),
        )


def _unbounded(config: ConfigFile) -> Iterator[Fault]:
    if config.message.WhichOneof("scheduling_choice") != "dynamic_batching":
        return
    if not config.message.dynamic_batching.default_queue_policy.max_queue_size:
        yield Fault(
            message="the queue has no bound and no timeout; under overload it grows; limit the "
            "load in front of the server, and give every client a deadline",
            line=config.line("dynamic_batching"),
        )


def _cache_of_randomised(config: ConfigFile) -> Iterator[Fault]:
    if not config.message.response_cache.enable:
        return
    if (config.parameter(RANDOMISED) or "").lower() in ("true", "1"):
        yield Fault(
            message="the response cache keeps the answers of a model that is declared randomised; "
            "one caller's draw would be everybody's; remove response_cache",
            line=config.line("response_cache"),
        )


def _cache(config: ConfigFile) -> Iterator[Fault]:
    if config.message.response_cache.enable:
        yield Fault(
            message="the response cache works only in a server that was started with "
            "--cache-config; its hits are not counted as inferences, so leave it off in benchmarks",
            line=config.line("response_cache"),
        )


def _limited(config: ConfigFile) -> Iterator[Fault]:
    for number, group in enumerate(config.message.instance_group):
        if group.HasField("rate_limiter"):
            yield Fault(
                message="resources and priorities of rate_limiter are ignored by a server that was "
                "started without --rate-limit=execution_count; 'edgeml triton serve' gives it; "
                "give it to your own",
                line=config.line("instance_group", number, "rate_limiter"),
            )
            return


def _no_resource(config: ConfigFile) -> Iterator[Fault]:
    for number, group in enumerate(config.message.instance_group):
        if not group.HasField("rate_limiter"):
            continue
        rows = group.rate_limiter.resources
        if not rows or any(not row.name or not row.count for row in rows):
            yield Fault(
                message="rate_limiter asks for nothing that another instance could lack; resources "
                "with a name and a count from 1 were expected; write them, or remove it",
                line=config.line("instance_group", number, "rate_limiter"),
            )


CONFIG_RULES: tuple[Rule[ConfigFile], ...] = (
    Rule(name="dynamic-batching-missing", level="warning", check=_no_batching),
    Rule(name="strings-joined", level="warning", check=_joined_strings),
    Rule(name="preferred-batch-size", level="warning", check=_preferred),
    Rule(name="queue-policy-on-cpu", level="warning", check=_queue_policy),
    Rule(name="queue-unbounded", level="note", check=_unbounded),
    Rule(name="cache-of-randomised", level="error", check=_cache_of_randomised),
    Rule(name="cache-needs-server", level="note", check=_cache),
    Rule(name="rate-limit-needs-server", level="note", check=_limited),
    Rule(name="rate-limit-of-nothing", level="warning", check=_no_resource),
)
