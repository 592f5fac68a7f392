"""Triton: publish a bundle, install and run a server, talk to it. Behind the extra ``[triton]``."""

from edgeml._optional import require

require("tritonclient.grpc", extra="triton")
