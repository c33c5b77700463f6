"""How a cell came to its end, from its manifests: where each attempt ran, and what state it began with."""

import json
from typing import Any

from sweep import names
from sweep.names import Status
from sweep.storage import Manifest, Storage


def attempts_of(manifest: Manifest) -> list[dict[str, Any]]:
    """Return the attempts that have trained a commit's state, the latest last: where and how long each ran.

    A manifest of before these were handed on knows of the attempt alone that wrote it.
    """
    wrote = {"attempt": manifest.attempt, **manifest.summary.get("environment", {})}
    return [*manifest.summary.get("earlier_attempts", ()), wrote]


def environments(storage: Storage, final: Manifest) -> dict[str, Any]:
    """Return where each attempt ran: those that the last commit goes back to, and others still found."""
    found = [*reversed([*storage.manifests(final.cell_id)]), final]
    attempts = {attempt["attempt"]: attempt for manifest in found for attempt in attempts_of(manifest)}
    return {"attempts": [attempts[number] for number in sorted(attempts)]}


def fork_text(manifest: Manifest) -> str:
    """Name the state that a cell began with, line and step; empty for a start from scratch."""
    fork = manifest.summary.get("forked_from")
    return f"{fork['line']}@{fork['step']}" if fork else ""


def environment_document(ran: dict[str, Any]) -> bytes:
    """Write what `environments` returns as a run shows it."""
    return json.dumps(ran, indent=1, sort_keys=True).encode()


def ending(manifest: Manifest) -> tuple[Status, str, dict[str, float]]:
    """Return how a cell ended, why, and its final metrics, from the commit that ended it."""
    assert manifest.outcome is not None, "a cell ends with a commit that says so"
    status = Status(manifest.outcome["status"])
    diverged = float(status is Status.DIVERGED)
    finals = {names.FINAL_STEPS: float(manifest.step), **manifest.summary.get("finals", {})}
    reason = str(manifest.outcome.get("reason") or "")
    return status, reason, finals | {names.STATUS_DIVERGED: diverged}
