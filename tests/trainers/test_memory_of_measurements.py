"""What the memory model says of probes and conditions, against measured peaks."""

import pytest

from tests.trainers.probes.probed import probe
from tests.trainers.test_memory import peak_bytes
from tests.trainers.tolerances import LANCZOS_BYTES
from trainers.cell import Cell, Condition, Phase
from trainers.memory import FLOAT, footprint
from trainers.options import Choice

ALIGNED = Condition(chi_above=0.9, at_most=1, every=1, k=4, holdout_size=2000)
MEASURED = {
    "overlap": ((), (probe("overlap", holdout_size=1000),)),
    "condition": ((Phase(lr=0.05, until=ALIGNED),), ()),
    "spectrum": ((), (probe("spectrum", holdout_size=100, lanczos_steps=40, vectors=8),)),
}


@pytest.mark.parametrize("name", MEASURED)
def test_what_is_measured_on_many_examples_fits(name: str) -> None:
    before, probes = MEASURED[name]
    cell = Cell(
        model=Choice.of("cnn", channels=8, activation="tanh"),
        dataset=Choice("mnist-5k"),
        phases=(*before, Phase(lr=0.02, until=2)),
        probes=probes,
    )
    assert peak_bytes(cell, 1) <= footprint(cell, device_type="cpu").peak_bytes(1)


def test_a_spectral_density_takes_its_lanczos_bases_once() -> None:
    def peak(steps: int) -> tuple[int, int]:
        cell = Cell(
            model=Choice("mlp"),
            dataset=Choice("mnist-5k"),
            phases=(Phase(lr=0.02, until=2),),
            probes=(probe("spectrum", holdout_size=100, lanczos_steps=steps, vectors=8),),
        )
        return peak_bytes(cell, 1), footprint(cell, device_type="cpu").peak_bytes(1)

    few, many = peak(32), peak(64)
    assert many[0] - few[0] == pytest.approx(many[1] - few[1], rel=LANCZOS_BYTES)


def test_no_more_is_taken_at_once_of_many_examples() -> None:
    def shared(size: int) -> int:
        model, dataset = Choice("convnet"), Choice("cifar10")
        phases = (Phase(lr=0.1, until=2),)
        probes = (probe("overlap", holdout_size=size),)
        return footprint(Cell(model=model, dataset=dataset, phases=phases, probes=probes)).shared_bytes

    inputs = FLOAT * 3 * 32 * 32
    assert shared(1) < shared(1000) < shared(10_000) <= shared(50_000) <= shared(10_000) + 40_000 * inputs
