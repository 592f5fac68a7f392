"""Hate speech and offensive language, 24,783 tweets in three very unequal classes.

Davidson et al. 2017. The rows contain slurs and abuse: they are read, never shown.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from edgeml.core.files import sha256_of
from edgeml.data.dataset import TextDataset, text_fingerprint
from edgeml.data.tables import read_table
from edgeml.errors import DataError

LABELS = ("hate", "offensive", "neither")

_FILE = "hate_speech_davidson/labeled_data.csv"
_SHA256 = "fcb8bc7c68120ae4af04a5b9acd58585513ede11e1548ebf36a5c2040b6f6281"


def load_davidson() -> TextDataset:
    """Read the set from the folder that ``EDGEML_DATA_DIR`` names.

    Returns:
        Classes ``hate`` (1,430), ``offensive`` (19,190), ``neither`` (4,163); no fixed parts.

    Raises:
        DataError: The file is not there, or not the published one.
    """
    root = os.environ.get("EDGEML_DATA_DIR", "")
    path = Path(root) / _FILE
    if not root or not path.is_file():
        reason = (
            f"{_FILE} was expected in the folder that EDGEML_DATA_DIR names; set the variable, or "
            "give a table of your own with --data"
        )
        raise DataError(source="hate-speech-davidson", reason=reason)
    if sha256_of(path) != _SHA256:
        reason = f"{path.name} is not the published file (sha256 {_SHA256[:12]}…); fetch it again"
        raise DataError(source="hate-speech-davidson", reason=reason)
    table = read_table(path)
    texts = [text or "" for text in table.columns["tweet"]]
    targets = np.array([int(value or 0) for value in table.columns["class"]], dtype=np.int64)
    return TextDataset(
        name="hate-speech-davidson",
        labels=LABELS,
        items=texts,
        targets=targets,
        fingerprint=text_fingerprint(texts, LABELS, targets),
        source={"kind": "EDGEML_DATA_DIR", "file": _FILE, "sha256": _SHA256},
    )
