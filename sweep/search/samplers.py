"""The samplers, by name: Optuna's, seeded and set up for few, expensive and noisy evaluations."""

import warnings
from collections.abc import Callable, Sequence

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import FrozenTrial, create_trial

from search_spaces.search import SearchSpec

Builder = Callable[[SearchSpec, Sequence[FrozenTrial]], BaseSampler]

LEAST_WARM_TRIALS = 10
"""From fewer trials that were there before CMA-ES does not estimate where to start."""


def _tpe(search: SearchSpec, known: Sequence[FrozenTrial]) -> BaseSampler:
    return TPESampler(seed=search.sampler_seed, n_startup_trials=search.startup, constant_liar=True)


def _cmaes(search: SearchSpec, known: Sequence[FrozenTrial]) -> BaseSampler:
    warm = [_numbers_of(trial) for trial in known] if len(known) >= LEAST_WARM_TRIALS else None
    return CmaEsSampler(seed=search.sampler_seed, source_trials=warm, warn_independent_sampling=False)


def _numbers_of(trial: FrozenTrial) -> FrozenTrial:
    """Return a completed trial with the axes alone that CMA-ES samples; labels are drawn at random."""
    numbers = {
        name: distribution
        for name, distribution in trial.distributions.items()
        if not isinstance(distribution, CategoricalDistribution) and not distribution.single()
    }
    params = {name: trial.params[name] for name in numbers}
    return create_trial(params=params, distributions=numbers, values=trial.values)


def _qmc(search: SearchSpec, known: Sequence[FrozenTrial]) -> BaseSampler:
    return QMCSampler(seed=search.sampler_seed, scramble=True, warn_independent_sampling=False)


def _random(search: SearchSpec, known: Sequence[FrozenTrial]) -> BaseSampler:
    return RandomSampler(seed=search.sampler_seed)


def _nsga2(search: SearchSpec, known: Sequence[FrozenTrial]) -> BaseSampler:
    return NSGAIISampler(seed=search.sampler_seed, population_size=max(2, search.startup))


SAMPLERS: dict[str, Builder] = {
    "tpe": _tpe,
    "cmaes": _cmaes,
    "qmc": _qmc,
    "random": _random,
    "nsga2": _nsga2,
}

TAKES_VIOLATIONS = ("tpe", "nsga2")
"""Samplers that learn from how badly a configuration broke down; the others are told that it failed."""


def build_sampler(search: SearchSpec, known: Sequence[FrozenTrial]) -> BaseSampler:
    """Return the sampler of a search.

    Args:
        search: The search.
        known: Completed trials that were there before the first question.
    """
    with warnings.catch_warnings():
        # That an argument is new in Optuna is no news for whoever runs a sweep.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return SAMPLERS[search.sampler](search, known)
