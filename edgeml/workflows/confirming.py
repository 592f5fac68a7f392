"""The reporting split may take a choice back; it never makes one.

The fastest of many candidates is partly lucky in its answers, too: of a dozen that lose a little,
the one that the selection split flatters is chosen. So what is chosen must keep the gate on the
selection and the reporting samples taken together. What does not is rejected with that reason, and
the choice is made again among what was timed to the end.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from edgeml.core.gate import Gate
from edgeml.core.paired import Agreement, PairedAccuracy
from edgeml.workflows.candidates import Candidate


def find_contradiction(row: Candidate, gate: Gate) -> str | None:
    """Return why a candidate fails the gate on both splits together, or None.

    Args:
        row: Judged on the selection split, with what the reporting split said in its evidence.
        gate: The limits; proof is asked for on the selection split alone.
    """
    limits = replace(gate, require_proof=False)
    evidence = row.evidence
    if "reported" in evidence:
        both = _paired(evidence["accuracy"]).joined(_paired(evidence["reported"]))
        passed, why = limits.judge_accuracy(both)
    elif "reported_agreement" in evidence:
        ours = Agreement(**evidence["agreement"])
        passed, why = limits.judge_agreement(
            ours.joined(Agreement(**evidence["reported_agreement"]))
        )
    else:
        return None
    return None if passed else f"on the selection and reporting samples together: {why}"


def is_fully_timed(row: Candidate) -> bool:
    """Return whether a candidate's speed is more than a trial's short timing."""
    return bool(row.evidence.get("latency", {}).get("timing") != "screening")


def _paired(value: dict[str, Any]) -> PairedAccuracy:
    return PairedAccuracy(**{row.name: value[row.name] for row in fields(PairedAccuracy)})
