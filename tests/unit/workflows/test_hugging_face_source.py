"""A text classifier that somebody else fine-tuned, proven on data of one's own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import edgeml
from edgeml.core.progress import silent
from edgeml.errors import DataError, InputError
from edgeml.workflows.hugging_face_source import open_hugging_face_source
from edgeml.workflows.source_opening import looks_like_hub
from edgeml.workflows.sources import Source
from tests.small_text import POSITIONS, make_encoder, make_table, make_texts
from tests.trained import TIMING

COUNT = 40


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Torch has one number of threads for the whole process: put it back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _classifier(
    folder: Path, labels: Sequence[str] | None = ("bad", "good"), **options: Any
) -> Path:
    """Write a tiny classifier as its makers would; without labels it names none."""
    make_encoder(folder)
    names: dict[str, Any] = {"num_labels": 2}
    if labels is not None:
        names = {
            "id2label": dict(enumerate(labels)),
            "label2id": {label: index for index, label in enumerate(labels)},
        }
    config = transformers.AutoConfig.from_pretrained(folder, **names, **options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = transformers.AutoModelForSequenceClassification.from_config(config)
    model.save_pretrained(folder)
    return folder


def _table(file: Path, names: dict[str, str], *, count: int = COUNT) -> Path:
    """Write easy texts whose classes ``bad`` and ``good`` are called something else."""
    rows = (
        f"{text},{names[label]}" for text, label in zip(*make_texts(count, seed=2), strict=True)
    )
    file.write_text("\n".join(["text,label", *rows, ""]), encoding="utf-8")
    return file


def _open(folder: Path, data: Path | None) -> Source:
    return open_hugging_face_source(str(folder), data, seed=0, progress=silent)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return _classifier(tmp_path / "theirs")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_table(tmp_path / "films.csv", COUNT)


def test_their_model_becomes_a_bundle_that_answers_as_it_does(tmp_path: Path) -> None:
    folder = _classifier(tmp_path / "theirs")
    table = make_table(tmp_path / "films.csv", 24)
    settings = edgeml.ExportSettings(num_threads=1, timing=TIMING)
    made = edgeml.export(folder, out=tmp_path / "b", data=table, settings=settings)
    manifest = made.bundle.manifest
    assert (manifest.labels, manifest.name) == (("bad", "good"), "b")
    assert manifest.provenance["model"] == "theirs"
    assert str(tmp_path) not in json.dumps(manifest.provenance)
    network = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    text = "a lovely film"
    with torch.inference_mode():
        feed = tokenizer(text, return_tensors="pt")
        expected = network(**feed).logits.softmax(dim=1)[0].numpy()
    with edgeml.load(made.bundle, variant="fp32", num_threads=1) as predictor:
        scores = predictor.predict(text).scores
    np.testing.assert_allclose([scores["bad"], scores["good"]], expected, atol=1e-5)


@dataclass(frozen=True, kw_only=True)
class Naming:
    """How a model and a table name the same two classes.

    Attributes:
        model: The model's labels in its order, or None where it names none.
        data: What the table calls ``bad`` and ``good``.
        labels: Those of the bundle.
        good: Index of the good class there.
    """

    id: str
    model: tuple[str, ...] | None
    data: tuple[str, str]
    labels: tuple[str, ...]
    good: int


NAMINGS = (
    Naming(id="same", model=("bad", "good"), data=("bad", "good"), labels=("bad", "good"), good=1),
    Naming(id="order", model=("good", "bad"), data=("bad", "good"), labels=("good", "bad"), good=0),
    Naming(id="case", model=("GOOD", "Bad"), data=("bad", "good"), labels=("GOOD", "Bad"), good=0),
    Naming(id="number", model=("NEG", "POS"), data=("0", "1"), labels=("NEG", "POS"), good=1),
    Naming(id="unnamed", model=None, data=("0", "1"), labels=("0", "1"), good=1),
    Naming(
        id="their-words",
        model=None,
        data=("LABEL_1", "LABEL_0"),
        labels=("LABEL_0", "LABEL_1"),
        good=0,
    ),
)


@pytest.mark.parametrize("case", NAMINGS, ids=lambda case: case.id)
def test_classes_are_matched_by_name_case_or_number(case: Naming, tmp_path: Path) -> None:
    folder = _classifier(tmp_path / "theirs", case.model)
    names = dict(zip(("bad", "good"), case.data, strict=True))
    source = _open(folder, _table(tmp_path / "t.csv", names))
    assert source.labels == case.labels
    right = [case.good if label == "good" else None for label in make_texts(COUNT, seed=2)[1]]
    found = [int(one) if one == case.good else None for one in source.targets]
    assert found == right


def test_a_number_beyond_the_classes_is_refused(folder: Path, tmp_path: Path) -> None:
    table = _table(tmp_path / "t.csv", {"bad": "1", "good": "2"})
    with pytest.raises(DataError, match=r"classes are 1, 2; the model's are bad, good;.*number"):
        _open(folder, table)


def test_classes_that_the_model_has_not_are_refused(folder: Path, tmp_path: Path) -> None:
    table = _table(tmp_path / "t.csv", {"bad": "bad", "good": "superb"})
    with pytest.raises(DataError, match="its classes are bad, superb; the model's are bad, good"):
        edgeml.export(folder, out=tmp_path / "b", data=table)
    assert not (tmp_path / "b").exists()


def test_without_data_there_is_nothing_to_prove_on(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"brings no data to prove it on.*--data"):
        edgeml.export(folder, out=tmp_path / "b")


def test_an_encoder_without_a_head_is_refused(data: Path, tmp_path: Path) -> None:
    folder = make_encoder(tmp_path / "bare")
    with pytest.raises(InputError, match=r"no classification head.*edgeml finetune"):
        _open(folder, data)


def test_a_head_whose_weights_are_not_there_is_refused(folder: Path, data: Path) -> None:
    file = folder / "model.safetensors"
    weights = {name: row for name, row in load_file(file).items() if "classifier" not in name}
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lacks 2 tensors.*head included"):
        _open(folder, data)


def test_damaged_weights_are_refused_in_one_line(folder: Path, data: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot be loaded") as caught:
        _open(folder, data)
    assert "\n" not in str(caught.value)


def _configure_tokenizer(folder: Path, **values: Any) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps(values), encoding="utf-8")


def test_a_tokenizer_that_is_another_in_their_library_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    _configure_tokenizer(folder, tokenizer_class="BertTokenizerFast", do_lower_case=False)
    # Upper case is what the override changes.
    table = _table(tmp_path / "t.csv", {"bad": "bad", "good": "good"})
    head, *rows = table.read_text(encoding="utf-8").splitlines()
    shouted = [f"{text.upper()},{label}" for text, label in (row.rsplit(",", 1) for row in rows)]
    table.write_text("\n".join([head, *shouted, ""]), encoding="utf-8")
    with pytest.raises(InputError, match=r"tokenizer_config\.json changes what tokenizer\.json"):
        _open(folder, table)


def test_one_that_says_the_same_is_taken(folder: Path, data: Path) -> None:
    _configure_tokenizer(folder, tokenizer_class="BertTokenizerFast", do_lower_case=True)
    assert _open(folder, data).labels == ("bad", "good")


def test_a_model_of_several_labels_a_text_is_refused(data: Path, tmp_path: Path) -> None:
    folder = _classifier(tmp_path / "theirs", problem_type="multi_label_classification")
    with pytest.raises(InputError, match=r"several labels a text.*--multi-label"):
        _open(folder, data)


def test_a_text_is_cut_where_the_model_ends(folder: Path, data: Path) -> None:
    source = _open(folder, data)
    assert source.preprocessing["max_length"] == POSITIONS
    assert source.foreign


def test_a_class_without_texts_is_refused(data: Path, tmp_path: Path) -> None:
    folder = _classifier(tmp_path / "theirs", ("so-so", "good", "bad"))
    with pytest.raises(DataError, match="the class 'so-so' has 0 distinct texts"):
        _open(folder, data)


@pytest.mark.parametrize("name", ["somebody/classifier", "some-body/a.model_2"])
def test_an_owner_and_a_name_may_be_on_the_hub(name: str) -> None:
    assert looks_like_hub(name)


def test_a_mistyped_folder_is_not_looked_for_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("here").mkdir()
    for name in ("here/nothing", "nothing", "./nothing", "a/b/c"):
        assert not looks_like_hub(name)
    with pytest.raises(InputError, match="here/nothing"):
        edgeml.export("here/nothing", out=tmp_path / "b")
