"""What the linter says, and the shape of a rule: a row of data that names a function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

Level = Literal["error", "warning", "note"]

Subject = TypeVar("Subject")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong, doubtful or worth knowing in a repository.

    Attributes:
        file: The file that it is about, relative to the repository.
        line: Its line there, from 1; None where it has no place in the text.
        rule: Name of the rule.
        level: ``error``: it does not load, or answers wrongly. ``warning``: it is slower or more
            fragile than it looks. ``note``: worth knowing.
        message: What was found, what was expected, what to do.
    """

    file: str
    line: int | None
    rule: str
    level: Level
    message: str

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON values."""
        return {
            "file": self.file,
            "line": self.line,
            "rule": self.rule,
            "level": self.level,
            "message": self.message,
        }


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What a rule's function found, before the rule gives it a name and a level.

    Attributes:
        message: What was found, what was expected, what to do.
        line: Line in the file, from 1, or None.
        file: Another file than the one that was looked at, relative to the repository.
    """

    message: str
    line: int | None = None
    file: str | None = None


@dataclass(frozen=True, kw_only=True)
class Rule(Generic[Subject]):
    """One rule.

    Attributes:
        name: Its stable name, words joined by hyphens.
        level: How bad what it finds is.
        check: Yields what it finds in one configuration or one model.
        strict_level: Its level under ``--strict``, where that differs.
    """

    name: str
    level: Level
    check: Callable[[Subject], Iterator[Fault]]
    strict_level: Level | None = None

    def apply(self, subject: Subject, *, file: str, strict: bool) -> list[Finding]:
        """Return what the rule finds.

        Args:
            subject: What it looks at.
            file: File of the findings that name none.
            strict: Whether the level for ``--strict`` counts.
        """
        level = (self.strict_level or self.level) if strict else self.level
        return [
            Finding(
                file=fault.file or file,
                line=fault.line,
                rule=self.name,
                level=level,
                message=" ".join(fault.message.split()),
            )
            for fault in self.check(subject)
        ]
