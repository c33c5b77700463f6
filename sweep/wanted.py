"""What the recorder is asked for: of one cell that it begins, that a commit is durable, how it stops."""

import time
from dataclasses import dataclass, field

from sweep.names import Status

SECONDS_BEFORE_START = 1.0
"""A cell that ends sooner than that after its start is recorded at once, which takes MLflow half the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a cell stops without an outcome of its own."""

    status: Status
    reason: str
    log: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be recorded of one cell; a later request includes the earlier ones.

    Args:
        begins: A worker has begun, which overtakes an earlier end.
        since: When this was first wanted, on the monotonic clock.
        commit: (step, attempt) of the newest commit that was passed on.
        end: Set when the cell stops here.
    """

    begins: bool = False
    since: float = field(default_factory=time.monotonic)
    commit: tuple[int, int] | None = None
    end: End | None = None

    def is_due(self, now: float) -> bool:
        """Whether there is more to record than a start, or the start has waited long enough."""
        return self.commit is not None or self.end is not None or now - self.since >= SECONDS_BEFORE_START

    def then(self, later: "Wanted") -> "Wanted":
        """Join two requests."""
        return Wanted(
            begins=self.begins or later.begins,
            since=self.since,
            commit=later.commit or self.commit,
            end=later.end if later.end is not None or later.begins else self.end,
        )
