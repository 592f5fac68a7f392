"""What a run compares, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peers.catalogue import PEERS


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How much is measured.

    Attributes:
        rounds: Rounds in which each peer answers one block.
        block: Sentences of a block.
        warmup: Blocks of each peer before the first round, not counted.
        split_blocks: Blocks on which our answers and our model alone are timed.
        repeats: Passes over the whole list for each peer.
        seed: Seed of blocks, orders, calibration sentences and bootstrap.
        block_timeout_s: Limit of one block.
        long_timeout_s: Limit of preparing, opening and of one pass over the whole list.
    """

    rounds: int = 60
    block: int = 50
    warmup: int = 2
    split_blocks: int = 20
    repeats: int = 3
    seed: int = 0
    block_timeout_s: float = 60.0
    long_timeout_s: float = 1200.0

    def __post_init__(self) -> None:
        for name in ("rounds", "block"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1, got {getattr(self, name)}")
        for name in ("warmup", "split_blocks", "repeats", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is at least 0, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Files:
    """What a run reads and where it keeps things.

    Attributes:
        checkpoint: The fine-tuned model, a Hugging Face folder.
        bundle: Our bundle of it.
        texts: Labelled sentences, for times and accuracy.
        calibration: Training sentences, for peers that calibrate.
        offline: Files whose texts together are the whole list; none leaves that table out.
        artefacts: Where prepared models are kept.
        cache: Where environments are kept.
    """

    checkpoint: Path
    bundle: Path
    texts: Path
    calibration: Path
    offline: tuple[Path, ...]
    artefacts: Path
    cache: Path


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A run.

    Attributes:
        files: What it reads.
        peers: Names of the peers.
        protocol: How much is measured.
    """

    files: Files
    peers: tuple[str, ...] = tuple(PEERS)
    protocol: Protocol = field(default_factory=Protocol)

    def __post_init__(self) -> None:
        unknown = [name for name in self.peers if name not in PEERS]
        if unknown or not self.peers:
            raise ValueError(f"peers are of {', '.join(PEERS)}; got {', '.join(unknown) or 'none'}")
