"""Lint a Triton model repository without a server. Behind the extra ``[export]``, for ``onnx``."""

from edgeml._optional import require

require("onnx", extra="export")

from edgeml.serving.lint.findings import Finding  # noqa: E402
from edgeml.serving.lint.linting import lint_repository  # noqa: E402
from edgeml.serving.lint.rules import RULES  # noqa: E402

__all__ = ["RULES", "Finding", "lint_repository"]
