"""``edgeml.load``: only what the manifest vouches for, on a machine that it fits."""

from __future__ import annotations

import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeml
from edgeml.errors import (
    BundleError,
    HostMismatchWarning,
    InputError,
    IntegrityError,
    MissingExtraError,
)
from edgeml.runtime.host import Host
from tests.bundles import replace_listed, spoil
from tests.pictures import scene
from tests.small import make_small_bundle, small_classifier

MODEL = "variants/int8/model.onnx"


def _replace_model(place: Path, index: int) -> None:
    """Put another model in a variant's place, with the manifest's consent."""
    data = small_classifier(shift=0.5).SerializeToString()
    file = edgeml.Bundle.read(place).manifest.variants[index].file
    replace_listed(place, file, data)

    def agree(value: dict[str, Any]) -> None:
        row = value["variants"][index]
        row.update(size_bytes=len(data), sha256=value["files"][file])

    spoil(place, agree)


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretend to be a machine with another instruction set."""

    def pretend(instruction_set: str) -> None:
        host = Host(architecture="x", cpu="x", instruction_set=instruction_set, threads=2)
        monkeypatch.setattr("edgeml.workflows.loading.detect_host", lambda: host)

    return pretend


def test_the_chosen_variant_answers(small: Path) -> None:
    with edgeml.load(small, num_threads=1) as predictor:
        assert predictor.served_by == "onnxruntime/cpu/int8/3"
        answer = predictor.predict(scene())
    assert answer.label in answer.scores
    assert answer.served_by == "onnxruntime/cpu/int8/3"


def test_any_variant_answers_by_name(small: Path) -> None:
    with edgeml.load(small, variant="fp32", num_threads=1) as predictor:
        assert predictor.served_by == "onnxruntime/cpu/fp32/3"
    with pytest.raises(InputError, match="no variant 'int4'; this bundle has fp32, int8"):
        edgeml.load(small, variant="int4")


def test_a_flipped_byte_is_refused(small_copy: Path) -> None:
    data = bytearray((small_copy / MODEL).read_bytes())
    data[len(data) // 2] ^= 1
    (small_copy / MODEL).write_bytes(data)
    with pytest.raises(IntegrityError, match=r"int8/model\.onnx' has the sha256"):
        edgeml.load(small_copy)
    edgeml.load(small_copy, variant="fp32").close()  # the other file is whole


def test_a_size_that_the_manifest_does_not_say_is_refused(small_copy: Path) -> None:
    spoil(small_copy, lambda value: value["variants"][1].update(size_bytes=7))
    with pytest.raises(IntegrityError, match=r"has \d+ bytes; the manifest says 7"):
        edgeml.load(small_copy)


def test_a_model_that_is_not_the_signatures_is_refused(small_copy: Path) -> None:
    def enlarge(value: dict[str, Any]) -> None:
        value["signature"]["inputs"][0]["shape"] = ["batch", 9, 9, 3]
        value["preprocessing"].update(height=9, width=9)

    spoil(small_copy, enlarge)
    with pytest.raises(BundleError, match="export the bundle again"):
        edgeml.load(small_copy)


@dataclass(frozen=True, kw_only=True)
class ContractCase:
    """A manifest whose parts contradict each other."""

    id: str
    change: Any
    says: str


@pytest.mark.parametrize(
    "case",
    [
        ContractCase(
            id="a-label-too-few",
            change=lambda value: value.update(labels=["a", "b", "c"]),
            says="the output has 4 classes and there are 3 labels",
        ),
        ContractCase(
            id="no-labels",
            change=lambda value: value.update(labels=[]),
            says="4 classes and there are 0 labels",
        ),
        ContractCase(
            id="other-height",
            change=lambda value: value["preprocessing"].update(height=16),
            says=r"16x8 pixels for an input uint8 \(batch, 8, 8, 3\)",
        ),
        ContractCase(
            id="no-width",
            change=lambda value: value["preprocessing"].pop("width"),
            says="8xNone pixels",
        ),
        ContractCase(
            id="no-picture",
            change=lambda value: value["signature"]["inputs"][0].update(shape=["batch", 8]),
            says=r"for an input uint8 \(batch, 8\)",
        ),
        ContractCase(
            id="later-schema",
            change=lambda value: value.update(schema_version=2),
            says="schema_version is 2; this edgeml reads 1",
        ),
        ContractCase(
            id="other-task",
            change=lambda value: value.update(task="recommendation"),
            says="does not list 'recommendation/description.json'",
        ),
        ContractCase(
            id="contract-of-another-task",
            change=lambda value: value.update(task="text-classification"),
            says="kind is 'image', expected 'text'",
        ),
    ],
    ids=lambda case: case.id,
)
def test_a_contract_that_contradicts_itself_is_refused(
    small_copy: Path, case: ContractCase
) -> None:
    def change(value: dict[str, Any]) -> None:
        case.change(value)

    spoil(small_copy, change)
    with pytest.raises(BundleError, match=case.says):
        edgeml.load(small_copy)


@dataclass(frozen=True, kw_only=True)
class HostCase:
    """What a variant was tuned for, what this machine has, and who answers by default."""

    tuned_for: str | None
    mine: str
    answers: str

    @property
    def id(self) -> str:
        return f"{self.tuned_for}-on-{self.mine}"


@pytest.mark.parametrize(
    "case",
    [
        HostCase(tuned_for=None, mine="generic", answers="int8"),
        HostCase(tuned_for="avx2", mine="avx2", answers="int8"),
        # Instruction sets that sum without saturating give the same numbers.
        HostCase(tuned_for="avx512_vnni", mine="avx_vnni", answers="int8"),
        HostCase(tuned_for="avx_vnni", mine="amx_int8", answers="int8"),
        HostCase(tuned_for="avx512_vnni", mine="avx2", answers="fp32"),
        HostCase(tuned_for="avx2", mine="avx512_vnni", answers="fp32"),
        HostCase(tuned_for="dotprod", mine="i8mm", answers="fp32"),
    ],
    ids=lambda case: case.id,
)
def test_a_variant_for_another_machine_is_replaced_and_told(
    tmp_path: Path, on: Any, case: HostCase
) -> None:
    place = tmp_path / "b"
    make_small_bundle(place, tuned_for=case.tuned_for)
    on(case.mine)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with edgeml.load(place, num_threads=1) as predictor:
            assert predictor.served_by == f"onnxruntime/cpu/{case.answers}/3"
            assert predictor.predict(scene()).served_by == predictor.served_by
    if case.answers == "int8":
        assert caught == []
        return
    (warning,) = caught
    assert warning.category is HostMismatchWarning
    assert f"tuned for {case.tuned_for} and this machine has {case.mine}" in str(warning.message)
    assert "fp32 is used instead" in str(warning.message)
    assert Path(warning.filename).name == Path(__file__).name  # it points at the caller


def test_a_variant_asked_for_by_name_is_the_one_that_answers(tmp_path: Path, on: Any) -> None:
    make_small_bundle(tmp_path / "b", tuned_for="avx512_vnni")
    on("generic")
    with pytest.warns(HostMismatchWarning, match="its answers may differ here"):
        predictor = edgeml.load(tmp_path / "b", variant="int8", num_threads=1)
    assert predictor.served_by == "onnxruntime/cpu/int8/3"
    predictor.close()


def test_batches_go_to_another_where_answers_depend_on_neighbours(small_copy: Path) -> None:
    spoil(small_copy, lambda value: value["variants"][1].update(batch_safe=False))
    with edgeml.load(small_copy, num_threads=1, verify="golden") as predictor:
        assert predictor.predict(scene()).served_by == "onnxruntime/cpu/int8/3"
        (alone,) = predictor.predict_batch([scene()])
        assert alone.served_by == "onnxruntime/cpu/int8/3"
        both = predictor.predict_batch([scene(), scene()])
        assert {row.served_by for row in both} == {"onnxruntime/cpu/fp32/3"}


def test_golden_values_of_both_engines_are_replayed(small_copy: Path) -> None:
    spoil(small_copy, lambda value: value["variants"][1].update(batch_safe=False))
    _replace_model(small_copy, 0)
    with pytest.raises(IntegrityError, match="golden fp32: largest difference"):
        edgeml.load(small_copy, num_threads=1, verify="golden")


def test_golden_values_are_replayed_on_request(small_copy: Path) -> None:
    edgeml.load(small_copy, verify="golden", num_threads=1).close()
    _replace_model(small_copy, 1)
    edgeml.load(small_copy, num_threads=1).close()  # by its hashes all is well
    with pytest.raises(IntegrityError, match="golden int8: largest difference"):
        edgeml.load(small_copy, verify="golden", num_threads=1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"num_threads": 0}, "num_threads is 0"),
        ({"num_threads": -2}, "num_threads is -2"),
        ({"verify": "nothing"}, "'hash' or 'golden'"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_refused(small: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        edgeml.load(small, **options)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "none", str(tmp_path)):
        with pytest.raises(BundleError, match="this is not a bundle"):
            edgeml.load(place)


def test_a_bundle_that_was_read_already_is_fine(small: Path) -> None:
    with edgeml.load(edgeml.Bundle.read(small), num_threads=1) as predictor:
        assert predictor.predict(scene()).label


def _onto_openvino(place: Path, **change: Any) -> None:
    """Let int8, the chosen one, be OpenVINO's."""

    def spoken(value: dict[str, Any]) -> None:
        value["variants"][1].update(engine="openvino", **change)

    spoil(place, spoken)


@pytest.fixture
def without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeml.workflows.loading.installed_engines", lambda: ("onnxruntime",))


def test_a_variant_runs_on_its_own_engine(small_copy: Path) -> None:
    _onto_openvino(small_copy, engine_options={"inference_precision": "f32"})
    with edgeml.load(small_copy, num_threads=1, verify="golden") as predictor:
        assert predictor.served_by == "openvino/cpu/int8/3"
        assert predictor.predict(scene()).served_by == "openvino/cpu/int8/3"


@pytest.mark.usefixtures("without_openvino")
@pytest.mark.parametrize("named", [False, True], ids=["fp32", "best-of-its-engine"])
def test_where_its_engine_is_missing_another_answers_and_is_told(
    small_copy: Path, named: bool
) -> None:
    _onto_openvino(small_copy)
    if named:

        def name_another(value: dict[str, Any]) -> None:
            value["variants"].append({**value["variants"][0], "name": "fp32-lean"})
            value["chosen_by_engine"] = {"onnxruntime": "fp32-lean", "openvino": "int8"}

        spoil(small_copy, name_another)
    answers = "fp32-lean" if named else "fp32"
    with pytest.warns(HostMismatchWarning) as caught:
        predictor = edgeml.load(small_copy, num_threads=1)
    assert predictor.served_by == f"onnxruntime/cpu/{answers}/3"
    predictor.close()
    (warning,) = caught
    text = str(warning.message)
    assert "variant 'int8' runs on openvino, which is not installed" in text
    assert f"'{answers}' is used instead; run: pip install 'edgeml[openvino]'" in text
    assert Path(warning.filename).name == Path(__file__).name


@pytest.mark.usefixtures("without_openvino")
def test_a_variant_asked_for_by_name_needs_its_engine(small_copy: Path) -> None:
    _onto_openvino(small_copy)
    with pytest.raises(MissingExtraError, match=r"pip install 'edgeml\[openvino\]'"):
        edgeml.load(small_copy, variant="int8", num_threads=1)
    edgeml.load(small_copy, variant="fp32", num_threads=1).close()


@pytest.mark.usefixtures("without_openvino")
def test_batches_go_to_another_where_their_variants_engine_is_missing(small_copy: Path) -> None:
    def couple(value: dict[str, Any]) -> None:
        own = {**value["variants"][1], "name": "int8-dynamic", "batch_safe": False}
        value["variants"].append({**own, "engine": "onnxruntime"})
        value.update(chosen="int8-dynamic", chosen_for_batches="int8")

    _onto_openvino(small_copy)
    spoil(small_copy, couple)
    with pytest.warns(HostMismatchWarning, match=r"'int8' runs on openvino.*batches run another"):
        predictor = edgeml.load(small_copy, num_threads=1)
    assert predictor.served_by == "onnxruntime/cpu/int8-dynamic/3"
    both = predictor.predict_batch([scene(), scene()])
    assert {row.served_by for row in both} == {"onnxruntime/cpu/fp32/3"}
    predictor.close()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"engine": "tensorrt"}, "no engine 'tensorrt'; onnxruntime or openvino was expected"),
        ({"engine_options": {"speed": 11}}, "the option 'speed'"),
    ],
    ids=str,
)
def test_an_engine_or_option_of_a_later_edgeml_is_named(
    small_copy: Path, change: dict[str, Any], says: str
) -> None:
    def alter(value: dict[str, Any]) -> None:
        value["variants"][1].update(change)

    spoil(small_copy, alter)
    with pytest.raises(BundleError, match=says) as caught:
        edgeml.load(small_copy, variant="int8", num_threads=1)
    assert caught.value.path == str(small_copy)


def test_a_long_stream_is_answered_when_the_bundle_is_gone(small_copy: Path) -> None:
    pictures = [scene(8 + index) for index in range(40)]
    with edgeml.load(small_copy, variant="fp32", num_threads=2) as predictor:
        expected = predictor.predict_batch(pictures[:8])
        shutil.rmtree(small_copy)
        with pytest.warns(RuntimeWarning, match="more slowly.*is missing.*load it again"):
            answers = predictor.predict_batch(pictures)
        assert [row.label for row in answers[:8]] == [row.label for row in expected]
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # it was told once
            predictor.predict_batch(pictures)


def test_threads_share_a_real_model(trained: Any, rng: np.random.Generator) -> None:
    images = list(rng.integers(0, 256, (16, 40, 36, 3), dtype=np.uint8))
    variant = trained.exported.bundle.manifest.variants[-1].name
    with (
        warnings.catch_warnings(),
        edgeml.load(trained.bundle, variant=variant, num_threads=2) as predictor,
        ThreadPoolExecutor(6) as pool,
    ):
        alone = [predictor.predict(image) for image in images]
        together = list(pool.map(predictor.predict, images * 6))
    for index, answer in enumerate(together):
        expected = alone[index % len(images)]
        assert answer.label == expected.label
        assert answer.score == pytest.approx(expected.score, abs=1e-5)
