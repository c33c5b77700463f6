"""The memory model against measured peaks: every allocation of a training, by torch's profiler."""

import dataclasses

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from tests.trainers.tolerances import MEMORY_BAND
from trainers.cell import Cell, Phase, Probe
from trainers.memory import USABLE, WORKSPACE_BYTES, Footprint, footprint, lanes_for
from trainers.options import Choice
from trainers.training import Trainer

MIB = 2**20

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
}


def peak_bytes(cell: Cell, lanes: int) -> int:
    """The most that was allocated at any time while a pack of equal cells is trained."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        trainer = Trainer([cell] * lanes)
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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", CELLS)
def test_a_gpu_holds_what_the_model_plans(name: str) -> None:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    trainer = Trainer([CELLS[name]] * 8, device="cuda")
    trainer.advance(CELLS[name].num_steps)
    used = torch.cuda.max_memory_allocated() - before
    assert used <= footprint(CELLS[name]).peak_bytes(8) + WORKSPACE_BYTES
