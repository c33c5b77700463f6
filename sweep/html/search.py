"""A search as plain values for its part of the page: what was asked, the best so far, which axes matter."""

from typing import Any

from sweep.html.data import metric_entry, rounded
from sweep.report.labels import axis_label, plain
from sweep.search.account import Account, Trial, describe, importances, ranked_by

FRONT_SHOWN = 3


def search_data(account: Account) -> dict[str, Any]:
    """Arrange a search for the page."""
    objectives = account.search.objectives
    front = account.front()
    best = [account.best_so_far(index) for index in range(len(objectives))]
    return {
        "about": f"{account.search.sampler}, {account.budget()}, {len(account.asked)} configurations asked",
        "cells": account.cells,
        "front": [describe(account.search, trial) for trial in front[:FRONT_SHOWN]]
        + ([f"and {more} more"] if (more := len(front) - FRONT_SHOWN) > 0 else []),
        "objectives": [_objective(account, name) for name in objectives],
        "trials": [_trial(trial, on_front=trial in front) for trial in account.trials],
        "best": [[rounded(value) for value in values] for values in best],
        "importances": [
            {
                "objective": metric_entry(name)["label"],
                "axes": [
                    {"label": axis_label(axis).plain, "share": rounded(share)}
                    for axis, share in sorted(shares.items(), key=lambda one: -one[1])
                ],
            }
            for name, shares in importances(account).items()
        ],
    }


def _objective(account: Account, name: str) -> dict[str, Any]:
    """Describe an objective; one that seeds count against says by how much."""
    entry = metric_entry(name)
    ranking = ranked_by(account.search, name)
    return entry | {"label": f"{entry['label']}, {ranking}"} if ranking else entry


def _trial(trial: Trial, *, on_front: bool) -> dict[str, Any]:
    result = trial.result
    values = [] if result is None else [rounded(value) for value in result.objectives]
    axes = (f"{axis_label(name).plain} = {plain(value)}" for name, value in trial.configuration.items())
    return {
        "number": trial.number,
        "cells": trial.cells_before,
        "at": ", ".join(axes),
        "state": "open" if result is None else result.state,
        "diverged": 0.0 if result is None else result.diverged,
        "values": values,
        "front": on_front,
    }
