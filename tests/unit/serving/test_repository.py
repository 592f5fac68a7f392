"""Which models are loaded and why the others are not."""

from __future__ import annotations

import pytest

from edgeml.errors import InputError
from edgeml.serving.repository.publish import publish_bundle
from edgeml.serving.repository.selecting import select_models


def reasons(repository, **options):
    built, skipped = select_models(repository, use_cpu_config=True, **options)
    return built, {row.name: row.reason for row in skipped}


def test_every_model_that_is_not_built_is_named_with_its_reason(tiny, repository):
    for name in ("good", "gone", "partial", "odd"):
        publish_bundle(tiny, repository, name=name)
    publish_bundle(tiny, repository, name="review", config_only=True)
    publish_bundle(tiny, repository, name="gpu", policy="required")
    (repository / "gone/configs/cpu.pbtxt").unlink()
    (repository / "gone/config.pbtxt").unlink()
    (repository / "partial/1/int8.onnx").unlink()
    (repository / "odd/configs/cpu.pbtxt").write_text("not a config")
    (repository / ".git").mkdir()
    (repository / "README.md").write_text("a file is no model")
    built, why = reasons(repository)
    assert built == ["good"]
    assert "has no config.pbtxt" in why["gone"]
    assert "version 1 lacks int8.onnx" in why["partial"]
    assert "not a model configuration" in why["odd"]
    assert "no version folder" in why["review"]
    assert "needs a GPU" in why["gpu"]
    assert set(why) == {"gone", "partial", "odd", "review", "gpu"}


def test_only_models_that_were_asked_for_are_loaded(tiny, repository):
    publish_bundle(tiny, repository, name="one")
    publish_bundle(tiny, repository, name="two")
    assert reasons(repository, wanted=["two"]) == (["two"], {"one": "it was not asked for"})


def test_a_model_that_was_asked_for_and_is_not_there_is_an_error(tiny, repository):
    publish_bundle(tiny, repository, name="review", config_only=True)
    with pytest.raises(InputError, match=r"ghost: .*there is no such model"):
        reasons(repository, wanted=["ghost"])
    with pytest.raises(InputError, match=r"review: .*no version folder"):
        reasons(repository, wanted=["review"])


def test_a_repository_that_is_no_folder_is_an_error(tmp_path):
    with pytest.raises(InputError, match="a model repository was expected"):
        reasons(tmp_path / "nothing")
