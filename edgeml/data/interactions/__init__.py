"""Interaction logs: reading them by a declared schema, refusing leaks, splitting, encoding."""

from edgeml._optional import require

require("yaml", extra="recommend")
require("pyarrow", extra="recommend")
