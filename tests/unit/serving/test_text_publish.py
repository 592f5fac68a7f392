"""Publishing text: four models of one version, whole, and the reasons why they are not loaded."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import edgeml
from edgeml.core.files import sha256_of
from edgeml.errors import InputError, IntegrityError
from edgeml.serving.repository.config import DEFAULT_CONFIG, read_config
from edgeml.serving.repository.options import ServingOptions
from edgeml.serving.repository.plans import COPIED_MODULES
from edgeml.serving.repository.publish import publish_bundle
from edgeml.serving.repository.selecting import select_models
from tests.unit.serving.tiny_text import GOLDEN_TEXTS, make_text_bundle

NAMES = ["sentiment", "sentiment_labels", "sentiment_text", "sentiment_tokenizer"]


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def versions_in(repository: Path) -> dict[str, tuple[int, ...]]:
    return {name: read_config(repository / name / DEFAULT_CONFIG).versions for name in NAMES}


def test_the_layout(sentiment, repository):
    done = publish_bundle(sentiment, repository)
    assert done.model == "sentiment"
    assert sorted(["sentiment", *done.parts]) == NAMES
    assert done.parts[-1] == "sentiment_text"
    code = {"model.py", "edgeml_stub.py", "contract.json"} | {f"edgeml/{p}" for p in COPIED_MODULES}
    assert files_of(repository / "sentiment_tokenizer/1") == code | {"tokenizer.json"}
    assert files_of(repository / "sentiment_labels/1") == code
    assert files_of(repository / "sentiment_text/1") == {"contract.json"}
    assert files_of(repository / "sentiment") == {
        *("config.pbtxt", "configs/cpu.pbtxt", "perf_analyzer.json"),
        *("warmup/1/0.raw", "warmup/1/1.raw"),
        *("1/contract.json", "1/fp32.onnx", "1/fp16.onnx"),
        *("1/labels.txt", "1/published.json", "1/bundle/manifest.json"),
        *(f"1/bundle/{path}" for path in sentiment.manifest.files if path.startswith("golden/")),
    }
    assert select_models(repository, use_cpu_config=True) == (NAMES, [])


def test_a_load_generator_is_given_ids_of_the_vocabulary(sentiment, repository):
    folder = publish_bundle(sentiment, repository).path
    rows = json.loads((folder / "perf_analyzer.json").read_bytes())["data"]
    golden = sentiment.golden().tensors
    assert 1 <= len(rows) <= len(golden["input_ids"])
    for number, row in enumerate(rows):
        assert set(row) == set(golden)
        for name, cell in row.items():
            values = np.frombuffer(base64.b64decode(cell["content"]["b64"]), dtype=np.int64)
            np.testing.assert_array_equal(values.reshape(cell["shape"]), golden[name][number])


def test_a_load_generator_is_given_texts_for_the_ensemble(sentiment, repository):
    publish_bundle(sentiment, repository)
    rows = json.loads((repository / "sentiment_text/perf_analyzer.json").read_bytes())["data"]
    texts = []
    for row in rows:
        packed = base64.b64decode(row["text"]["content"]["b64"])
        assert (row["text"]["shape"], int.from_bytes(packed[:4], "little")) == (
            [1],
            len(packed) - 4,
        )
        texts.append(packed[4:].decode())
    assert texts == list(GOLDEN_TEXTS)


def test_the_copies_are_the_files_that_run_at_the_edge(sentiment, repository):
    publish_bundle(sentiment, repository)
    root = Path(edgeml.__file__).parent
    for relative in COPIED_MODULES:
        for part in ("tokenizer", "labels"):
            copy = repository / f"sentiment_{part}/1/edgeml" / relative
            assert sha256_of(copy) == sha256_of(root / relative)
    copy = repository / "sentiment_tokenizer/1/tokenizer.json"
    assert copy.read_bytes() == sentiment.open_file("tokenizer.json")


def test_a_server_gets_the_variant_that_is_safe_in_a_batch(tmp_path, repository):
    bundle = make_text_bundle(tmp_path / "b.bundle", chosen="int8", batch_safe=False)
    done = publish_bundle(bundle, repository)
    assert bundle.manifest.chosen_for_batches == "fp32"
    assert read_config(done.path / "configs/cpu.pbtxt").default_file == "fp32.onnx"


def test_all_parts_have_one_version_whatever_was_there_before(sentiment, repository):
    publish_bundle(sentiment, repository)
    shutil.copytree(repository / "sentiment_labels/1", repository / "sentiment_labels/7")
    assert publish_bundle(sentiment, repository).version == 8
    assert set(versions_in(repository).values()) == {(8,)}
    assert select_models(repository, use_cpu_config=True) == (NAMES, [])


def test_configurations_alone_are_for_review(sentiment, repository):
    publish_bundle(sentiment, repository, config_only=True)
    assert {path for path in files_of(repository) if not path.startswith("sentiment/")} == {
        f"sentiment_{part}/config.pbtxt" for part in ("tokenizer", "labels", "text")
    }
    built, skipped = select_models(repository, use_cpu_config=True)
    assert (built, [row.name for row in skipped]) == ([], NAMES)
    assert all("no version folder" in row.reason for row in skipped)


def test_configurations_alone_keep_what_is_served(sentiment, repository):
    publish_bundle(sentiment, repository)
    before = files_of(repository)
    assert (
        publish_bundle(
            sentiment, repository, config_only=True, options=ServingOptions(num_threads=2)
        ).version
        == 1
    )
    assert files_of(repository) == before
    contract = json.loads((repository / "sentiment_text/1/contract.json").read_bytes())
    assert (contract["part"], contract["of"]) == ("text", "sentiment")
    (repository / "sentiment_tokenizer/1/model.py").write_text("other")
    with pytest.raises(InputError, match=r"'sentiment_tokenizer' is served and its 'model\.py'"):
        publish_bundle(sentiment, repository, config_only=True)


def test_a_changed_tokenizer_publishes_nothing(tmp_path, repository):
    bundle = make_text_bundle(tmp_path / "b.bundle")
    (bundle.path / "tokenizer.json").write_text("{}")
    with pytest.raises(IntegrityError, match=r"tokenizer\.json"):
        publish_bundle(bundle, repository)
    assert not repository.exists()


def test_a_name_that_is_taken_by_another_role_is_refused(sentiment, tiny, repository):
    publish_bundle(sentiment, repository)
    with pytest.raises(InputError, match="'sentiment_text' as the text of 'sentiment'"):
        publish_bundle(tiny, repository, name="sentiment_text")
    publish_bundle(tiny, repository, name="mood_labels")
    with pytest.raises(InputError, match="'mood_labels' as a model of its own"):
        publish_bundle(sentiment, repository, name="mood")
    assert not (repository / "mood").exists()


def test_an_ensemble_asked_for_brings_its_models(sentiment, tiny, repository):
    publish_bundle(sentiment, repository)
    publish_bundle(tiny, repository)
    built, skipped = select_models(repository, use_cpu_config=True, wanted=["sentiment_text"])
    assert (built, [row.name for row in skipped]) == (NAMES, ["tiny"])


def reason_of(repository: Path) -> str:
    _, skipped = select_models(repository, use_cpu_config=True)
    return next(row.reason for row in skipped if row.name == "sentiment_text")


def test_an_ensemble_is_skipped_with_what_its_models_lack(sentiment, repository):
    publish_bundle(sentiment, repository, policy="required")
    assert "runs the model 'sentiment', which cannot be loaded: its configuration needs a GPU" in (
        reason_of(repository)
    )
    publish_bundle(sentiment, repository)
    kept = repository.parent / "kept.pbtxt"
    shutil.copyfile(repository / "sentiment_text/config.pbtxt", kept)
    publish_bundle(sentiment, repository)
    shutil.copyfile(kept, repository / "sentiment_text/config.pbtxt")  # as after a kill
    assert "runs version 2 of 'sentiment_tokenizer', which serves 3" in reason_of(repository)
    shutil.rmtree(repository / "sentiment_tokenizer")
    assert "runs the model 'sentiment_tokenizer', which is not here" in reason_of(repository)
