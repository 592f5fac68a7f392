"""Nearest-neighbour search over item vectors. Needs the extra [recommend]."""

from edgeml._optional import require

require("faiss", extra="recommend")
