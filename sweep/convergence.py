"""Which measurements rest on eigenspaces, and how many of those had not converged: for captions and verdicts.

A run's own refreshes are counted in `eigenspace/unconverged`. This is about probes and switches, which
follow eigenspaces of their own, and record with each measurement whether these had converged.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from sweep.record import Series
from trainers.history import CURVATURE_CONVERGED, PROBES_CONVERGED, SWITCH_CONVERGED

UNCONVERGED_LIMIT = 0.05
"""More than this share of a run's eigenspaces leaves a claim untested, and a caption warns of it."""

OF_PROBES = (
    "curvature/",
    "overlap/top_vector",
    "layers/",
    "alignment/",
    "spread/",
    "effective/",
    "subspace/",
    "eigenvector/",
    "energy/",
)
"""Beginnings of the names of what probes measure with an eigenspace."""

OF_SWITCHES = "switch/"

Within = Callable[[np.ndarray], np.ndarray]
"""From steps to whether each counts."""


def everywhere(steps: np.ndarray) -> np.ndarray:
    """Count every step."""
    return np.ones(len(steps), dtype=bool)


def convergence_series(measured: Iterable[str]) -> tuple[str, ...]:
    """Return the series that say whether the eigenspaces behind these series, or metrics, had converged."""
    measured = tuple(measured)
    probes = any(name.startswith(OF_PROBES) for name in measured)
    switches = any(name.startswith(OF_SWITCHES) for name in measured)
    return (
        *((CURVATURE_CONVERGED, PROBES_CONVERGED) if probes else ()),
        *((SWITCH_CONVERGED,) if switches else ()),
    )


def unconverged_share(
    history: Mapping[str, Series], said_by: Iterable[str], within: Within = everywhere
) -> float | None:
    """Return the share of a run's measurements that had not converged; `None` where there was none.

    Args:
        history: Series by name.
        said_by: The series that say so, see `convergence_series`; the largest of their shares counts.
        within: Which steps count.
    """
    shares = [
        1 - float(found.values[counted].mean())
        for name in said_by
        if (found := history.get(name)) is not None and (counted := within(found.steps)).any()
    ]
    return max(shares, default=None)


def unconverged_shares(
    histories: Iterable[Mapping[str, Series]], measured: Iterable[str], within: Within = everywhere
) -> tuple[float, ...]:
    """Return the shares of the runs that a figure of these series shows, of what it shows of them."""
    said_by = convergence_series(measured)
    shares = (unconverged_share(history, said_by, within) for history in histories)
    return tuple(share for share in shares if share is not None)
