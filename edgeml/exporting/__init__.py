"""Graphs: trace, assemble, convert, quantize, and prove what came out. Needs the extra [export].

Tracing a torch module needs [train] too; it lives in ``from_torch``, which nothing else here
imports.
"""

from edgeml._optional import require

require("onnx", extra="export")
require("sympy", extra="export")
