"""The guard of extras: missing and broken are told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeml._optional import require
from edgeml.errors import MissingExtraError


def test_a_module_that_is_there_passes() -> None:
    require("json.decoder", extra="text")


def test_a_missing_package_names_its_extra() -> None:
    with pytest.raises(MissingExtraError) as caught:
        require("edgeml_has_no_such_package.part", extra="text")
    assert caught.value.extra == "text"
    assert "pip install 'edgeml[text]'" in str(caught.value)


def test_a_broken_package_shows_its_own_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_package.py").write_text("import edgeml_has_no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="edgeml_has_no_such_package") as caught:
        require("broken_package", extra="text")
    assert not isinstance(caught.value, MissingExtraError)
