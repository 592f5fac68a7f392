"""Throughput of ``edgeml predict BUNDLE DIR --out``, against what the cores could do at best.

    python -m benchmarks.folder_prediction BUNDLE --pictures 10000 --threads 2

The bound is threads / (decode + inference): every core prepares a picture and answers it, and none
waits. Both times are measured here, on one thread each, on the same pictures, before and after the
run; the share reported is of the better one. Two processors of one core are no two cores, so what
independent processes reach that do nothing else, one a thread, stands beside it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import edgeml
from edgeml.tasks.image import INPUT, ImagePreprocessing
from edgeml.workflows.folder_prediction import predict_folder

_TIMED = 64
_BATCH = 32
_DISTINCT = 200


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--variant", default=None)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="edgeml-folder-") as root:
        folder = _pictures(Path(root) / "in", arguments)
        before = _bound(arguments, folder)
        with edgeml.load(
            arguments.bundle, variant=arguments.variant, num_threads=arguments.threads
        ) as predictor:
            done = predict_folder(predictor, folder, Path(root) / "out.csv")
            served_by = predictor.served_by
        after = _bound(arguments, folder)
        independent = _independent(arguments, folder)
    best = min(before, after, key=sum)
    bound = arguments.threads / sum(best) * 1e3
    result = {
        "served_by": served_by,
        "pictures": done.pictures,
        "size": f"{arguments.width}x{arguments.height}",
        "threads": arguments.threads,
        "decode_ms": round(best[0], 3),
        "inference_ms": round(best[1], 3),
        "bound_per_s": round(bound, 1),
        "pictures_per_s": round(done.pictures_per_s, 1),
        "share_of_bound": round(done.pictures_per_s / bound, 3),
        "independent_per_s": round(independent, 1),
        "share_of_independent": round(done.pictures_per_s / independent, 3),
    }
    print(json.dumps(result))  # noqa: T201
    return 0


def _bound(arguments: argparse.Namespace, folder: Path) -> tuple[float, float]:
    """Return milliseconds a picture of decoding and of inference, one thread each."""
    files = sorted(folder.iterdir())[:_TIMED]
    manifest = edgeml.Bundle.read(arguments.bundle).manifest
    contract = ImagePreprocessing.from_json(manifest.preprocessing)
    contract.prepare(files[0])
    began = time.perf_counter()
    images = np.stack([contract.prepare(file) for file in files])
    decode = (time.perf_counter() - began) / len(files) * 1e3
    variant = arguments.variant
    with edgeml.load(arguments.bundle, variant=variant, num_threads=1) as predictor:
        predictor.run({INPUT: images[:_BATCH]})
        began = time.perf_counter()
        for start in range(0, len(images), _BATCH):
            predictor.run({INPUT: images[start : start + _BATCH]})
        inference = (time.perf_counter() - began) / len(images) * 1e3
    return decode, inference


def _independent(arguments: argparse.Namespace, folder: Path) -> float:
    """Return pictures a second of processes that know nothing of each other, one a thread."""
    context = multiprocessing.get_context("spawn")
    files = sorted(folder.iterdir())[: _TIMED * 8]
    barrier, seconds = context.Barrier(arguments.threads), context.Queue()
    options = (arguments.bundle, arguments.variant, files, barrier, seconds)
    processes = [context.Process(target=_alone, args=options) for _ in range(arguments.threads)]
    for process in processes:
        process.start()
    taken = [seconds.get(timeout=600) for _ in processes]
    for process in processes:
        process.join()
    return sum(len(files) / one for one in taken)


def _alone(
    bundle: Path, variant: str | None, files: list[Path], barrier: Any, seconds: Any
) -> None:
    """Prepare and answer files on one thread, once the others are ready as well."""
    contract = ImagePreprocessing.from_json(edgeml.Bundle.read(bundle).manifest.preprocessing)
    with edgeml.load(bundle, variant=variant, num_threads=1) as predictor:
        predictor.run({INPUT: np.stack([contract.prepare(file) for file in files[:_BATCH]])})
        barrier.wait()
        began = time.perf_counter()
        for start in range(0, len(files), _BATCH):
            images = [contract.prepare(file) for file in files[start : start + _BATCH]]
            predictor.run({INPUT: np.stack(images)})
        seconds.put(time.perf_counter() - began)


def _pictures(root: Path, arguments: argparse.Namespace) -> Path:
    """Write JPEG files: some distinct ones, and links to them."""
    root.mkdir()
    rng = np.random.default_rng(0)
    size = (arguments.width, arguments.height)
    for number in range(arguments.pictures):
        place = root / f"{number:06}.jpg"
        if number < _DISTINCT:
            small = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
            scene = np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))
            grain = rng.normal(0, 6, scene.shape)
            Image.fromarray((scene + grain).clip(0, 255).astype(np.uint8)).save(place, quality=88)
        else:
            place.hardlink_to(root / f"{number % _DISTINCT:06}.jpg")
    return root


if __name__ == "__main__":
    raise SystemExit(main())
