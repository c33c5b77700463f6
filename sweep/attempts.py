"""How a cell came to its end, from its manifests: where each attempt ran, and what state it began with."""

from typing import Any

from sweep.storage import Manifest, Storage


def environments(storage: Storage, final: Manifest) -> dict[str, Any]:
    """Return where each attempt ran, as far as its commits are still there."""
    attempts = {
        manifest.attempt: manifest.summary.get("environment", {})
        for manifest in (*storage.manifests(final.cell_id), final)
    }
    return {"attempts": [{"attempt": number, **attempts[number]} for number in sorted(attempts)]}


def fork_text(manifest: Manifest) -> str:
    """Name the state that a cell began with, line and step; empty for a start from scratch."""
    fork = manifest.summary.get("forked_from")
    return f"{fork['line']}@{fork['step']}" if fork else ""
