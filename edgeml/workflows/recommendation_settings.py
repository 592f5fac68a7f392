"""How a recommender is trained and judged: one frozen value."""

from __future__ import annotations

from dataclasses import dataclass

from edgeml.errors import InputError


@dataclass(frozen=True, kw_only=True)
class RecommenderSettings:
    """Settings of ``finetune`` for the task ``recommendation``.

    Attributes:
        split: ``temporal`` or ``random`` in the place of the schema's; None keeps the schema's.
        seed: Of a random split, samples of users and the ranker.
        num_candidates: How many items retrieval hands to the ranker.
        learn_from: What the ranker learns from: logged ``impressions``, or retrieval's
            ``candidates`` and what was then wanted among them; ``auto`` tries both where the log
            has rows that are not positive, and serves the better one end to end on validation.
        epochs: Most passes of the ranker over its rows; early stopping usually ends before.
        batch_size: Rows a step for impressions, requests for candidates; None: the task's own.
        learning_rate: Of the ranker, at its peak; None: its own.
        hidden: Widths of the ranker's layers; None tries several and weighs what each gains on
            validation against its milliseconds.
        num_threads: Threads; None takes what this machine allows.
        chosen_on: Most validation users that retrieval and policy are chosen on.
        judged_on: Most test users that the report is about, and whose logged impressions are
            judged; None: all.
        contenders: Retrieval models that are trained besides, ``bpr`` and ``two_tower``; the best
            on validation is served.
        refit: Whether what is shipped knows the whole log; what is reported never does.
    """

    split: str | None = None
    seed: int = 0
    num_candidates: int = 500
    learn_from: str = "auto"
    epochs: int = 6
    batch_size: int | None = None
    learning_rate: float | None = None
    hidden: tuple[int, ...] | None = (64, 32)
    num_threads: int | None = None
    chosen_on: int = 6000
    judged_on: int | None = None
    contenders: tuple[str, ...] = ()
    refit: bool = True

    def __post_init__(self) -> None:
        if self.split not in (None, "temporal", "random"):
            raise InputError(f"split is {self.split!r}; 'temporal' or 'random' was expected")
        if self.learn_from not in ("auto", "impressions", "candidates"):
            raise InputError(
                f"learn_from is {self.learn_from!r}; auto, impressions or candidates was expected"
            )
        for name in ("num_candidates", "epochs", "chosen_on"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; at least 1 was expected")
        for name in ("batch_size", "num_threads", "judged_on"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; at least 1 was expected")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}; at least 0 was expected")
        if self.learning_rate is not None and not 0 < self.learning_rate < 1:
            raise InputError(
                f"learning_rate is {self.learning_rate}; a number between 0 and 1 was expected"
            )
        known = ("bpr", "two_tower")
        for name in self.contenders:
            if name not in known:
                raise InputError(f"there is no contender '{name}'; {', '.join(known)} are known")
