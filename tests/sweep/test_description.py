"""How a cell reads in MLflow, in what no recorded run shows."""

from dataclasses import replace

from sweep.ledger.description import cell_params
from tests.sweep.small_sweep import make_cell
from trainers.cell import Condition, Phase

WAITING = Condition(chi_above=0.95, at_most=50)


def until(condition: Condition) -> str:
    cell = replace(make_cell(), phases=(Phase(lr=0.1, until=condition), Phase(lr=0.2, until=100)))
    params = cell_params(cell, {})
    assert params["switch_step"] == params["phase.0.until"]
    return params["phase.0.until"]


def test_a_condition_says_all_that_differs_from_the_defaults() -> None:
    assert until(WAITING) == "ema(chi) > 0.95, at most 50"
    assert until(replace(WAITING, every=5, k=3)) == "ema(chi) > 0.95, at most 50, every 5, k 3"
    others = {"chi_above": 0.9500001, "ema": 0.5, "holdout_size": 60, "holdout_seed": 1, "tolerance": 1e-3}
    assert (
        len({until(WAITING), *(until(replace(WAITING, **{name: value})) for name, value in others.items())})
        == 6
    )
