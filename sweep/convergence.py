"""Which measurements rest on eigenspaces, and how many of those had not converged: for captions and verdicts.

A run's own refreshes are counted in `eigenspace/unconverged`. This is about probes and switches, which
follow eigenspaces of their own, and record with each measurement whether these had converged.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial, reduce

import numpy as np

from sweep.record import NO_SERIES, Series
from trainers.history import CURVATURE_CONVERGED, PROBES_CONVERGED, SWITCH_CONVERGED

UNCONVERGED_LIMIT = 0.05
"""More than this share of a run's eigenspaces leaves a claim untested, and a caption warns of it."""

SAID_BY = {
    "curvature/": CURVATURE_CONVERGED,
    "switch/": SWITCH_CONVERGED,
    "overlap/top_vector": PROBES_CONVERGED,
    "layers/": PROBES_CONVERGED,
    "alignment/": PROBES_CONVERGED,
    "spread/": PROBES_CONVERGED,
    "effective/": PROBES_CONVERGED,
    "subspace/": PROBES_CONVERGED,
    "eigenvector/": PROBES_CONVERGED,
    "energy/": PROBES_CONVERGED,
    "own/": PROBES_CONVERGED,
}
"""Beginnings of the names of what is measured with an eigenspace, and the series that says whether that had
converged. Functions of the user's own (`own/`) may look at one; none of the others looks at none."""

Parts = Sequence[str]
"""The series of which a value is made, at the steps that all of them have: one, or those of a quotient."""

Within = Callable[[np.ndarray], np.ndarray]
"""From steps to whether each counts."""


def everywhere(steps: np.ndarray) -> np.ndarray:
    """Count every step."""
    return np.ones(len(steps), dtype=bool)


def convergence_series(measured: Iterable[str]) -> tuple[str, ...]:
    """Return what to read beside these series to know what had not converged.

    Where a phase ended on a condition, all that a run measured rests on the eigenspaces of that condition.
    """
    return tuple(dict.fromkeys((SWITCH_CONVERGED, *_said_by(measured))))


def rest_on_eigenspaces(measured: Iterable[Parts]) -> bool:
    """Whether any of these values does, but for what ended a phase."""
    return any(map(_said_by, measured))


def _said_by(measured: Iterable[str]) -> list[str]:
    return [said for name in measured for begin, said in SAID_BY.items() if name.startswith(begin)]


def unconverged_share(
    history: Mapping[str, Series], measured: Iterable[Parts], within: Within = everywhere
) -> float | None:
    """Return the share of a run's measurements that had not converged; `None` where there was none.

    Of each value those count at whose steps it was measured: what other probes looked at in between says
    nothing about it. The largest share counts, that of a condition of the whole run among them.

    Args:
        history: Series by name.
        measured: What is shown or judged.
        within: Which of its steps count.
    """
    shares = [_share(history, SWITCH_CONVERGED, everywhere)]
    looked_at: dict[tuple[str, bytes], np.ndarray] = {}
    for parts in measured:
        if said_by := _said_by(parts):
            found = [history.get(name, NO_SERIES).steps for name in parts]
            steps = reduce(partial(np.intersect1d, assume_unique=True), found)
            steps = steps[within(steps)]
            # All that a probe records has the same steps.
            looked_at |= {(said, steps.tobytes()): steps for said in said_by}
    shares += [_share(history, said, partial(np.isin, test_elements=s)) for (said, _), s in looked_at.items()]
    return max((share for share in shares if share is not None), default=None)


def _share(history: Mapping[str, Series], said_by: str, within: Within) -> float | None:
    converged = history.get(said_by, NO_SERIES)
    counted = converged.values[within(converged.steps)]
    # Not 1 less a mean, which rounding takes above 5 % for one in twenty.
    return float(np.mean(counted != 1.0)) if counted.size else None


def unconverged_shares(
    histories: Iterable[Mapping[str, Series]], measured: Iterable[Parts], within: Within = everywhere
) -> tuple[float, ...]:
    """Return the shares of the runs that a figure of these values shows, of what it shows of them."""
    measured = tuple(measured)
    shares = (unconverged_share(history, measured, within) for history in histories)
    return tuple(share for share in shares if share is not None)
