"""Data sets by name or by folder, each from a source that is verified and reported."""

from edgeml._optional import require

require("PIL", extra="image")
