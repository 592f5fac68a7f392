"""NEU surface defects: 1,800 pictures of hot-rolled steel, six defects, from a verified archive."""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np

from edgeml.core.files import sha256_of
from edgeml.data.dataset import ImageDataset
from edgeml.errors import DataError

_ARCHIVE = "neu_det.zip"
_SHA256 = "269ac51a8b7f885c7c5cbca338e663299ac9784047601d7dc7762fe482a6069a"
_NUMBERED = re.compile(r"(.+)_\d+\.jpg")
_PICTURES = 1800


def load_neu_det(folder: Path | None = None) -> ImageDataset:
    """Load the pictures; the set's detection boxes are not read.

    Args:
        folder: Folder with ``neu_det.zip``; None takes ``$EDGEML_DATA_DIR/neu_det``.

    Returns:
        1,800 JPEG files of 200x200 as bytes, 300 of each class, in the order of their names.

    Raises:
        DataError: The archive is not there, or is not the published one.
    """
    own = os.environ.get("EDGEML_DATA_DIR")
    root = folder or (Path(own) / "neu_det" if own else None)
    archive = root / _ARCHIVE if root else None
    if archive is None or not archive.is_file():
        reason = (
            f"no source is on this machine; {_ARCHIVE} was expected in $EDGEML_DATA_DIR/neu_det; "
            "put it there, or give a folder class/xxx.jpg with --data"
        )
        raise DataError(source="neu-det", reason=reason)
    if sha256_of(archive) != _SHA256:
        reason = f"{_ARCHIVE} is not the published file; sha256 {_SHA256[:12]}… was expected"
        raise DataError(source=str(root), reason=reason)
    with zipfile.ZipFile(archive) as opened:
        members = {
            PurePosixPath(name).name: name for name in opened.namelist() if name.endswith(".jpg")
        }
        # The order does not depend on how the archive was packed.
        files = sorted(members)
        items = [opened.read(members[name]) for name in files]
    classes = [_class_of(name) for name in files]
    labels = tuple(sorted(set(classes)))
    assert len(items) == _PICTURES
    return ImageDataset(
        name="neu-det",
        labels=labels,
        items=items,
        targets=np.array([labels.index(name) for name in classes], dtype=np.int64),
        fingerprint=_SHA256,
        source={"kind": "archive verified by sha256", "licence": "not stated by its authors"},
        hashes=np.array([_hash(item) for item in items], dtype=np.uint64),
    )


def _hash(contents: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(contents, digest_size=8).digest(), "big")


def _class_of(name: str) -> str:
    found = _NUMBERED.fullmatch(name)
    assert found, name
    return found.group(1)
