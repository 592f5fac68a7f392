"""Publishing and rolling back as one transaction: checked first, switched whole, undone whole."""

from edgeml._optional import require

require("tritonclient.grpc", extra="triton")
