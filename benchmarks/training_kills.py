"""Kill a training of pictures at random moments, resume it, and compare the weights bit for bit.

    python -m benchmarks.training_kills --kills 20

Each round starts ``edgeml finetune --resume`` in a process of its own, kills it with SIGKILL at any
moment from its start to its end, and runs the same command again until it is done, as whatever
restarts a killed job does: a kill before the first state was written begins anew, one at the very
end keeps what is finished. The precision is given: with ``auto`` it is a measurement's choice.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

_COLOURS = {"blue": (40, 60, 220), "green": (40, 200, 60), "red": (220, 50, 40)}
_SIDE = 32
_TIMEOUT_S = 600.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the rounds; 0 where every one ended with the weights of the whole training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="trainings to kill")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    parser.add_argument("--threads", type=int, default=1, help="of each training")
    arguments = parser.parse_args(argv)
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="edgeml-kills-") as root:
        data = _pictures(Path(root) / "data")
        began = time.perf_counter()
        whole = Path(root) / "whole"
        _finetune(data, whole, threads=arguments.threads).wait(_TIMEOUT_S)
        seconds, wanted = time.perf_counter() - began, _hash(whole)
        rows = []
        for number in range(arguments.kills):
            out = Path(root) / f"killed-{number}"
            after = rng.uniform(0, 1) * seconds
            killed = _round(data, out, after, threads=arguments.threads)
            row = {"killed_after_s": round(after, 2), "killed": killed}
            rows.append({**row, "resumed": _resumed(out), "same": _hash(out) == wanted})
            print(json.dumps(rows[-1]), flush=True)  # noqa: T201
    same = sum(bool(row["same"]) for row in rows)
    summary = {
        "kills": sum(bool(row["killed"]) for row in rows),
        "resumed": sum(bool(row["resumed"]) for row in rows),
        "same_weights": same,
        "rounds": len(rows),
        "whole_seconds": round(seconds, 2),
    }
    print(json.dumps(summary))  # noqa: T201
    return 0 if same == len(rows) else 1


def _round(data: Path, out: Path, after_s: float, *, threads: int) -> bool:
    """Kill one training and run its command again; say whether the kill struck."""
    process = _finetune(data, out, threads=threads)
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.returncode != -signal.SIGKILL:
        return False
    if _finetune(data, out, threads=threads).wait(_TIMEOUT_S):
        raise SystemExit(f"'{out}' cannot be gone on with; its last words are above")
    return True


def _finetune(data: Path, out: Path, *, threads: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "edgeml", "finetune", "--data", str(data), "--out", str(out)]
    command += ["--image-size", str(_SIDE), "--epochs", "12", "--seed", "3", "--precision", "fp32"]
    command += ["--threads", str(threads), "--frozen-epochs", "2", "--json", "--resume"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def _resumed(checkpoint: Path) -> bool:
    value = json.loads((checkpoint / "checkpoint.json").read_bytes())
    return bool(value["training"]["history"]["resumed"])


def _hash(checkpoint: Path) -> str:
    return hashlib.sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest()


def _pictures(root: Path) -> Path:
    """Write noisy pictures of one colour each, a folder a class."""
    rng = np.random.default_rng(0)
    for name, colour in _COLOURS.items():
        (root / name).mkdir(parents=True)
        for number in range(40):
            noisy = rng.normal(colour, 90, (_SIDE, _SIDE, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(root / name / f"{number:02}.png")
    return root


if __name__ == "__main__":
    raise SystemExit(main())
