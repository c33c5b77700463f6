"""What the commands of a sweep have taken (`sweep.spending`), as a tag of its own run."""

import json
from collections.abc import Mapping
from typing import Any, cast

from sweep import names
from sweep.ledger.connection import translated
from sweep.ledger.runs import TaggedRuns
from sweep.ledger.sweeps import Sweep


class SpentTags(TaggedRuns):
    """Numbers of seconds by name, written and read."""

    def spent(self, sweep: Sweep) -> dict[str, float]:
        """Return what was kept; nothing where nothing was, or where it cannot be read."""
        with translated(f"reading what sweep {sweep.name!r} has taken"):
            text = self.client.get_run(sweep.run_id).data.tags.get(names.TAG_SPENT, "")
        try:
            found = json.loads(text)
        except ValueError:
            return {}
        if not isinstance(found, dict):
            return {}
        kept = cast("dict[str, Any]", found)
        return {name: float(value) for name, value in kept.items() if isinstance(value, (int, float))}

    def write_spent(self, sweep: Sweep, spent: Mapping[str, float]) -> None:
        """Keep it; the caller holds the sweep's lease."""
        self._set_tags(sweep.run_id, {names.TAG_SPENT: json.dumps(spent)})
