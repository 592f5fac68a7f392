"""What every Python model of edgeml does in Triton's interpreter: find its packages, check, refuse.

Lies beside each ``model.py``. Import it first, and call :func:`add_packages` before NumPy.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

_TRITON = "triton_python_backend_utils"
_PROBE_DTYPES = ("uint8", "int64", "float32")
_DTYPES = (
    *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64", "object"),
)


def add_packages() -> None:
    """Put the packages of this interpreter, and the modules beside this file, first on the path.

    The stub ignores the environment: where the packages are stands in a file beside this one, or
    else beside Triton's own module. They come first, because a NumPy of the system would otherwise
    be found before ours. Without such a file, as in NVIDIA's container, the packages are the
    interpreter's own.
    """
    spec = importlib.util.find_spec(_TRITON)
    for neighbour in (__file__, spec.origin if spec else None):
        settings = Path(neighbour).with_name("edgeml.json") if neighbour else None
        if settings is not None and settings.is_file():
            sys.path.insert(0, json.loads(settings.read_text(encoding="utf-8"))["site"])
            break
    sys.path.insert(0, str(Path(__file__).parent))


def check_values() -> None:
    """Refuse an interpreter in which tensors arrive with wrong values.

    The stubs up to Triton 24.10 read the arrays of NumPy 2 with a stride of zero: every element
    becomes the first one, with status OK. A tensor that goes through DLPack and back is rebuilt by
    that same code and shows it without a request.
    """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    for dtype in _PROBE_DTYPES:
        sent = np.arange(1, 25, dtype=dtype).reshape(2, 3, 4)
        # The capsule is Triton's own: it crashes on the ones that NumPy makes.
        capsule = pb_utils.Tensor("probe", sent).to_dlpack()
        came = pb_utils.Tensor.from_dlpack("probe", capsule).as_numpy()
        if came.shape != sent.shape or not np.array_equal(came, sent):
            raise pb_utils.TritonModelException(
                f"tensors arrive with wrong values in this interpreter (NumPy {np.__version__}); "
                "NumPy below 2 is needed; run: edgeml triton install"
            )


def check_interpreter() -> None:
    """Refuse wrong values, and NumPy 2 besides: for a model that only our own installation runs."""
    import numpy as np
    import triton_python_backend_utils as pb_utils

    check_values()
    if int(np.__version__.partition(".")[0]) >= 2:
        raise pb_utils.TritonModelException(
            f"NumPy {np.__version__} is in Triton's interpreter; below 2 is needed, its stub "
            "misreads later ones; run: edgeml triton install"
        )


def look_types_up() -> None:
    """Let Triton find the number of an array's type by a look-up.

    Its own function compares the type with eleven others in turn, for every tensor that is made,
    and that is the dearest part of a small answer. It is replaced in this process alone.
    """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    original = pb_utils.numpy_to_triton_type
    numbers = {np.dtype(name): original(np.dtype(name)) for name in _DTYPES}

    def numpy_to_triton_type(dtype: Any) -> Any:
        number = numbers.get(dtype)
        return original(dtype) if number is None else number

    pb_utils.numpy_to_triton_type = numpy_to_triton_type


def refusal(error: Exception) -> Any:
    """Return the answer to one request that cannot be answered, in one line."""
    import triton_python_backend_utils as pb_utils

    message = " ".join(str(error).split())
    code = pb_utils.TritonError.INVALID_ARG
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))


def parameter(config: dict[str, Any], name: str) -> str:
    """Return a parameter of a model's configuration, or an empty text."""
    value: str = config.get("parameters", {}).get(name, {}).get("string_value", "")
    return value
