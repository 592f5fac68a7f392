"""Before the clock: environments, artefacts of the checkpoint, workers started and opened."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from benchmarks.peers.catalogue import Artefact, Peer, artefacts_for
from benchmarks.peers.environments import python_of, requirements
from benchmarks.peers.process import PeerError, WorkerProcess
from benchmarks.peers.settings import Settings
from benchmarks.peers.texts import read_labelled
from edgeml.core.files import sha256_of

CALIBRATION_TEXTS = 300
# What the answers depend on; the weights alone would keep a model whose labels have changed.
_CHECKPOINT_FILES = ("model.safetensors", "config.json", "tokenizer.json")

Say = Callable[[str], None]
Start = Callable[[Peer], WorkerProcess]


def open_worker(peer: Peer, settings: Settings, say: Say) -> WorkerProcess:
    """Start a peer's worker with everything that it needs.

    Raises:
        PeerError: Its environment, an artefact or the peer itself cannot be made.
    """
    files = settings.files
    if peer.ours and not (files.bundle / "manifest.json").is_file():
        raise PeerError(
            f"there is no bundle {files.bundle.name!r}; 'edgeml export' of the checkpoint makes it"
        )
    model = _prepare_all(peer, settings, say)
    say(f"{peer.name}: opening")
    worker = _start(peer.environment, f"{peer.name}", settings)
    try:
        worker.ask(
            "open",
            timeout_s=settings.protocol.long_timeout_s,
            engine=peer.engine,
            checkpoint=str(files.checkpoint.resolve()),
            bundle=str(files.bundle.resolve()),
            model=str(model) if model else None,
            variant=peer.variant,
        )
    except PeerError:
        worker.close()
        raise
    return worker


def checkpoint_digest(checkpoint: Path) -> str:
    """Return the hash of what the peers make of a checkpoint."""
    digest = hashlib.sha256()
    for name in _CHECKPOINT_FILES:
        digest.update(sha256_of(checkpoint / name).encode())
    return digest.hexdigest()


def calibration_texts(path: Path, *, seed: int) -> list[str]:
    """Draw the sentences that static quantization sees."""
    texts = read_labelled(path).texts
    return random.Random(seed).sample(texts, min(CALIBRATION_TEXTS, len(texts)))


def _prepare_all(peer: Peer, settings: Settings, say: Say) -> Path | None:
    """Make what a peer runs, sources first, and return the last of them."""
    made: Path | None = None
    key = checkpoint_digest(settings.files.checkpoint)
    for artefact in artefacts_for(peer):
        texts = []
        if artefact.calibrated:
            seed = settings.protocol.seed
            texts = calibration_texts(settings.files.calibration, seed=seed)
        key = _key(artefact, key, texts)
        out = settings.files.artefacts.resolve() / f"{artefact.name}-{key[:12]}"
        if not out.is_dir():
            say(f"{peer.name}: preparing {artefact.name}")
            _prepare(artefact, made, texts, out, settings)
        made = out
    return made


def _key(artefact: Artefact, source: str, texts: list[str]) -> str:
    """Hash the source, the sentences, and the versions and the code that make an artefact."""
    code = Path(__file__).parent / "engines" / f"{artefact.engine}.py"
    parts = [source, sha256_of(requirements(artefact.environment)), sha256_of(code), *texts]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _prepare(
    artefact: Artefact, source: Path | None, texts: list[str], out: Path, settings: Settings
) -> None:
    """Make an artefact in a process that ends with it, so that no peer carries its memory."""
    part = out.with_name(f"{out.name}.part{os.getpid()}")
    part.mkdir(parents=True)
    worker = _start(artefact.environment, f"prepare-{artefact.name}", settings)
    try:
        worker.ask(
            "prepare",
            timeout_s=settings.protocol.long_timeout_s,
            engine=artefact.engine,
            artefact=artefact.name,
            checkpoint=str(settings.files.checkpoint.resolve()),
            model=str(source) if source else None,
            texts=texts,
            out=str(part),
        )
        part.rename(out)
    finally:
        worker.close()
        shutil.rmtree(part, ignore_errors=True)


def _start(environment: str | None, name: str, settings: Settings) -> WorkerProcess:
    python = python_of(environment, cache=settings.files.cache)
    logs = settings.files.artefacts / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    command = [str(python), "-m", "benchmarks.peers.worker"]
    return WorkerProcess(command, log=logs / f"{name}.log")
