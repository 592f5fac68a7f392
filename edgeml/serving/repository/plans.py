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
from edgeml.errors import InputError
from edgeml.serving.installation.finding import BACKEND, STUB_MODULE
from edgeml.serving.repository.config import Policy, describe, parse_config
from edgeml.serving.repository.contract import (
    DECODER_PART,
    ENCODED_PART,
    LABELS_PART,
    TEXT_PART,
    TOKENIZER_PART,
    Contract,
    contract_of,
    part_contract,
    signature_of,
)
from edgeml.serving.repository.image_config import ENCODED_INPUT, decoder_config, encoded_config
from edgeml.serving.repository.model_configs import build_configs
from edgeml.serving.repository.options import ServingOptions
from edgeml.serving.repository.parts import labels_config, part_name
from edgeml.serving.repository.samples import GoldenSamples, load_of_files
from edgeml.serving.repository.text_config import TEXT_INPUT, text_config, tokenizer_config
from edgeml.tasks.text import TOKENIZER

# All that the copy in a Python model needs: of other packages NumPy, and tokenizers or Pillow.
COPIED_MODULES = (
    *("__init__.py", "_optional.py", "errors.py"),
    *("core/__init__.py", "core/dtypes.py", "core/predictor.py", "core/signature.py"),
    *("tasks/__init__.py", "tasks/classification.py", "tasks/text.py"),
    *("tasks/image.py", "tasks/decoding.py"),
)

BuildConfigs = Callable[[int], dict[str, str]]
Part = tuple[str, Callable[..., dict[str, str]], str]
# Part, its configuration, and the Python model in it; the ensemble, which has none, comes last.
_TEXT_PARTS: tuple[Part, ...] = (
    (TOKENIZER_PART, tokenizer_config, "text_tokenizer"),
    (LABELS_PART, labels_config, "labels"),
    (TEXT_PART, text_config, ""),
)
_IMAGE_PARTS: tuple[Part, ...] = (
    (DECODER_PART, decoder_config, "image_decoder"),
    (LABELS_PART, labels_config, "labels"),
    (ENCODED_PART, encoded_config, ""),
)
# What the ensembles take instead of tensors.
_OBJECT_INPUTS = {TEXT_PART: TEXT_INPUT, ENCODED_PART: ENCODED_INPUT}


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
        load: What perf_analyzer sends, where it cannot make it up; otherwise empty.
    """

    name: str
    contract: Contract
    build: BuildConfigs
    files: Mapping[str, Variant | bytes]
    samples: GoldenSamples | None = None
    warmup: bool = False
    load: str = ""

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
        The bundle's model; for text, and for images where that is asked for, what prepares, what
        names the label, and the ensemble of them after it.

    Raises:
        InputError: As for ``build_configs``, or picture files are asked for where none are taken.
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
        load=samples.perf_analyzer() if samples.needs_data else "",
    )
    return [
        model,
        *(
            ModelPlan(
                name=part_name(name, part),
                contract=part_contract(contract, part=part, of=name),
                build=partial(_configs_of, config, contract, name, options.max_batch_size),
                files={**_code(backend), **_data_of(bundle, part)},
                load=_load_of(bundle, part),
            )
            for part, config, backend in _parts_of(contract, options)
        ),
    ]


def _parts_of(contract: Contract, options: ServingOptions) -> tuple[Part, ...]:
    if contract["task"] == "text-classification":
        return _TEXT_PARTS
    if not options.encoded:
        return ()
    if contract["task"] != "image-classification":
        raise InputError(
            f"the bundle '{contract['bundle']}' is for {contract['task']} and takes no picture "
            "files; an image classifier was expected; publish without --encoded"
        )
    return _IMAGE_PARTS


def _data_of(bundle: Bundle, part: str) -> dict[str, bytes]:
    """Return what a part reads beside its code."""
    return {TOKENIZER: bundle.open_file(TOKENIZER)} if part == TOKENIZER_PART else {}


def _load_of(bundle: Bundle, part: str) -> str:
    """Return what perf_analyzer sends to an ensemble: the originals of the golden samples."""
    name = _OBJECT_INPUTS.get(part)
    files = [bundle.open_file(path) for path in bundle.golden().inputs]
    return load_of_files(name, files) if name and files else ""


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
    if not backend:
        return {}
    root = Path(edgeml.__file__).parent
    return {
        "model.py": (BACKEND / backend / "model.py").read_bytes(),
        STUB_MODULE.name: STUB_MODULE.read_bytes(),
        **{f"edgeml/{path}": (root / path).read_bytes() for path in COPIED_MODULES},
    }
