"""A predictor on the other side of a network: engines, transports, tasks, errors."""

from edgeml._optional import require

require("tritonclient.grpc", extra="triton")
