"""The run itself: blocks in turns, whole lists in turns, our answers beside our model alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from benchmarks.peers.catalogue import PEERS
from benchmarks.peers.process import PeerError
from benchmarks.peers.schedule import Orders, blocks
from benchmarks.peers.settings import Protocol as Plan

_WARMUP_TEXTS = 64
_T = TypeVar("_T")
Say = Callable[[str], None]


class Worker(Protocol):
    """What is needed of a worker here; tests have one without a process."""

    def ask(self, op: str, *, timeout_s: float, **request: Any) -> dict[str, Any]:
        """Send a request and return its answer."""
        ...

    def close(self) -> None:
        """End it."""
        ...


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One peer's answers to one block.

    Attributes:
        indices: Which sentences.
        ns: Time of each.
        labels: Label of each.
        scores: Its probability.
        cpu_share: Processors used, on average.
    """

    indices: list[int]
    ns: list[int]
    labels: list[str]
    scores: list[float]
    cpu_share: float


@dataclass(kw_only=True)
class Collected:
    """What came back.

    Attributes:
        turns: Peer to its turns, one a round.
        failed: Peer to the reason why it has no figures.
        splits: Of ours: (whole answers, model alone), one pair of lists a block, nanoseconds.
        whole: Peer to the times of its passes over the whole list.
        about: Peer to versions, facts and memory.
    """

    turns: dict[str, list[Turn]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    splits: dict[str, list[tuple[list[int], list[int]]]] = field(default_factory=dict)
    whole: dict[str, list[int]] = field(default_factory=dict)
    about: dict[str, dict[str, Any]] = field(default_factory=dict)


class Field:
    """The workers that still run, and what they have answered.

    Args:
        workers: Peer to its opened worker.
        failed: Peers that could not be opened, and why.
        plan: How much is measured.
        say: Told what goes on.
    """

    def __init__(
        self, workers: dict[str, Worker], failed: dict[str, str], plan: Plan, say: Say
    ) -> None:
        self._workers = workers
        self._plan = plan
        self._say = say
        self._orders = Orders(plan.seed)
        self.collected = Collected(failed=failed)

    def time_blocks(self, texts: Sequence[str]) -> None:
        """Warm up, then let all answer the same block in each round."""
        plan = self._plan
        warm = blocks(len(texts), size=plan.block, count=plan.warmup, seed=plan.seed + 1)
        for block in warm:
            for name in list(self._workers):
                self._attempt(name, lambda worker, block=block: self._turn(worker, block, texts))
        timed = blocks(len(texts), size=plan.block, count=plan.rounds, seed=plan.seed)
        for number, block in enumerate(timed, start=1):
            if number % 10 == 1:
                self._say(f"round {number} of {plan.rounds}")
            for name in self._orders.draw(list(self._workers)):
                turn = self._attempt(
                    name, lambda worker, block=block: self._turn(worker, block, texts)
                )
                if turn is not None:
                    self.collected.turns.setdefault(name, []).append(turn)

    def time_splits(self, texts: Sequence[str]) -> None:
        """Time our whole answers and our model alone."""
        plan = self._plan
        for block in blocks(len(texts), size=plan.block, count=plan.split_blocks, seed=plan.seed):
            for name in self._orders.draw([row for row in self._workers if PEERS[row].splits]):
                pair = self._attempt(
                    name, lambda worker, block=block: self._split(worker, block, texts)
                )
                if pair is not None:
                    self.collected.splits.setdefault(name, []).append(pair)

    def time_whole(self, texts: Sequence[str]) -> None:
        """Let those who do whole lists pass over one, several times in turns."""
        plan = self._plan
        if not texts or not plan.repeats:
            return
        names = [name for name in self._workers if PEERS[name].offline]
        for name in names:
            self._attempt(name, lambda worker: self._whole(worker, texts[:_WARMUP_TEXTS]))
        for number in range(plan.repeats):
            self._say(f"pass {number + 1} of {plan.repeats} over {len(texts)} texts")
            for name in self._orders.draw([name for name in names if name in self._workers]):
                elapsed = self._attempt(name, lambda worker: self._whole(worker, texts))
                if elapsed is not None:
                    self.collected.whole.setdefault(name, []).append(elapsed)

    def ask_about(self) -> None:
        """Ask each for versions and memory."""
        timeout_s = self._plan.block_timeout_s
        for name in list(self._workers):
            reply = self._attempt(name, lambda worker: worker.ask("about", timeout_s=timeout_s))
            if reply is not None:
                self.collected.about[name] = reply

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers.values():
            worker.close()

    def _attempt(self, name: str, work: Callable[[Worker], _T]) -> _T | None:
        """Let a worker do something; one that fails is out, and the others go on."""
        worker = self._workers.get(name)
        if worker is None:
            return None
        try:
            return work(worker)
        except PeerError as exc:
            self._say(f"{name}: {exc}")
            self.collected.failed[name] = str(exc)
            self._workers.pop(name).close()
            return None

    def _turn(self, worker: Worker, block: list[int], texts: Sequence[str]) -> Turn:
        chosen = [texts[index] for index in block]
        reply = worker.ask("block", timeout_s=self._plan.block_timeout_s, texts=chosen)
        if any(len(reply[key]) != len(block) for key in ("ns", "labels", "scores")):
            raise PeerError(f"a block of {len(block)} sentences was answered with another number")
        return Turn(
            indices=block,
            ns=reply["ns"],
            labels=reply["labels"],
            scores=reply["scores"],
            cpu_share=reply["cpu_ns"] / max(reply["wall_ns"], 1),
        )

    def _split(
        self, worker: Worker, block: list[int], texts: Sequence[str]
    ) -> tuple[list[int], list[int]]:
        chosen = [texts[index] for index in block]
        # Each sentence is answered, prepared and run: three times a block's work at most.
        timeout_s = 3 * self._plan.block_timeout_s
        reply = worker.ask("split", timeout_s=timeout_s, texts=chosen)
        return reply["answer_ns"], reply["model_ns"]

    def _whole(self, worker: Worker, texts: Sequence[str]) -> int:
        reply = worker.ask("whole", timeout_s=self._plan.long_timeout_s, texts=list(texts))
        if len(reply["labels"]) != len(texts):
            raise PeerError(f"{len(texts)} texts were answered with {len(reply['labels'])} labels")
        return int(reply["ns"])
