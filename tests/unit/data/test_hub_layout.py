"""Where data sets keep their Parquet files: layouts as hubs have them, told from names alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeml.data.hub_layout import Layout, find_layout, layout_of_folder
from edgeml.errors import DataError

# As `zalando-datasets/fashion_mnist` has it.
CARD = """---
license: mit
dataset_info:
  config_name: fashion_mnist
  features:
  - name: image
    dtype: image
  - name: label
    dtype:
      class_label:
        names:
          '0': T - shirt / top
          '1': Trouser
configs:
- config_name: fashion_mnist
  data_files:
  - split: train
    path: fashion_mnist/train-*
  - split: test
    path: fashion_mnist/test-*
  default: true
---
# Pictures
"""


def _find(files: list[str], card: str = "", configuration: str = "") -> Layout:
    return find_layout(files, card, source="pets", configuration=configuration)


def _card(*configs: str) -> str:
    return "\n".join(["---", "configs:", *configs, "---", ""])


@pytest.mark.parametrize(
    ("files", "name", "parts"),
    [
        # beans, food101, cats_vs_dogs
        (["data/train-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet"], "",
         {"train": 1, "validation": 1}),
        # mnist, fashion_mnist without their card
        (["mnist/train-00000-of-00001.parquet", "mnist/test-00000-of-00001.parquet"], "mnist",
         {"train": 1, "test": 1}),
        # a hub's own conversion
        (["plain_text/train/0000.parquet", "plain_text/train/0001.parquet",
          "plain_text/test/0000.parquet"], "plain_text", {"train": 2, "test": 1}),
        (["default/partial-train/0000.parquet", "default/test/0000.parquet"], "default",
         {"train": 1, "test": 1}),
        # shards in folders of a part
        (["train/a/0.parquet", "train/b/1.parquet", "dev/a/0.parquet"], "",
         {"train": 2, "validation": 1}),
        (["data/Training/0.parquet", "data/evaluation/0.parquet"], "", {"train": 1, "test": 1}),
        # words of a name, and nothing but words
        (["mine-train-2024.parquet", "mine-test-2024.parquet"], "", {"train": 1, "test": 1}),
        (["train1.parquet", "val2.parquet"], "", {"train": 1, "validation": 1}),
        (["testimony.parquet", "strain.parquet"], "", {"train": 2}),
        # a part alone is the whole set
        (["test.parquet"], "", {"train": 1}),
        (["pets.parquet"], "", {"train": 1}),
    ],
)  # fmt: skip
def test_parts_are_told_by_words(files: list[str], name: str, parts: dict[str, int]) -> None:
    layout = _find([*files, "README.md", "data/train.zip"])
    assert layout.configuration == name
    assert {part: len(found) for part, found in layout.parts.items()} == parts
    assert sorted(layout.files()) == sorted(files)
    assert layout.left_out == []


def test_files_of_no_part_are_left_out_and_told() -> None:
    layout = _find(["train-0.parquet", "extra-0.parquet", "vectors/train.parquet"])
    assert layout.parts == {"train": ["train-0.parquet"]}
    assert layout.left_out == ["extra-0.parquet", "vectors/train.parquet"]


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["test.parquet", "val.parquet"], "none whose name has the word 'train'"),
        (["cats.parquet", "cats_test.parquet"], r"'train', as cats\.parquet"),
        (["train-test.parquet", "test.parquet"], r"'train', as train-test\.parquet"),
        (["train-00000-of-00003.parquet", "train-00002-of-00003.parquet"],
         r"1 of the 3 files train-\.\.\.-of-00003\.parquet are not there"),
        (["a/train.parquet", "b/train.parquet"],
         "several configurations and no default: a, b; one was expected; choose it as"),
        (["notes.txt"], "no Parquet files"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_refused(files: list[str], says: str) -> None:
    with pytest.raises(DataError, match=says) as raised:
        _find(files)
    assert "\n" not in str(raised.value)


def test_a_configuration_is_chosen_by_its_name() -> None:
    files = ["a/train.parquet", "b/train.parquet", "b/test.parquet"]
    assert list(_find(files, configuration="b").parts) == ["train", "test"]
    with pytest.raises(DataError, match="no configuration 'c': a, b"):
        _find(files, configuration="c")
    assert _find([*files, "default/train.parquet"]).configuration == "default"


def test_a_card_goes_first() -> None:
    files = ["fashion_mnist/train-00000-of-00001.parquet", "fashion_mnist/test-0.parquet"]
    layout = _find([*files, "other/train.parquet"], CARD)
    assert layout.parts == {"train": files[:1], "test": files[1:]}
    assert layout.classes == {"label": ("T - shirt / top", "Trouser")}


def test_a_cards_default_and_its_patterns() -> None:
    card = _card(
        "- {config_name: small, data_files: small/*.parquet}",
        "- config_name: large",
        "  default: true",
        "  data_files:",
        "  - {split: train, path: [large/one.parquet, 'large/more/**']}",
        "  - {split: extra, path: 'large/spare-?.parquet'}",
        "  - {split: test_of_all, path: ./large/held.parquet}",
    )
    files = ["large/one.parquet", "large/more/x/2.parquet", "large/spare-1.parquet",
             "large/held.parquet", "small/1.parquet", "small/below/2.parquet"]  # fmt: skip
    layout = _find(files, card)
    assert layout.parts == {
        "train": ["large/more/x/2.parquet", "large/one.parquet"], "test": ["large/held.parquet"],
    }  # fmt: skip
    assert layout.left_out == ["large/spare-1.parquet"]
    assert _find(files, card, "small").parts == {"train": ["small/1.parquet"]}


def test_a_card_may_name_folders_only() -> None:
    card = _card("- {config_name: a, data_dir: one}", "- {config_name: b, data_dir: two}")
    files = ["one/train/0.parquet", "one/test/0.parquet", "two/train.parquet"]
    assert _find(files, card, "a").parts == {"train": files[:1], "test": files[1:2]}
    with pytest.raises(DataError, match="no default: a, b"):
        _find(files, card)


@pytest.mark.parametrize(
    ("card", "says"),
    [
        ("---\nconfigs: [\n---\n", "is no YAML"),
        (_card("- 3"), "is not understood"),
        (_card("- {config_name: a, data_files: [{path: x}]}"), "is not understood"),
        (_card("- {config_name: a, data_files: [{split: train, path: gone-*}]}"),
         "names a part 'train' that has no Parquet files here"),
        (_card("- {config_name: a, data_files: gone.csv}"), "names a part 'train'"),
        (_card("- config_name: a", "  data_files: {train: 'train*', test: '*.parquet'}"),
         r"puts train\.parquet into two parts"),
    ],
)  # fmt: skip
def test_a_card_that_does_not_fit_is_refused(card: str, says: str) -> None:
    with pytest.raises(DataError, match=says) as raised:
        _find(["train.parquet"], card)
    assert "\n" not in str(raised.value)


def test_a_readme_without_a_head_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Mine\n\n---\nconfigs\n")
    (tmp_path / ".cache").mkdir()
    for name in ("train.parquet", ".cache/test.parquet"):
        (tmp_path / name).touch()
    layout = layout_of_folder(tmp_path, source="pets")
    assert (layout.parts, layout.left_out) == ({"train": ["train.parquet"]}, [])
    (tmp_path / "README.md").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="cannot be read as UTF-8"):
        layout_of_folder(tmp_path, source="pets")
