"""Lint a repository: read it once, apply every rule, sort what they find."""

from __future__ import annotations

from pathlib import Path

from edgeml.errors import InputError
from edgeml.serving.lint.findings import Finding
from edgeml.serving.lint.graphs import GraphReader
from edgeml.serving.lint.reading import read_models
from edgeml.serving.lint.rules import CONFIG_RULES, MODEL_RULES
from edgeml.serving.lint.subjects import Context
from edgeml.serving.lint.targets import DEFAULT_TARGET, find_target


def lint_repository(
    root: Path, *, target: str = DEFAULT_TARGET, strict: bool = False
) -> list[Finding]:
    """Check a model repository without a server.

    Args:
        root: The repository: a folder of models' folders.
        target: Tag of the container that will serve it, such as ``24.10``.
        strict: Whether a model that is not built here is an error; otherwise it is a note, as in a
            repository whose configurations alone are in git.

    Returns:
        What was found, by file and line. No ``error`` among them means that nothing was seen that
        stops a model from loading or makes it answer wrongly.

    Raises:
        InputError: The repository is missing, empty or unreadable, or the target is unknown.
    """
    context = Context(target=find_target(target), graphs=GraphReader())
    try:
        models = read_models(Path(root), context)
        findings = [
            finding
            for model in models
            for rule in MODEL_RULES
            for finding in rule.apply(model, file=model.main_file, strict=strict)
        ]
        findings += [
            finding
            for model in models
            for config in model.configs
            for rule in CONFIG_RULES
            for finding in rule.apply(config, file=config.file, strict=strict)
        ]
    except OSError as exc:
        raise InputError(
            f"the repository cannot be read ({exc}); a readable folder was expected; mend its "
            "permissions, or lint it again if something was writing into it",
            item=str(root),
        ) from exc
    return sorted(findings, key=lambda row: (row.file, row.line or 0, row.rule, row.message))
