"""When parts of a history become one: each commit adds a part, and a run of days has ten thousand commits.

A commit joins the longest run of the newest parts, its own among them, in which none is longer than a
`SHARE`-th of the run. So what is written again comes into a part at least `SHARE` times as long as the one it
was in: of a history of n steps that happens to none more than log(n) times, to the base `SHARE`, and
O(n log n) steps are written in all. Of commits of one length there are fewer than `SHARE` parts of each
length, O(log n) in all.
"""

from collections.abc import Sequence

from sweep.storage.manifest import Part

SHARE = 16
"""The number of parts of one length that become one."""


def num_to_join(parts: Sequence[Part], step: int) -> int:
    """Return how many of the last parts a commit writes again, in one with its own; 0 for none.

    Args:
        parts: Those of the commit before, at least one.
        step: Of the new commit, where its own part stops.
    """
    total = longest = step - parts[-1].stop
    joined = 0
    for number, part in enumerate(reversed(parts), start=1):
        length = part.stop - part.start
        total, longest = total + length, max(longest, length)
        if SHARE * longest <= total:
            joined = number
    return joined
