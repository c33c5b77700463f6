"""The memory model against measured peaks: every allocation of a training, by torch's profiler."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from tests.trainers.small_cells import bulk, made_data, small_cell
from tests.trainers.tolerances import MEMORY_BAND
from trainers.canonical import dataset_entry
from trainers.cell import Cell, Phase, Probe
from trainers.chain import SAVED_BYTES, TANGENT_BYTES, ChainObjective, example_sizes
from trainers.layers.recognition import chain_of
from trainers.losses import LOSSES
from trainers.memory import (
    USABLE,
    WORKSPACE_BYTES,
    Footprint,
    footprint,
    lanes_for,
    num_gatherings,
)
from trainers.models import MODELS, sequential
from trainers.options import Choice
from trainers.tracking import IDLE_PERIODS
from trainers.training import Trainer

MIB = 2**20
STEPS = 205

CELLS = {
    "sgd": Cell(model=Choice("mlp"), dataset=Choice("mnist-5k"), phases=(Phase(lr=0.05, until=2),)),
    "bulk": Cell(
        model=Choice("mlp"),
        dataset=Choice("mnist-5k"),
        phases=(Phase(lr=0.05, alpha_dom=float("inf"), k=10, until=2),),
        refresh_every=1,
    ),
    "adam": Cell(
        model=Choice.of("mlp", widths=(300,)),
        dataset=Choice("mnist-5k"),
        phases=(Phase(optimizer=Choice("adam"), lr=0.001, until=2),),
    ),
    "cnn": Cell(
        model=Choice.of("cnn", channels=2),
        dataset=Choice("mnist-5k"),
        phases=(Phase(lr=0.05, beta_bulk=2, k=3, until=2),),
        holdout_size=100,
    ),
    "large inputs": Cell(
        model=Choice.of("mlp", widths=(1, 4000, 1, 4000)),
        dataset=Choice.of("gaussian-mixture", dimension=20_000, num_train=200),
        phases=(Phase(lr=0.001, until=2),),
        batch_size=5,
    ),
}


def peak_bytes(cell: Cell, lanes: int) -> int:
    """The most that was allocated at any time while a pack of equal cells is trained."""
    entry = dataset_entry(cell.dataset)
    data = entry.load(Path("data"), cell.dataset.resolve("dataset", entry.options))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        trainer = Trainer([cell] * lanes, data=data)
        trainer.advance(cell.num_steps)
    results = profiler.profiler
    assert results is not None and results.kineto_results is not None
    held, most = 0, 0
    for event in results.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    assert trainer.finished and most > 0
    return most


@pytest.mark.parametrize("name", CELLS)
def test_a_lane_takes_what_the_model_says(name: str) -> None:
    cell = CELLS[name]
    measured = (peak_bytes(cell, 4) - peak_bytes(cell, 2)) / 2
    least, most = MEMORY_BAND
    assert least <= footprint(cell, device_type="cpu").lane_bytes / measured <= most


def test_probes_that_remember_vectors_take_memory() -> None:
    plain = footprint(CELLS["sgd"])
    probed = footprint(dataclasses.replace(CELLS["sgd"], probes=(Probe(name="curvature"),)))
    assert probed.lane_bytes > plain.lane_bytes and probed.shared_bytes > plain.shared_bytes


@pytest.mark.parametrize("options", [{"samples": 64}, {"estimator": "exact"}], ids=["samples", "exact"])
def test_energies_take_what_the_model_says(options: dict[str, Any]) -> None:
    widths = (64, 64) if "samples" in options else (8,)
    chosen = {"k": 2, "holdout_size": 50} | options
    probe = Probe(name="energies", every=2, options=tuple(chosen.items()))
    cell = dataclasses.replace(CELLS["sgd"], model=Choice.of("mlp", widths=widths), probes=(probe,))
    planned = footprint(cell, device_type="cpu")
    measured = peak_bytes(cell, 1)
    assert 1 <= planned.peak_bytes(1) / measured <= 2, (planned, measured)


def test_as_many_lanes_as_fit_and_one_in_any_case() -> None:
    one = Footprint(shared_bytes=100 * MIB, lane_bytes=10 * MIB)
    room = WORKSPACE_BYTES + one.peak_bytes(7)
    assert one.lanes_in(int(room / USABLE) + 1) == 7
    assert one.lanes_in(int(room / USABLE) - MIB) == 6
    assert one.lanes_in(0) == 1


def test_the_largest_cell_decides() -> None:
    free = 80 * 2**30
    both = lanes_for([CELLS["sgd"], CELLS["bulk"]], free)
    assert 1 < both == footprint(CELLS["bulk"]).lanes_in(free) < footprint(CELLS["sgd"]).lanes_in(free)


def test_cells_that_differ_in_seeds_and_rates_are_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    mlp, built = sequential.mlp, list[object]()

    def build(*given: Any) -> torch.nn.Module:
        built.append(given)
        return mlp(*given)

    monkeypatch.setattr(sequential, "mlp", build)
    (phase,) = CELLS["bulk"].phases
    cells = [
        dataclasses.replace(CELLS["bulk"], seed=seed, phases=(dataclasses.replace(phase, lr=0.1 * rate),))
        for seed in range(100)
        for rate in range(1, 11)
    ]
    free = 80 * 2**30
    found = lanes_for(cells, free)
    assert len(built) == 1 and found == lanes_for(cells[:1], free)


def test_sizes_of_an_example_are_those_that_products_go_by() -> None:
    entry = MODELS["mlp"]
    module = entry.build((1, 28, 28), 10, Choice("mlp").resolve("model", entry.options))
    params = torch.zeros(1, sum(parameter.numel() for parameter in module.parameters()))
    chain, inputs = chain_of(module, (1, 28, 28)), torch.zeros(1, 1, 1, 28, 28)
    assert chain is not None
    objective = ChainObjective(tuple(chain), LOSSES["mse"].build({"scale": "half_sum"}))
    assert example_sizes(chain, params, inputs) == objective._example_sizes(params, inputs)


def test_passes_over_many_examples_are_kept_by_the_pack_and_not_by_each_lane() -> None:
    """4,000 examples are one chunk; of 60,000 the passes over further ones are all kept or none is."""
    cell = dataclasses.replace(CELLS["bulk"], dataset=Choice("mnist"))
    one, many = (footprint(dataclasses.replace(cell, holdout_size=size)) for size in (4000, 60_000))
    further = many.shared_bytes - one.shared_bytes
    assert 0.8 * SAVED_BYTES < further < SAVED_BYTES
    assert many.lane_bytes < one.lane_bytes + 0.3 * TANGENT_BYTES["cuda"]


def each_refreshed_every(periods: Sequence[int]) -> list[Cell]:
    return [
        small_cell(bulk(STEPS), model=Choice.of("mlp", widths=(8,)), refresh_every=period, seed=seed)
        for seed, period in enumerate(periods)
    ]


@pytest.mark.parametrize("periods", [(1,), (2, 2), (1, 2, 4), (2, 3, 5), (1, 10, 100)])
def test_lanes_are_refreshed_in_as_many_groups_as_are_planned(periods: tuple[int, ...]) -> None:
    """On a GPU each keeps its memory to be replayed."""
    trainer = Trainer(each_refreshed_every(periods), data=made_data())
    trainer.advance(STEPS)
    groups = [group._lanes for group in trainer._tracker._groups.values()]
    for lane, period in zip(trainer.lanes, periods, strict=True):
        assert sum(lane in group for group in groups) == num_gatherings(period, periods)


def test_groups_that_meet_too_seldom_take_no_memory() -> None:
    """The tracker drops them before they are refreshed a second time, which is when memory is taken."""
    primes = [101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167, 173, 179, 181, 191, 193]
    assert num_gatherings(101, primes) == 1
    assert [num_gatherings(period, [period + 2]) for period in (15, 17)] == [2, 1]
    assert num_gatherings(64, range(1, 65)) <= IDLE_PERIODS
    assert num_gatherings(1, range(1, 65)) <= IDLE_PERIODS * 64


def test_room_is_left_for_every_group() -> None:
    free = 80 * 2**30
    cells = [dataclasses.replace(CELLS["bulk"], refresh_every=period) for period in (1, 10, 100)]
    refresh = footprint(CELLS["bulk"]).lane_bytes - footprint(CELLS["sgd"]).lane_bytes
    three, one = (footprint(cells[0], periods=periods).lane_bytes for periods in ((1, 10, 100), (1,)))
    assert 1.5 * refresh < three - one < 2 * refresh
    assert lanes_for(cells, free) == footprint(cells[0], periods=(1, 10, 100)).lanes_in(free)
    assert footprint(cells[0], periods=(1, 10), device_type="cpu") == footprint(cells[0], device_type="cpu")
    # Nobody meets those of another shape, or those that are never refreshed.
    others = [
        dataclasses.replace(cells[1], holdout_size=100),
        dataclasses.replace(CELLS["sgd"], refresh_every=7),
    ]
    assert lanes_for([cells[0], *others], free) == lanes_for(cells[:1], free)


def gpu_bytes(cells: Sequence[Cell], steps: int, record_property: Callable[[str, object], None]) -> int:
    """The most that a pack allocates; beside it is recorded what it reserves, as graphs do for replays."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before, held = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    Trainer(cells, device="cuda").advance(steps)
    allocated = torch.cuda.max_memory_allocated() - before
    record_property("allocated_bytes", allocated)
    record_property("reserved_bytes", torch.cuda.max_memory_reserved() - held)
    return allocated


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_holds_lanes_of_several_periods(record_property: Callable[[str, object], None]) -> None:
    (phase,) = CELLS["bulk"].phases
    longer = dataclasses.replace(CELLS["bulk"], phases=(dataclasses.replace(phase, until=13),))
    cells = [dataclasses.replace(longer, refresh_every=period) for period in (1, 2, 4)]
    used = gpu_bytes(cells, 13, record_property)
    assert used <= footprint(cells[0], periods=(1, 2, 4)).peak_bytes(len(cells)) + WORKSPACE_BYTES


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", CELLS)
def test_a_gpu_holds_what_the_model_plans(name: str, record_property: Callable[[str, object], None]) -> None:
    used = gpu_bytes([CELLS[name]] * 8, CELLS[name].num_steps, record_property)
    assert used <= footprint(CELLS[name]).peak_bytes(8) + WORKSPACE_BYTES
