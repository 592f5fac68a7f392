"""Image classification by a server that takes picture files: nothing is decoded here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.core.predictor import Prediction
from edgeml.core.signature import Tensors
from edgeml.errors import InputError
from edgeml.serving.repository.image_config import ENCODED_INPUT
from edgeml.serving.repository.parts import OUTPUT
from edgeml.tasks.classification import ClassLabels

# A larger file is refused here; what is in it, the server judges.
MAX_BYTES = 64 * 2**20
# Bytes of one request.
_BATCH_BYTES = 8 * 2**20


class ServedImageTask:
    """Picture files in, labelled probabilities out; the server decodes.

    Args:
        labels: Names of the classes.
    """

    window = 32

    def __init__(self, labels: ClassLabels) -> None:
        self.labels = labels

    def prepare(self, item: Any) -> bytes:
        """Return a file's contents.

        Args:
            item: The contents, or a path.

        Raises:
            InputError: It is neither, is empty or cannot be read, or holds more than 64 MB.
        """
        if isinstance(item, (str, Path)):
            try:
                item = Path(item).read_bytes()
            except OSError as exc:
                raise InputError(
                    f"the picture cannot be read ({exc}); a file was expected; check the path",
                    item=str(item),
                ) from exc
        if not isinstance(item, (bytes, bytearray, memoryview)):
            kind = type(item).__name__
            raise InputError(
                f"a {kind} is not a picture's file; its bytes or a path were expected; connect to "
                "the model that takes pixels",
                got=kind,
            )
        contents = bytes(item)
        if not 0 < len(contents) <= MAX_BYTES:
            raise InputError(
                f"the file has {len(contents)} bytes; 1 to {MAX_BYTES} were expected; send another",
                limit="max_bytes",
                got=str(len(contents)),
            )
        return contents

    def decode_golden(self, contents: bytes) -> bytes:
        """Return a golden picture's file as it is."""
        return contents

    def collate(self, prepared: Sequence[bytes]) -> Tensors:
        """Join files into one feed: an object array ``(batch,)`` of bytes."""
        files = np.empty(len(prepared), dtype=np.object_)
        files[:] = prepared
        return {ENCODED_INPUT: files}

    def batches(self, prepared: Sequence[bytes]) -> list[list[int]]:
        """Group files into requests of a few megabytes, in their order."""
        groups: list[list[int]] = []
        size = 0
        for index, contents in enumerate(prepared):
            if not groups or size + len(contents) > _BATCH_BYTES:
                groups.append([])
                size = 0
            groups[-1].append(index)
            size += len(contents)
        return groups

    def is_truncated(self, prepared: bytes) -> bool:
        """Return False: a picture is scaled, never cut short."""
        del prepared
        return False

    def interpret(
        self, outputs: Mapping[str, npt.NDArray[Any]], *, served_by: str
    ) -> list[Prediction]:
        """Turn the server's probabilities into predictions."""
        return self.labels.interpret(outputs[OUTPUT], served_by=served_by)
