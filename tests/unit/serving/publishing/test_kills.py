"""A publish or rollback that is killed at any step leaves the old version or the new one, whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import edgeml
from edgeml.core.bundle import Bundle
from edgeml.serving.lint.linting import lint_repository
from edgeml.serving.repository.config import CPU_CONFIG, DEFAULT_CONFIG, read_config
from edgeml.serving.repository.selecting import select_models
from edgeml.serving.repository.version_record import check_files, read_record
from tests.unit.serving.publishing.killing import kill_each, steps_in
from tests.unit.serving.tiny_bundle import make_tiny_bundle, run_file
from tests.unit.serving.tiny_text import make_text_bundle

# Steps that a publish without a server is told of, in their order, and so can be killed at.
IMAGE_STEPS = (
    *("staging", "placing", "placed tiny", "switching", "half switched tiny", "switched tiny"),
    *("committed", "cleaning", "cleaned"),
)
_NAMES = ("sentiment", "sentiment_tokenizer", "sentiment_labels", "sentiment_text")
TEXT_STEPS = (
    *("staging", "candidate", "candidate placed", "placing"),
    *(f"placed {name}" for name in _NAMES),
    *("switching", "bridged sentiment_text", "half switched sentiment"),
    *(f"switched {name}" for name in _NAMES),
    *("committed", "cleaning", "cleaned"),
)
FIRST_TEXT_STEPS = (
    *("staging", "placing", "switching"),
    *(f"switched {name}" for name in _NAMES),
    *("committed", "cleaning", "cleaned"),
)


# Of a rollback of a text model, those that differ from both others.
TEXT_ROLLBACK_STEPS = tuple(
    step for step in TEXT_STEPS if step.startswith(("candidate pl", "bridged", "half", "switched"))
)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory) -> dict[str, list[Bundle]]:
    """Two bundles of each kind that answer differently."""
    folder = tmp_path_factory.mktemp("bundles")
    return {
        "tiny": [make_tiny_bundle(folder / f"tiny{n}.bundle", seed=n) for n in (0, 1)],
        "sentiment": [make_text_bundle(folder / f"text{n}.bundle", seed=n) for n in (0, 1)],
    }


def check_serves_one(root: Path, bundles: dict[int, Bundle]) -> int:
    """Check that a repository serves one whole version, and return which.

    Args:
        root: The repository, of one model.
        bundles: Version to bundle.
    """
    model = bundles[1].manifest.name
    built, skipped = select_models(root, use_cpu_config=True)
    assert all("__candidate" in row.name for row in skipped), skipped
    assert select_models(root, use_cpu_config=False)[0] == built
    assert [row for row in lint_repository(root) if row.level == "error"] == []
    served = read_config(root / model / CPU_CONFIG)
    (version,) = served.versions
    record = read_record(root / model / str(version))
    check_files(root, record)
    # By golden values: the file that is named answers as the bundle of that version does.
    bundle = bundles[version]
    variant = Path(served.default_file).stem
    golden = bundle.golden()
    if "image" in golden.tensors:
        answer = run_file(
            root / model / f"{version}/{served.default_file}", golden.tensors["image"]
        )
        expected = golden.outputs[variant]["probabilities"]
        assert np.abs(answer - expected).max() <= golden.tolerance[variant]
    # What callers ask for strings runs parts of one version, under whatever names.
    for name in record.ensembles:
        if (root / name).is_dir():
            steps = read_config(root / name / DEFAULT_CONFIG).steps
            assert len({number for _, number in steps}) == 1
            assert {step.startswith(f"{model}__candidate") for step, _ in steps} in (
                {True},
                {False},
            )
    return version


CASES = [
    pytest.param("tiny", "publish", IMAGE_STEPS, id="image"),
    pytest.param("tiny", "rollback", IMAGE_STEPS, id="image-rollback"),
    pytest.param("sentiment", "publish", TEXT_STEPS, id="text"),
    pytest.param("sentiment", "rollback", TEXT_ROLLBACK_STEPS, id="text-rollback"),
]


@pytest.mark.parametrize(("model", "verb", "steps"), CASES)
def test_a_kill_at_every_step_leaves_the_old_or_the_new(bundles, tmp_path, model, verb, steps):
    old, new = bundles[model]
    base = tmp_path / "base"
    edgeml.publish(old, repository=base)
    if verb == "rollback":
        edgeml.publish(new, repository=base)
    before, after = (1, 2) if verb == "publish" else (2, 1)
    subject = str(new.path) if verb == "publish" else model
    orders = []
    for number, step in enumerate((*steps, None)):
        root = tmp_path / str(number) / "models"
        shutil.copytree(base, root)
        options = {"repository": str(root)}
        orders.append({"verb": verb, "subject": subject, "step": step, "options": options})
    told = kill_each(orders)
    every = TEXT_STEPS if model == "sentiment" else IMAGE_STEPS
    assert tuple(told[-1]) == every, "a step that no test kills at"
    held = {1: old, 2: new}
    served = []
    for number, step in enumerate(steps):
        root = tmp_path / str(number) / "models"
        assert told[number][-1] == step
        served.append(check_serves_one(root, held))
        # The next one finishes or undoes it, and goes on from there.
        third = edgeml.publish(new, repository=root)
        assert third.recovered if step != "done" else not third.recovered
        assert check_serves_one(root, {**held, third.version: new}) == third.version
        assert steps_in(root) == []
    assert served == sorted(served, key=[before, after].index), "once new, always new"
    assert (served[0], served[-1]) == (before, after)


@pytest.mark.parametrize(
    ("model", "steps"),
    [
        ("tiny", [step for step in IMAGE_STEPS if not step.startswith(("placed", "half"))]),
        ("sentiment", FIRST_TEXT_STEPS),
    ],
)
def test_a_kill_of_the_first_publish_leaves_nothing_or_the_model(bundles, tmp_path, model, steps):
    bundle = bundles[model][0]
    orders = [
        {
            "verb": "publish",
            "subject": str(bundle.path),
            "step": step,
            "options": {"repository": str(tmp_path / str(number) / "models")},
        }
        for number, step in enumerate((*steps, None))
    ]
    told = kill_each(orders)
    assert tuple(told[-1]) == tuple(steps)
    for number, step in enumerate(steps):
        root = tmp_path / str(number) / "models"
        built, skipped = select_models(root, use_cpu_config=True)
        assert skipped == [], step
        # Parts alone do no harm; what is there is whole.
        assert [path for path in root.iterdir() if path.is_dir() and path.name not in built] == []
        done = edgeml.publish(bundle, repository=root)
        assert check_serves_one(root, {1: bundle, 2: bundle}) == done.version
        assert steps_in(root) == []


def test_a_rollback_mends_what_a_killed_publish_left(bundles, tmp_path):
    root = tmp_path / "models"
    for bundle in bundles["tiny"]:
        edgeml.publish(bundle, repository=root)
    order = {"verb": "publish", "subject": str(bundles["tiny"][0].path), "step": "switched tiny"}
    kill_each([{**order, "options": {"repository": str(root)}}])
    done = edgeml.rollback("tiny", repository=root)
    assert (done.version, done.previous) == (1, 2)
    assert "publish of version 3 had been cut off at 'switching' and is undone" in done.recovered
    assert not (root / "tiny/3").exists()


def test_a_journal_that_cannot_be_read_is_named(bundles, tmp_path):
    root = tmp_path / "models"
    edgeml.publish(bundles["tiny"][0], repository=root)
    (root / ".tiny.publishing.json").write_text(json.dumps({"model": "tiny"}))
    with pytest.raises(edgeml.EdgemlError, match=r"journal.*cannot be read.*remove the journal"):
        edgeml.publish(bundles["tiny"][1], repository=root)
