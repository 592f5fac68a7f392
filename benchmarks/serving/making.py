"""What is measured: an image classifier at each input size, and a no-op model beside it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import edgeml
from benchmarks.serving.pictures import make_bundle, make_checkpoint, make_pictures
from edgeml.core.bundle import write_bundle
from edgeml.core.files import staged_folder
from edgeml.serving.installation.finding import STUB_MODULE
from edgeml.serving.repository.config import CPU_CONFIG, DEFAULT_CONFIG, config_text, parse_config

_NOOP = '''\
"""Answers zeros and reads nothing: what is left is the server, the stub and the way to them."""

import edgeml_stub

edgeml_stub.add_packages()

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                output_tensors=[
                    pb_utils.Tensor(
                        "probabilities",
                        np.zeros((request.inputs()[0].shape()[0], CLASSES), np.float32),
                    )
                ]
            )
            for request in requests
        ]
'''


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One model under measurement.

    Attributes:
        size: Side of the picture in pixels.
        bundle: Its bundle.
        model: Its name in the repository.
        noop: The name of the no-op model of the same inputs and outputs.
    """

    size: int
    bundle: edgeml.Bundle
    model: str
    noop: str


def make_subjects(work: Path, sizes: list[int]) -> tuple[Path, list[Subject]]:
    """Return a repository and what is in it; bundles that lie in ``work`` are used again."""
    repository, subjects = work / "repository", []
    if not (work / "pictures").is_dir():
        make_pictures(work / "pictures")
    for size in sizes:
        bundle = _bundle(work, size)
        name = f"image{size}"
        subject = Subject(size=size, bundle=bundle, model=name, noop=f"noop{size}")
        if not (repository / name).is_dir():
            edgeml.publish(bundle, repository=repository, name=name)
        _write_noop(repository, subject)
        subjects.append(subject)
    return repository, subjects


def _bundle(work: Path, size: int) -> edgeml.Bundle:
    """Return a bundle whose INT8 variant is the one that a CPU gets, however the export timed it.

    A short export on a busy machine may not prove INT8 faster; what serving adds shows most beside
    the shorter run.
    """
    place = work / f"size{size}"
    if not (place / "int8").is_dir():
        checkpoint = make_checkpoint(work / "pictures", size, place / "checkpoint")
        made = make_bundle(checkpoint, place / "bundle")
        with staged_folder(place / "int8") as folder:
            shutil.copytree(made.path, folder, dirs_exist_ok=True)
            by_device = {**made.manifest.chosen_by_device, "cpu": "int8"}
            chosen = replace(made.manifest, chosen="int8", chosen_by_device=by_device)
            write_bundle(folder, chosen, place=place / "int8")
    return edgeml.Bundle.read(place / "int8")


def _write_noop(repository: Path, subject: Subject) -> None:
    source = (repository / subject.model / CPU_CONFIG).read_text(encoding="utf-8")
    config: dict[str, Any] = parse_config(source)
    for key in ("model_warmup", "parameters", "default_model_filename"):
        config.pop(key, None)
    for row in config["output"]:
        row.pop("label_filename", None)
    version = config["version_policy"]["specific"]["versions"][0]
    folder = repository / subject.noop / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    text = config_text({**config, "name": subject.noop, "backend": "python"})
    (folder.parent / DEFAULT_CONFIG).write_text(text, encoding="utf-8")
    classes = config["output"][0]["dims"][0]
    (folder / "model.py").write_text(_NOOP.replace("CLASSES", str(classes)), encoding="utf-8")
    (folder / STUB_MODULE.name).write_bytes(STUB_MODULE.read_bytes())
