"""Rules about what edgeml publishes beside a model: contract, hashes and labels."""

from __future__ import annotations

import json
from collections.abc import Iterator

from edgeml.core.files import sha256_of
from edgeml.errors import InputError
from edgeml.serving.lint.findings import Fault, Rule
from edgeml.serving.lint.subjects import ConfigFile
from edgeml.serving.repository.candidates import own_name
from edgeml.serving.repository.contract import PARAMETER, decode_contract
from edgeml.serving.repository.publish import CONTRACT


def _malformed(config: ConfigFile) -> Iterator[Fault]:
    if not config.contract_text:
        return
    try:
        decode_contract(config.contract_text)
    except InputError as exc:
        yield Fault(message=str(exc), line=config.fields.line_of_key("parameters", PARAMETER))


def _hashes(config: ConfigFile) -> Iterator[Fault]:
    contract = config.contract() if config.is_onnx else None
    if contract is None:
        return
    rows = {str(row["file"]): str(row["sha256"]) for row in contract["variants"].values()}
    for name, path in config.artefacts():
        file = name.partition("/")[2]
        expected = rows.get(file)
        if expected is None:
            what = "is not in the contract"
        elif sha256_of(path) != expected:
            what = f"has another sha256 than the contract says ({expected[:12]}...)"
        else:
            continue
        yield Fault(
            message=f"'{name}' {what}, and the backend refuses it; the published file was "
            "expected; publish the bundle again",
            line=config.fields.line_of_key("parameters", PARAMETER),
        )


def _missing_file(config: ConfigFile) -> Iterator[Fault]:
    for version in config.served_versions if config.contract_text else ():
        if not (config.folder / str(version) / CONTRACT).is_file():
            yield Fault(
                message=f"version {version} has no {CONTRACT}; the one that publish writes was "
                "expected, so that the version can be served again later; publish the bundle again",
            )


def _other_file(config: ConfigFile) -> Iterator[Fault]:
    contract = config.contract()
    if contract is not None and "of" in contract:  # while it is a candidate, or runs some
        contract = {**contract, "of": own_name(str(contract["of"]))}
    for version in config.served_versions if contract is not None else ():
        path = config.folder / str(version) / CONTRACT
        if not path.is_file():
            continue
        try:
            same = json.loads(path.read_text(encoding="utf-8")) == contract
        except (OSError, ValueError, RecursionError):
            same = False
        if not same:
            yield Fault(
                message=f"the contract in '{version}/{CONTRACT}' is not the one in the "
                "configuration; the same was expected; publish the bundle again",
                line=config.fields.line_of_key("parameters", PARAMETER),
            )


def _missing_labels(config: ConfigFile) -> Iterator[Fault]:
    # They are built with their version: where none is built there is nothing to miss.
    for number, row in enumerate(config.message.output if config.present else ()):
        if row.label_filename and not (config.folder / row.label_filename).is_file():
            yield Fault(
                message=f"the output '{row.name}' names the labels '{row.label_filename}', which "
                "are not there; publish the bundle again",
                line=config.line("output", number, "label_filename"),
            )


def _count_of_labels(config: ConfigFile) -> Iterator[Fault]:
    for number, row in enumerate(config.message.output):
        path = config.folder / row.label_filename
        if not row.label_filename or not path.is_file() or not row.dims or row.dims[-1] < 1:
            continue
        count = len(path.read_bytes().splitlines())
        if count != row.dims[-1]:
            yield Fault(
                message=f"'{row.label_filename}' has {count} lines and the output '{row.name}' "
                f"{row.dims[-1]} classes; one line a class was expected; publish the bundle again",
                line=config.line("output", number, "label_filename"),
            )


CONFIG_RULES: tuple[Rule[ConfigFile], ...] = (
    Rule(name="contract-malformed", level="error", check=_malformed),
    Rule(name="artefact-hash", level="error", check=_hashes),
    Rule(name="contract-file-missing", level="warning", check=_missing_file),
    Rule(name="contract-file-differs", level="error", check=_other_file),
    Rule(name="labels-missing", level="error", check=_missing_labels),
    Rule(name="labels-count", level="error", check=_count_of_labels),
)
