"""What a bundle becomes in a model repository: configurations, contract, files."""

from edgeml._optional import require

require("tritonclient.grpc", extra="triton")
