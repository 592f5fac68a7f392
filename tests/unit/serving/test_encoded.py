"""Models that take picture files: their configurations, and the client's side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeml.errors import InputError
from edgeml.serving.client.image_task import MAX_BYTES, ServedImageTask
from edgeml.serving.client.served import served_from, step_behind
from edgeml.serving.client.wire import check_feed
from edgeml.serving.repository.config import describe, parse_config, read_config
from edgeml.serving.repository.contract import decode_contract, labels_of, part_of
from edgeml.serving.repository.image_config import decoder_config, encoded_config
from edgeml.serving.repository.options import ServingOptions
from edgeml.serving.repository.publish import publish_bundle
from edgeml.serving.repository.selecting import select_models
from tests.unit.serving.tiny_bundle import make_tiny_bundle

BUILD = {"model": "clothing", "version": 3, "max_batch_size": 8}


def test_every_step_is_fed_by_the_one_before(contract):
    (decoder,) = decoder_config(contract, **BUILD).values()
    (ensemble,) = encoded_config(contract, **BUILD).values()
    values, first = parse_config(ensemble), parse_config(decoder)
    assert [row["name"] for row in values["input"]] == ["encoded"]
    assert [row["name"] for row in values["output"]] == ["label", "probabilities"]
    assert first["output"] == [
        {"name": "image", "data_type": "TYPE_UINT8", "dims": ["64", "64", "3"]}
    ]
    steps = values["ensemble_scheduling"]["step"]
    assert [row["model_name"] for row in steps] == [
        "clothing_decoder",
        "clothing",
        "clothing_labels",
    ]
    known = {"encoded"}
    for step in steps:
        assert set(step["input_map"].values()) <= known
        known |= set(step["output_map"].values())
    assert {"label", "probabilities"} <= known
    assert {row["model_version"] for row in steps} == {"3"}
    assert values["max_batch_size"] == 8
    assert part_of(decode_contract(describe(values).contract_text)) == ("encoded", "clothing")


def test_publishing_writes_the_parts_when_asked(tiny, tmp_path: Path):
    done = publish_bundle(tiny, tmp_path / "models", options=ServingOptions(encoded=True))
    assert done.parts == ("tiny_decoder", "tiny_labels", "tiny_encoded")
    assert select_models(tmp_path / "models", use_cpu_config=True) == (
        ["tiny", "tiny_decoder", "tiny_encoded", "tiny_labels"],
        [],
    )
    assert (tmp_path / "models/tiny_decoder/1/edgeml/tasks/image.py").is_file()
    assert publish_bundle(tiny, tmp_path / "plain").parts == ()


def test_a_model_without_pictures_has_no_files_to_take(tmp_path: Path):
    from tests.unit.serving.tiny_bundle import make_lookup_bundle

    bundle = make_lookup_bundle(tmp_path / "lookup.bundle")
    if bundle.manifest.task == "image-classification":
        pytest.fail("the lookup bundle was expected to be of another task")
    with pytest.raises(InputError, match="takes no picture files"):
        publish_bundle(bundle, tmp_path / "models", options=ServingOptions(encoded=True))


def test_a_feed_of_files(tiny, tmp_path: Path):
    root = tmp_path / "models"
    publish_bundle(tiny, root, options=ServingOptions(encoded=True))
    ensemble = read_config(root / "tiny_encoded/config.pbtxt")
    assert step_behind(ensemble) == ("tiny", 1)
    served = served_from(ensemble, version="1", behind=read_config(root / "tiny/configs/cpu.pbtxt"))
    task = ServedImageTask(labels_of(served.contract))
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"abc")
    feed = task.collate([task.prepare(picture), task.prepare(b"d")])
    assert check_feed(served, feed) == 2
    assert list(feed["encoded"]) == [b"abc", b"d"]


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (np.zeros((2, 2, 3), np.uint8), "a ndarray is not a picture's file"),
        ("/nowhere/x.jpg", "cannot be read"),
        (b"", "the file has 0 bytes"),
    ],
)
def test_what_is_no_file_is_refused(item, says):
    from edgeml.tasks.classification import ClassLabels

    with pytest.raises(InputError, match=says):
        ServedImageTask(ClassLabels(names=("a", "b"))).prepare(item)


def test_requests_hold_a_few_megabytes(contract):
    task = ServedImageTask(labels_of(contract))
    three = 3 * 2**20
    files = [bytes(three), bytes(three), bytes(three), b"x", bytes(9 * 2**20)]
    assert task.batches(files) == [[0, 1], [2, 3], [4]]
    assert MAX_BYTES > 8 * 2**20


def test_the_tiny_bundle_is_one_of_pictures(tmp_path: Path):
    assert make_tiny_bundle(tmp_path / "t").manifest.task == "image-classification"
