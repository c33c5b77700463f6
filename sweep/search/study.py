"""The study: Optuna asked for configurations and told results, one after another. No cells, no MLflow.

The same search, seed and order of questions and answers give the same configurations, so replaying a journal
brings the sampler to the state that it had. Optuna's own storage is in memory: the journal is the memory.
"""

import warnings
from collections.abc import Sequence

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from search_spaces.axes import AxisSpec
from search_spaces.reports import AxisValue
from search_spaces.search import OBJECTIVES, RangeSpec, SearchSpec
from sweep.names import FINAL_STEPS
from sweep.search.events import Asked, Configuration, Event, Known, Result, Told
from sweep.search.samplers import TAKES_VIOLATIONS, build_sampler

DIVERGED = "diverged"
"""Name of the constraint that a configuration whose seeds diverged violates."""

optuna.logging.set_verbosity(optuna.logging.ERROR)


class Study:
    """A sampler with what it has been asked and told.

    Args:
        search: The axes, the objectives, the sampler and its seed.
    """

    def __init__(self, search: SearchSpec) -> None:
        self._search = search
        self._distributions = {name: _distribution(axis) for name, axis in search.axes.items()}
        self._known: list[Known] = []
        self._trials: list[optuna.Trial] = []
        self._study: optuna.Study | None = None

    @property
    def num_asked(self) -> int:
        """How many questions were asked."""
        return len(self._trials)

    def know(self, known: Known) -> None:
        """Take note of a configuration that was run before; only before the first question."""
        assert self._study is None, "what is known beforehand comes before the first question"
        self._known.append(known)

    def ask(self) -> Configuration:
        """Return the next configuration."""
        trial = self._optuna().ask(self._distributions)
        self._trials.append(trial)
        return {name: _value(axis, trial.params[name]) for name, axis in self._search.axes.items()}

    def tell(self, number: int, result: Result) -> None:
        """Say what became of the question `number`."""
        study, trial = self._optuna(), self._trials[number]
        several = len(self._search.objectives) > 1
        if result.state == "excluded" and self._search.sampler == "tpe":
            # Infeasible and without a value: it counts among the bad ones, so TPE keeps away from there.
            # The others take no trial without a value and go on drawing, as from what is left.
            trial.set_constraint(DIVERGED, 1.0)
            study.tell(trial, state=TrialState.PRUNED)
            return
        # Of several objectives what was stopped is told with its values; that it took few steps is no merit.
        flattered = result.state == "pruned" and several and FINAL_STEPS in self._search.objectives
        breaks = 1.0 if flattered else result.diverged
        if result.state in ("failed", "excluded") or (breaks and not self._takes_violations):
            study.tell(trial, state=TrialState.FAIL)
            return
        if self._takes_violations:
            # Every trial says whether it is feasible: one without constraints counts as infeasible.
            trial.set_constraint(DIVERGED, breaks)
        if result.state == "pruned" and not several:
            trial.report(result.objectives[0], result.step)
            study.tell(trial, state=TrialState.PRUNED)
            return
        study.tell(trial, values=list(result.objectives))

    def replay(self, events: Sequence[Event]) -> bool:
        """Bring a new study to where a journal ends.

        Returns:
            Whether the sampler gave the same answers again. If not (another version of Optuna), it goes on
            from what was asked and told, but not from the state in which it was.
        """
        for event in events:
            match event:
                case Known():
                    self.know(event)
                case Asked():
                    if self.ask() != event.configuration:
                        self._adopt(events)
                        return False
                case Told():
                    self.tell(event.number, event.result)
                case _:
                    pass
        return True

    def _adopt(self, events: Sequence[Event]) -> None:
        """Begin anew with the answers as they were recorded."""
        self._study, self._trials = None, []
        for event in events:
            match event:
                case Asked():
                    self._optuna().enqueue_trial(self._parameters(event.configuration))
                    self.ask()
                case Told():
                    self.tell(event.number, event.result)
                case _:
                    pass

    @property
    def _takes_violations(self) -> bool:
        return self._search.sampler in TAKES_VIOLATIONS

    def _optuna(self) -> optuna.Study:
        if self._study is None:
            known = [
                (one.configuration, one.result)
                for one in self._known
                if one.result.state == "complete" and (self._takes_violations or not one.result.diverged)
            ]
            trials = completed_trials(self._search, known, with_violations=self._takes_violations)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study = optuna.create_study(
                    sampler=build_sampler(self._search, trials),
                    directions=[OBJECTIVES[name] for name in self._search.objectives],
                )
                study.add_trials(trials)
            self._study = study
        return self._study

    def _parameters(self, configuration: Configuration) -> dict[str, AxisValue]:
        return _parameters(self._search, configuration)


def completed_trials(
    search: SearchSpec, known: Sequence[tuple[Configuration, Result]], *, with_violations: bool = False
) -> list[FrozenTrial]:
    """Return configurations with their results as completed trials of Optuna.

    Args:
        search: The search whose axes they have.
        known: What was run, and what it came to.
        with_violations: Whether each says by how much it violates the constraint not to diverge.
    """
    distributions = {name: _distribution(axis) for name, axis in search.axes.items()}
    return [
        create_trial(
            params=_parameters(search, configuration),
            distributions=distributions,
            values=list(result.objectives),
            constraints={DIVERGED: result.diverged} if with_violations else None,
        )
        for configuration, result in known
    ]


def _parameters(search: SearchSpec, configuration: Configuration) -> dict[str, AxisValue]:
    return {name: _parameter(axis, configuration[name]) for name, axis in search.axes.items()}


def _distribution(axis: RangeSpec | AxisSpec) -> BaseDistribution:
    if isinstance(axis, RangeSpec):
        if axis.integer:
            return IntDistribution(int(axis.low), int(axis.high), log=axis.log)
        return FloatDistribution(float(axis.low), float(axis.high), log=axis.log)
    ordered = _ordered(axis)
    if ordered is None:
        return CategoricalDistribution(list(axis.labels))
    return IntDistribution(0, len(ordered) - 1)


def _ordered(axis: AxisSpec) -> list[AxisValue] | None:
    """Return listed numbers in order, which the sampler is told by their index; `None` for labels."""
    if axis.choices is not None or any(isinstance(value, str) for value in axis.values):
        return None
    return sorted(axis.values)  # pyright: ignore[reportArgumentType] - numbers only


def _value(axis: RangeSpec | AxisSpec, parameter: AxisValue) -> AxisValue:
    if isinstance(axis, RangeSpec):
        assert not isinstance(parameter, str), "a range is sampled as a number"
        return axis.value(parameter)
    ordered = _ordered(axis)
    return parameter if ordered is None else ordered[int(parameter)]


def _parameter(axis: RangeSpec | AxisSpec, value: AxisValue) -> AxisValue:
    if isinstance(axis, RangeSpec):
        return value
    ordered = _ordered(axis)
    return value if ordered is None else ordered.index(value)
