"""The configurations of a published model, one for each place that it may run at.

The policies are DESIGN's "one repository for GPU and CPU". Only files that some configuration names
are published; both sides are declared in full, so a server has nothing to complete by opening a
model.
"""

from __future__ import annotations

from typing import Any

from edgeml.errors import InputError
from edgeml.serving.repository.config import (
    CPU_CONFIG,
    DEFAULT_CONFIG,
    LABELS,
    POLICIES,
    Policy,
    config_text,
    tensor_row,
)
from edgeml.serving.repository.contract import PARAMETER, Contract, encode_contract, signature_of
from edgeml.serving.repository.options import ServingOptions
from edgeml.serving.repository.samples import GoldenSamples
from edgeml.serving.repository.tensorrt import accelerators

# Triton compares these as text; a capability that is missing here gets the default file, which is
# fp32.
COMPUTE_CAPABILITIES = (
    *("7.0", "7.2", "7.5", "8.0", "8.6", "8.7", "8.8", "8.9", "9.0"),
    *("10.0", "10.1", "10.3", "11.0", "12.0", "12.1"),
)


def build_configs(
    contract: Contract,
    *,
    name: str,
    policy: Policy,
    version: int,
    options: ServingOptions,
    samples: GoldenSamples | None = None,
) -> dict[str, str]:
    """Build the configurations of one model.

    Args:
        contract: The contract of its bundle.
        name: Name of the model in the repository.
        policy: ``required``, ``allowed`` or ``forbidden``: whether a CPU may stand in for a GPU, or
            must.
        version: The version to serve; naming it is what makes a new version appear all at once.
        options: How a server runs it.
        samples: What it is warmed up with; None leaves that out.

    Returns:
        Path below the model's folder to text; ``config.pbtxt`` always, ``configs/cpu.pbtxt`` for
        ``allowed``.

    Raises:
        InputError: The policy is unknown or needs a variant that the bundle lacks, the signature
            has a batch axis that is fixed, or TensorRT an axis of unknown size.
    """
    if policy not in POLICIES:
        raise InputError(
            f"the fallback policy is {policy!r}; one of {', '.join(POLICIES)} was expected"
        )
    base = _common(contract, name=name, version=version, options=options)
    on_gpu = _on_gpu(contract, version=version, options=options, samples=samples)
    on_cpu = _on_cpu(contract, version=version, options=options, samples=samples)
    if policy == "forbidden":
        return {DEFAULT_CONFIG: config_text({**base, **on_cpu})}
    if policy == "required":
        placed = _placement(contract, "KIND_GPU", _required(contract), options=options)
        return {DEFAULT_CONFIG: config_text({**base, **on_gpu, **placed})}
    anywhere = _placement(contract, "KIND_AUTO", "fp32", options=options)
    if half := _chosen_fp16(contract):
        file = contract["variants"][half]["file"]
        anywhere["cc_model_filenames"] = dict.fromkeys(COMPUTE_CAPABILITIES, file)
    return {
        DEFAULT_CONFIG: config_text({**base, **on_gpu, **anywhere}),
        CPU_CONFIG: config_text({**base, **on_cpu}),
    }


def _common(
    contract: Contract, *, name: str, version: int, options: ServingOptions
) -> dict[str, Any]:
    signature = signature_of(contract)
    outputs = [tensor_row(spec) for spec in signature.outputs]
    if contract["labels"]:
        # Below the version: a server that starts amid a publish reads labels of one and the same.
        outputs[0]["label_filename"] = f"{version}/{LABELS}"
    parameters = {
        "intra_op_thread_count": str(options.threads_each),
        "inter_op_thread_count": "1",
        PARAMETER: encode_contract(contract),
    }
    return {
        "name": name,
        "backend": "onnxruntime",
        "max_batch_size": options.max_batch_size,
        "version_policy": {"specific": {"versions": [version]}},
        "input": [tensor_row(spec) for spec in signature.inputs],
        "output": outputs,
        # No delay unless asked for: a request that comes alone is answered alone, at once. Nor a
        # queue policy: with one, Triton 2.51 loses a wake-up now and then, and a lone request waits
        # for half a second.
        "dynamic_batching": options.dynamic_batching(),
        "parameters": {key: {"string_value": value} for key, value in parameters.items()},
    }


def _on_gpu(
    contract: Contract, *, version: int, options: ServingOptions, samples: GoldenSamples | None
) -> dict[str, Any]:
    """Return what only a GPU's configuration holds: the first run of each batch size is slow."""
    values: dict[str, Any] = {}
    if samples is not None:
        sizes = _powers_of_two(options.max_batch_size)
        values["model_warmup"] = samples.warmup_rows(version=version, batch_sizes=sizes)
    if options.tensorrt:
        signature = signature_of(contract)
        most = contract["preprocessing"].get("max_length")
        free = {axis for spec in signature.inputs for _, axis in spec.symbolic[1:]}
        values["optimization"] = accelerators(
            signature,
            max_batch_size=options.max_batch_size,
            longest=dict.fromkeys(free, most) if most else {},
        )
    return values


def _on_cpu(
    contract: Contract, *, version: int, options: ServingOptions, samples: GoldenSamples | None
) -> dict[str, Any]:
    """Return what only a CPU's configuration holds."""
    values = _placement(contract, "KIND_CPU", contract["cpu"], options=options)
    if samples is not None:
        values["model_warmup"] = samples.warmup_rows(version=version, batch_sizes=(1,))
    return values


def _powers_of_two(most: int) -> tuple[int, ...]:
    """Return 1, 2, 4 and so on, and the largest itself."""
    powers = [1 << power for power in range(most.bit_length())]
    return tuple(dict.fromkeys([*powers, most]))


def _chosen_fp16(contract: Contract) -> str | None:
    """Return the FP16 variant if the bundle chose it for GPUs: a rejected one may be there too."""
    name = contract.get("gpu")
    row = contract["variants"].get(name, {})
    return name if row.get("precision") == "fp16" else None


def _required(contract: Contract) -> str:
    name = _chosen_fp16(contract)
    if name is None:
        raise InputError(
            f"the bundle '{contract['bundle']}' chose {contract.get('gpu') or 'nothing'} for GPUs; "
            "this policy needs an accepted fp16 variant; export it, or publish with another "
            "--fallback"
        )
    return name


def _placement(
    contract: Contract, kind: str, variant: str, *, options: ServingOptions
) -> dict[str, Any]:
    row = contract["variants"].get(variant)
    if row is None:
        raise InputError(
            f"the bundle '{contract['bundle']}' has no variant '{variant}'; this policy needs it; "
            "export it, or publish with another --fallback"
        )
    # The count is said out loud: for this backend Triton would start two on a CPU.
    group: dict[str, Any] = {"kind": kind, "count": options.instances}
    if limiter := options.rate_limiter():
        group["rate_limiter"] = limiter
    return {"default_model_filename": row["file"], "instance_group": [group]}
