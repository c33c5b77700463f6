"""What every row of the table must do just by being there."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.trainers.probes.probed import DATA, probe, recorded
from tests.trainers.small_cells import bulk, sgd, small_cell
from trainers.cell import Cell, Phase, Probe
from trainers.errors import ConfigError
from trainers.history import PROBES_CONVERGED
from trainers.options import Choice
from trainers.probes import PROBES
from trainers.probes.measures import MEASURES
from trainers.training import Trainer

WEIGHTLESS = Choice.of("mlp", widths=(1,))
"""57 parameters: few enough for the probe that records them all."""

SMALL = {"holdout_size": 60, "k": 3}
FULL_OPTIONS: dict[str, tuple[dict[str, object], ...]] = {
    "curvature": (SMALL,),
    "alignment": tuple({**SMALL, "of": of} for of in ("gradient", "batch_gradient", "update")),
    "spread": tuple({**SMALL, "of": of} for of in ("gradient", "batch_gradient", "update")),
    "overlap": (SMALL, {"holdout_size": 60, "split": "test"}),
    "effective_rates": (SMALL,),
    "edges": ({},),
    "subspace_overlap": ({"holdout_size": 60, "k": 6, "sizes": [2, 3], "since": [0, 10]},),
    "eigenvectors": ({**SMALL, "since": [0, 10], "null": True},),
    "layers": (SMALL,),
    "energies": ({**SMALL, "estimator": "hutchinson", "samples": 3},),
    "spectrum": ({"holdout_size": 60, "lanczos_steps": 4, "vectors": 2},),
    "distance": ({}, {"since": 10}),
    "sketch": ({"size": 3},),
    "weights": ({},),
    "file": ({"path": str(Path(__file__).with_name("own_probe.py"))},),
}
"""Together the options of a row record every series that it declares."""

PHASES = (sgd(8), bulk(14, k=3), Phase(lr=0.02, until=20, optimizer=Choice("sam")))


def probes(name: str) -> tuple[Probe, ...]:
    return tuple(probe(name, **options) for options in FULL_OPTIONS[name])


def cell(*measured: Probe) -> Cell:
    return small_cell(*PHASES, probes=measured, model=WEIGHTLESS)


def run(cell: Cell, stop: int = 20) -> Trainer:
    trainer = Trainer([cell], data=DATA, dtype=torch.float64)
    trainer.advance(stop)
    return trainer


def test_tables_agree() -> None:
    assert set(PROBES) == set(MEASURES) == set(FULL_OPTIONS)


@pytest.fixture(scope="module")
def unwatched() -> torch.Tensor:
    return run(cell()).weights(0)


@pytest.mark.parametrize("name", PROBES)
def test_it_never_changes_the_weights(name: str, unwatched: torch.Tensor) -> None:
    assert torch.equal(run(cell(*probes(name))).weights(0), unwatched)


@pytest.mark.parametrize("name", PROBES)
def test_it_records_what_it_declares(name: str) -> None:
    before = recorded(run(cell()))
    series = {key for key in recorded(run(cell(*probes(name)))) if key not in before}
    patterns = [
        re.sub("(<[^>]*>)|[^<]+", lambda found: ".+" if found[1] else re.escape(found[0]), declared)
        for declared in PROBES[name].series
    ]
    assert (PROBES_CONVERGED in series) == ("k" in PROBES[name].options and name != "curvature")
    series.discard(PROBES_CONVERGED)
    for pattern in patterns:
        assert any(re.fullmatch(pattern, key) for key in series), pattern
    for key in series:
        assert any(re.fullmatch(pattern, key) for pattern in patterns), key


@pytest.mark.parametrize("stop", [3, 8, 11, 15])
@pytest.mark.parametrize("name", PROBES)
def test_a_resumed_run_records_the_same(name: str, stop: int) -> None:
    watched = cell(*probes(name))
    whole = recorded(run(watched))
    first = run(watched, stop)
    second = Trainer([watched], data=DATA, dtype=torch.float64)
    second.restore([first.state(0)])
    second.advance(20)
    early, late = recorded(first), recorded(second)
    for key, values in whole.items():
        assert early.get(key, {}) | late.get(key, {}) == values, key


@pytest.mark.parametrize("name", PROBES)
def test_a_longer_run_records_the_same_on_its_way(name: str) -> None:
    """The last measurement leaves nothing behind that a longer run would not have."""
    short = small_cell(sgd(10), probes=probes(name), model=WEIGHTLESS)
    long = small_cell(sgd(20), probes=probes(name), model=WEIGHTLESS)
    trainer = Trainer([long], data=DATA, dtype=torch.float64)
    state = run(short, 10).state(0)
    trainer.restore(
        [
            type(state)(
                cell_id=trainer.lanes[0].cell_id,
                step=10,
                tensors=state.tensors,
                scalars={**state.scalars, "outcome": None},
            )
        ]
    )
    trainer.advance(20)
    late, whole = recorded(trainer), recorded(run(long))
    for key, values in whole.items():
        expected = {step: value for step, value in values.items() if step >= 10}
        assert late.get(key, {}) == expected, key


def test_probes_of_one_holdout_share_its_eigenspace() -> None:
    together = recorded(run(cell(probe("curvature", **SMALL), probe("alignment", **SMALL))))
    alone = recorded(run(cell(probe("curvature", **SMALL))))
    assert together["curvature/products"] == alone["curvature/products"]
    assert together["alignment/gradient_chi"] == alone["curvature/chi"]


def test_too_many_weights_are_refused() -> None:
    with pytest.raises(ConfigError, match="at most 100"):
        run(small_cell(sgd(5), probes=probes("weights")), 1)


@pytest.mark.parametrize("name", PROBES)
def test_where_the_weights_are_not_finite_the_run_has_diverged(name: str) -> None:
    """Four steps with an absurd rate; the probe is due before anything has looked at the loss."""
    due = tuple(replace(each, every=1) for each in probes(name))
    trainer = run(small_cell(Phase(lr=1e5, until=20), probes=due, model=WEIGHTLESS))
    outcome = trainer.lanes[0].outcome
    assert outcome is not None and (outcome.status, outcome.step) == ("diverged", 4)
