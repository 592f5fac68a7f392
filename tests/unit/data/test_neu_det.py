"""NEU surface defects: verified, or a line that says where to put them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from edgeml.data.dataset import make_split
from edgeml.data.neu_det import load_neu_det
from edgeml.errors import DataError

_OWN = os.environ.get("EDGEML_DATA_DIR")


def test_without_a_source_the_way_out_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGEML_DATA_DIR", raising=False)
    with pytest.raises(DataError, match=r"\$EDGEML_DATA_DIR/neu_det"):
        load_neu_det()
    (tmp_path / "neu_det.zip").write_bytes(b"another file")
    with pytest.raises(DataError, match="is not the published file"):
        load_neu_det(tmp_path)


@pytest.mark.skipif(
    not (_OWN and (Path(_OWN) / "neu_det/neu_det.zip").is_file()), reason="the set is not here"
)
def test_the_published_set_is_read() -> None:
    dataset = load_neu_det()
    assert dataset.labels == (
        *("crazing", "inclusion", "patches", "pitted_surface", "rolled-in_scale", "scratches"),
    )
    assert np.bincount(dataset.targets).tolist() == [300] * 6
    split = make_split(dataset, seed=42, validation_share=0.15, test_share=0.15)
    assert split.sizes() == {"train": 1260, "validation": 270, "test": 270}
