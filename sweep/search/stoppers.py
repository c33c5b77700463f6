"""Stopping rules: whether a cell that has come to a rung goes on. Pure: values in, decisions out.

A rung is a step at which cells are compared, by the last value of a metric recorded up to it. Whether
a cell goes on depends on who came to the rung before, so decisions are kept in the journal and never computed
again.

Only cells of one seed are compared, of one loss and one data set: the seeds of a configuration are not its
rivals, and a loss of another kind says nothing. In a search, where one seed of a configuration is stopped its
others are too, for the configuration is told as stopped whatever they come to.
"""

import math
import statistics
from collections.abc import Callable, Hashable, Sequence

from search_spaces.search import StopperSpec
from sweep.search.events import Decided

ALONG = 0
"""The step of a decision that was not taken at a rung, which all lie above it."""


class Stopper:
    """A rule with what it has seen; cells that diverge or fail are simply never seen again.

    Args:
        spec: The rule.
        grace: The first rung where the rule names none.
        group_of: What a cell shares with those that it is compared with; default: all are compared.
    """

    def __init__(
        self,
        spec: StopperSpec,
        grace: int,
        group_of: Callable[[str], Hashable] = lambda cell_id: None,
    ) -> None:
        self._spec = spec
        self._group_of = group_of
        self._grace = spec.grace or grace
        self._values: dict[int, dict[str, float]] = {}
        self._released: set[str] = set()

    @property
    def metric(self) -> str:
        """The series of the history that cells are compared by."""
        return self._spec.metric

    def rungs(self, num_steps: int) -> list[int]:
        """Return the rungs of a cell with so many steps, its end not among them."""
        if self._spec.kind == "median":
            every = self._spec.every or self._grace
            return list(range(self._grace, num_steps, every))
        found: list[int] = []
        rung = float(self._grace)
        while round(rung) < num_steps:
            found.append(round(rung))
            rung *= self._spec.factor
        return list(dict.fromkeys(found))

    def decide(self, cell_id: str, rung: int, value: float, *, goes_on: bool = True) -> Decided:
        """Return whether a cell goes on; does not take note of it, see `learn`.

        Args:
            cell_id: The cell.
            rung: Where it has come.
            value: The metric there; not finite counts as the worst.
            goes_on: Whether it can still be stopped; one that has ended only counts for the others.
        """
        reason = ""
        if goes_on and cell_id not in self._released:
            rule = self._halving if self._spec.kind == "asha" else self._median
            reason = rule(cell_id, rung, self._signed(value))
        return Decided(
            cell_id=cell_id,
            step=rung,
            value=value if math.isfinite(value) else self._worst,
            stops=bool(reason),
            reason=reason,
        )

    def learn(self, decided: Decided) -> None:
        """Take note of a decision, taken now or replayed."""
        if decided.step != ALONG:
            self._values.setdefault(decided.step, {})[decided.cell_id] = decided.value

    def along_with(self, decided: Decided, cell_id: str) -> Decided | None:
        """Return the decision to stop a cell because another seed of its configuration is stopped.

        Args:
            decided: The other's.
            cell_id: The cell.

        Returns:
            `None` for a cell that is never to be stopped again.
        """
        if cell_id in self._released:
            return None
        reason = f"with another seed of its configuration, {decided.cell_id}: {decided.reason}"
        return Decided(cell_id=cell_id, step=ALONG, value=decided.value, stops=True, reason=reason)

    def release(self, cell_id: str) -> None:
        """Never stop this cell again."""
        self._released.add(cell_id)

    def _others(self, cell_id: str, rung: int) -> list[str]:
        """Return the cells that have come to a rung and that a cell is compared with."""
        group = self._group_of(cell_id)
        here = self._values.get(rung, {})
        return [cell for cell in here if cell != cell_id and self._group_of(cell) == group]

    def _halving(self, cell_id: str, rung: int, value: float) -> str:
        """Asynchronous successive halving: the best 1/factor of those that came this far go on.

        Li et al., A System for Massively Parallel Hyperparameter Tuning, algorithm 2, in the stopping form
        that Ray Tune has (`AsyncHyperBandScheduler`): the first at a rung goes on.
        """
        others = [self._signed(self._values[rung][cell]) for cell in self._others(cell_id, rung)]
        if not others:
            return ""
        better = sum(other < value for other in others)
        places = max(1, math.floor((len(others) + 1) / self._spec.factor))
        if better < places:
            return ""
        return f"asha: {better + 1} of {len(others) + 1} at step {rung}; {places} of them go on"

    def _median(self, cell_id: str, rung: int, value: float) -> str:
        """The median rule: best value so far against the median of the others' means up to here.

        Golovin et al., Google Vizier, section 3.2.1.
        """
        here = self._others(cell_id, rung)
        if len(here) < self._spec.least:
            return ""
        best = min([value, *self._so_far(cell_id, rung)])
        median = statistics.median(statistics.fmean(self._so_far(cell, rung)) for cell in here)
        if best <= median:
            return ""
        sign = -1.0 if self._spec.larger_is_better else 1.0
        return f"median: best {sign * best:.4g}, median {sign * median:.4g} of {len(here)} at step {rung}"

    def _so_far(self, cell_id: str, rung: int) -> list[float]:
        return [
            self._signed(values[cell_id])
            for step, values in sorted(self._values.items())
            if step <= rung and cell_id in values
        ]

    def _signed(self, value: float) -> float:
        """Turn the metric so that smaller is better."""
        if not math.isfinite(value):
            return abs(self._worst)
        return -value if self._spec.larger_is_better else value

    @property
    def _worst(self) -> float:
        """Stands for a value that is not finite."""
        return -1e300 if self._spec.larger_is_better else 1e300


def value_at(rung: int, steps: Sequence[int], values: Sequence[float | None]) -> float | None:
    """Return the last value recorded up to a rung, `None` where there is none.

    Args:
        rung: The step.
        steps: Steps of the history, increasing.
        values: The metric there; `None` or NaN where it was not evaluated.
    """
    found = [
        value
        for step, value in zip(steps, values, strict=True)
        if step <= rung and value is not None and not math.isnan(value)
    ]
    return found[-1] if found else None
