"""What a bundle becomes in a repository: one model, or for text one and the parts around it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import edgeml
from edgeml.core.bundle import Bundle
from edgeml.core.manifest import Variant
from edgeml.serving.config import Policy, build_configs, describe, parse_config
from edgeml.serving.contract import (
    LABELS_PART,
    TEXT_PART,
    TOKENIZER_PART,
    Contract,
    contract_of,
    part_contract,
    signature_of,
)
from edgeml.serving.installation import BACKEND, STUB_MODULE
from edgeml.serving.options import ServingOptions
from edgeml.serving.samples import GoldenSamples
from edgeml.serving.text_config import ensemble_config, labels_config, part_name, tokenizer_config
from edgeml.tasks.text import TOKENIZER

# All that the copy in a Python model needs: of other packages NumPy, and the tokenizers library.
COPIED_MODULES = (
    *("__init__.py", "_optional.py", "errors.py"),
    *("core/__init__.py", "core/dtypes.py", "core/predictor.py", "core/signature.py"),
    *("tasks/__init__.py", "tasks/classification.py", "tasks/text.py"),
)

BuildConfigs = Callable[[int], dict[str, str]]


@dataclass(frozen=True, kw_only=True)
class ModelPlan:
    """One model of a repository, before anything is written.

    Attributes:
        name: Its name.
        contract: Its contract.
        build: Version to configurations, by path below its folder.
        files: What goes into its version's folder, by path there: a file of the bundle, or bytes.
        samples: Golden samples that lie beside its versions; None for what takes no tensors.
        warmup: Whether its configuration names them.
    """

    name: str
    contract: Contract
    build: BuildConfigs
    files: Mapping[str, Variant | bytes]
    samples: GoldenSamples | None = None
    warmup: bool = False

    def sha256_of(self, relative: str) -> str:
        """Return the hash that one of the files must have."""
        source = self.files[relative]
        return source.sha256 if isinstance(source, Variant) else hashlib.sha256(source).hexdigest()


def plan_models(
    bundle: Bundle, *, name: str, policy: Policy, options: ServingOptions
) -> list[ModelPlan]:
    """Plan what publishing a bundle writes.

    Args:
        bundle: What to serve.
        name: Name of its model.
        policy: The fallback policy of its model; what is around a text model runs on the CPU.
        options: How a server runs the model.

    Returns:
        The bundle's model; for text, its tokenizer, its labels and the ensemble of them after it.

    Raises:
        InputError: As for ``build_configs``.
        IntegrityError: The tokenizer, or a golden sample, is not what the manifest says.
    """
    contract = contract_of(bundle)
    samples = GoldenSamples(signature=signature_of(contract), tensors=bundle.golden().tensors)

    def build(version: int) -> dict[str, str]:
        return build_configs(
            contract,
            name=name,
            policy=policy,
            version=version,
            options=options,
            samples=samples if options.warmup else None,
        )

    by_file = {row["file"]: variant for variant, row in contract["variants"].items()}
    named = dict.fromkeys(
        file for text in build(1).values() for file in describe(parse_config(text)).files
    )
    model = ModelPlan(
        name=name,
        contract=contract,
        build=build,
        files={file: bundle.variant(by_file[file]) for file in named},
        samples=samples,
        warmup=options.warmup,
    )
    if contract["task"] != "text-classification":
        return [model]
    tokenizer = {TOKENIZER: bundle.open_file(TOKENIZER)}
    parts: tuple[tuple[str, Callable[..., dict[str, str]], dict[str, bytes]], ...] = (
        (TOKENIZER_PART, tokenizer_config, {**_code("text_tokenizer"), **tokenizer}),
        (LABELS_PART, labels_config, _code("text_labels")),
        (TEXT_PART, ensemble_config, {}),
    )
    return [
        model,
        *(
            ModelPlan(
                name=part_name(name, part),
                contract=part_contract(contract, part=part, of=name),
                build=partial(_configs_of, config, contract, name, options.max_batch_size),
                files=files,
            )
            for part, config, files in parts
        ),
    ]


def _configs_of(
    config: Callable[..., dict[str, str]],
    contract: Contract,
    model: str,
    max_batch_size: int,
    version: int,
) -> dict[str, str]:
    return config(contract, model=model, version=version, max_batch_size=max_batch_size)


def _code(backend: str) -> dict[str, bytes]:
    """Return a Python model, and the modules that it runs: the very ones that run at the edge."""
    root = Path(edgeml.__file__).parent
    return {
        "model.py": (BACKEND / backend / "model.py").read_bytes(),
        STUB_MODULE.name: STUB_MODULE.read_bytes(),
        **{f"edgeml/{path}": (root / path).read_bytes() for path in COPIED_MODULES},
    }
