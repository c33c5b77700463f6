"""A search as its journal tells it: what was asked, what came of it, the best so far, which axes matter.

Plain values for status, figures and pages; whoever has the journal needs nothing else.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces.search import OBJECTIVES, SearchSpec
from sweep.search.events import Asked, Configuration, Corrected, Event, Result, Taken, Told, still_known

LEAST_TOLD = 20
"""With fewer complete results nothing is said about which axes matter."""

BEST_SHARE, LEAST_BEST = 0.1, 5
"""The best are a tenth, and at least so many, which PED-ANOVA needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One configuration of a search.

    Args:
        number: Of its question; `None` for one that other sweeps had run before.
        configuration: A value or label for each axis.
        result: What it came to: what the sampler was told, unless that was corrected since; `None` while its
            cells are not through.
        cells_before: Cells that the search had trained or begun when it was asked, its own not counted.
    """

    number: int | None
    configuration: Configuration
    result: Result | None
    cells_before: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether all its seeds went to their end without diverging, so that it may be the best."""
        return self.result is not None and self.result.state == "complete" and not self.result.diverged


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A search so far.

    Args:
        search: What is searched, and how far.
        trials: What was known beforehand, then what was asked, in order.
        cells: Cells that were trained or begun for it.
        steps: Their steps, less those that cells which ended early did not take.
        seconds: Spent up to the last question.
    """

    search: SearchSpec
    trials: tuple[Trial, ...]
    cells: int
    steps: int
    seconds: float

    @property
    def asked(self) -> tuple[Trial, ...]:
        """The configurations that the sampler was asked for."""
        return tuple(trial for trial in self.trials if trial.number is not None)

    def best_so_far(self, objective: int) -> list[float]:
        """Return the best value of an objective up to each of `trials`; NaN before the first."""
        better = min if OBJECTIVES[self.search.objectives[objective]] == "minimize" else max
        best, found = math.nan, list[float]()
        for trial in self.trials:
            if trial.is_whole and trial.result is not None:
                value = trial.result.objectives[objective]
                best = value if math.isnan(best) else better(best, value)
            found.append(best)
        return found

    def front(self) -> list[Trial]:
        """Return the Pareto front, see `pareto_front`; of one objective the best."""
        return pareto_front(self.search, self.trials)

    def budget(self) -> str:
        """Say how much of the budget is spent: "12 of 60 cells, 3,000 of 20,000 steps"."""
        spent = {"cells": self.cells, "steps": self.steps, "seconds": self.seconds}
        limits: dict[str, float | None] = {name: getattr(self.search, name) for name in spent}
        return ", ".join(
            f"{spent[name]:,.0f} of {limit:,.0f} {name}"
            for name, limit in limits.items()
            if limit is not None
        )


def account_of(search: SearchSpec, events: Sequence[Event]) -> Account:
    """Read a journal."""
    results = {event.number: event.result for event in events if isinstance(event, Told | Corrected)}
    trials = [
        Trial(number=None, configuration=known.configuration, result=known.result)
        for known in still_known(events)
    ]
    cells = steps = 0
    seconds = 0.0
    for event in events:
        match event:
            case Asked():
                result = results.get(event.number)
                trials.append(
                    Trial(
                        number=event.number,
                        configuration=event.configuration,
                        result=result,
                        cells_before=cells,
                    )
                )
                cells, steps = cells + event.new, steps + event.steps
                seconds = max(seconds, event.seconds)
            case Taken():
                cells, steps = cells + 1, steps + event.steps
            case Told():
                steps -= event.spared
            case _:
                pass
    return Account(search=search, trials=tuple(trials), cells=cells, steps=steps, seconds=seconds)


def pareto_front(search: SearchSpec, trials: Sequence[Trial]) -> list[Trial]:
    """Return what no other configuration is at least as good as in every objective, by the first of them.

    Configurations of which a seed diverged or was stopped are left out.
    """
    signs = [_worse(name) for name in search.objectives]

    def losses(trial: Trial) -> tuple[float, ...]:
        assert trial.result is not None, "only whole trials are compared"
        return tuple(sign * value for sign, value in zip(signs, trial.result.objectives, strict=True))

    front: list[Trial] = []
    for trial in sorted((trial for trial in trials if trial.is_whole), key=losses):
        mine = losses(trial)
        if not any(all(a <= b for a, b in zip(losses(other), mine, strict=True)) for other in front):
            front.append(trial)
    return front


def ranked_by(search: SearchSpec, objective: str) -> str:
    """Say what stands for an objective where that is not its mean over the seeds: "mean + 1 sd"."""
    if not search.risk or len(search.seeds) < 2:
        return ""
    return f"mean {'+' if _worse(objective) > 0 else '-'} {search.risk:g} sd"


def _worse(objective: str) -> float:
    return 1.0 if OBJECTIVES[objective] == "minimize" else -1.0


def describe(search: SearchSpec, trial: Trial) -> str:
    """Write a configuration and its result in a line: means and spreads, and what they are ranked by."""
    assert trial.result is not None, "only what has been told is described"
    values = ", ".join(
        f"{name} {value - _worse(name) * search.risk * spread:.4g}"
        + (f" ± {spread:.2g}" if len(search.seeds) > 1 else "")
        + (f" (ranked by {ranking})" if (ranking := ranked_by(search, name)) else "")
        for name, value, spread in zip(
            search.objectives, trial.result.objectives, trial.result.spreads, strict=True
        )
    )
    axes = ", ".join(f"{name}={trial.configuration[name]}" for name in search.axes)
    return f"{values} at {axes}"


def importances(account: Account) -> Mapping[str, Mapping[str, float]]:
    """Return how much each axis tells good from bad configurations: objective to axis to a share; sum 1.

    PED-ANOVA (Watanabe et al., IJCAI 2023) as Optuna has it: how far the distribution of an axis among the
    best is from that among all. Empty where too few results are there to say anything.
    """
    whole = [trial for trial in account.trials if trial.is_whole]
    if len(whole) < LEAST_TOLD or len(account.search.axes) < 2:
        return {}
    # Optuna takes a while to import, and only a search needs it.
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    from sweep.search.study import completed_trials

    names = account.search.objectives
    study = optuna.create_study(directions=[OBJECTIVES[name] for name in names])
    results = [(trial.configuration, trial.result) for trial in whole if trial.result is not None]
    study.add_trials(completed_trials(account.search, results))
    found: dict[str, Mapping[str, float]] = {}
    with warnings.catch_warnings():
        # It reminds of the sign of the target, which is right here.
        warnings.simplefilter("ignore")
        for index, name in enumerate(names):
            if len({trial.result.objectives[index] for trial in whole if trial.result}) < 2:
                continue
            sign = _worse(name)

            def target(trial: Any, index: int = index, sign: float = sign) -> float:
                return sign * trial.values[index]

            share = max(BEST_SHARE, LEAST_BEST / len(whole))
            evaluator = PedAnovaImportanceEvaluator(target_quantile=share)
            found[name] = get_param_importances(study, evaluator=evaluator, target=target)
    return found
