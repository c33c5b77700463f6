"""Where no step takes a minibatch its size decides nothing; a probe that looks at one records it."""

from dataclasses import replace

import pytest

from search_spaces import load_space_text
from sweep.plan import make_plan
from trainers.canonical import cell_id, record_form, trajectory_form, trajectory_id
from trainers.cell import Cell, Phase, Probe
from trainers.errors import ConfigError
from trainers.options import Choice
from trainers.probes import PROBES

FULL = [
    Choice("gd"),
    Choice("sam"),
    Choice.of("momentum", full_batch=True),
    Choice.of("adam", full_batch=True),
    Choice.of("newton", full_batch=True),
]
BATCHED = [Choice("sgd"), Choice.of("sam", full_batch=False), Choice("momentum")]
OF_BATCHES = [
    Probe(name="alignment", options=(("of", "batch_gradient"),)),
    Probe(name="spread", options=(("of", "batch_gradient"),)),
]
OTHERS = [Probe(name="alignment", options=(("of", "update"),)), Probe(name="spread"), Probe(name="distance")]


def cell(*optimizers: Choice, batch_size: int = 50, probes: tuple[Probe, ...] = ()) -> Cell:
    phases = tuple(
        Phase(lr=0.1, until=100 * (index + 1), optimizer=optimizer)
        for index, optimizer in enumerate(optimizers)
    )
    return Cell(
        model=Choice("mlp"), dataset=Choice("mnist-5k"), phases=phases, batch_size=batch_size, probes=probes
    )


def address_at(size: int, of: Cell) -> str:
    return cell_id(replace(of, batch_size=size))


@pytest.mark.parametrize("optimizer", FULL, ids=str)
@pytest.mark.parametrize("probes", [(), *((probe,) for probe in OTHERS)], ids=str)
def test_full_batches_have_one_address(optimizer: Choice, probes: tuple[Probe, ...]) -> None:
    of = cell(optimizer, probes=probes)
    assert address_at(50, of) == address_at(100, of) == address_at(1, of)


@pytest.mark.parametrize("optimizer", BATCHED, ids=str)
def test_one_stage_with_minibatches_tells_their_sizes_apart(optimizer: Choice) -> None:
    for of in (cell(optimizer), cell(Choice("gd"), optimizer), cell(optimizer, Choice("gd"))):
        assert address_at(50, of) != address_at(100, of)
        assert trajectory_id(of) != trajectory_id(replace(of, batch_size=100))


@pytest.mark.parametrize("probe", OF_BATCHES, ids=str)
def test_a_probe_of_minibatches_is_told_apart_and_the_trajectory_is_not(probe: Probe) -> None:
    of = cell(Choice("gd"), probes=(probe,))
    larger = replace(of, batch_size=100)
    assert cell_id(of) != cell_id(larger)
    assert trajectory_form(of) == trajectory_form(larger)
    assert "batch_size" not in record_form(of) and record_form(larger)["batch_size"] == 100


def test_a_probe_of_the_users_own_may_look_at_minibatches() -> None:
    assert [name for name, entry in PROBES.items() if entry.reads_batches({})] == ["file"]


def test_the_default_keeps_its_address() -> None:
    assert cell_id(cell(Choice("gd"))) == "77fbc2e031edc68b"
    assert cell_id(cell(Choice("gd"), probes=(OF_BATCHES[0],))) == "c24e45075ab63100"


def test_a_batch_beyond_the_training_set_is_refused_all_the_same() -> None:
    with pytest.raises(ConfigError, match="batch_size: found 5001"):
        address_at(5001, cell(Choice("gd")))


def test_grid_points_that_share_a_cell_keep_their_batch_sizes() -> None:
    plan = make_plan(
        load_space_text(
            "name: little\nbase:\n  model: mlp\n  dataset: mnist-5k\n"
            "  phases: [{lr: 0.1, until: 20, optimizer: gd}]\naxes: {batch_size: [50, 100], lr: [0.1, 0.2]}\n"
        )
    )
    assert len(plan.cells) == 2
    assert plan.cell_ids[:2] == plan.cell_ids[2:]
    assert [axes["batch_size"] for axes in plan.axes] == [50, 50, 100, 100]
