"""Experiments on data that are not in the package train on small files of the real format."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search_spaces import load_space
from tests.trainers import test_data_mnist, test_data_sst2
from tests.trainers.cifar_archive import write_archive
from tests.trainers.probes.probed import recorded
from trainers.cell import Cell, Condition, Phase, Probe
from trainers.data import DATASETS, Dataset, cifar10, mnist, sst2
from trainers.probes import PROBES
from trainers.training import Trainer

STEPS, HOLDOUT, BATCH, K = 4, 3, 2, 2
CHEAP = {"holdout_size": HOLDOUT, "k": K, "sizes": (K,), "null": False}
SENTENCES = "sentence\tlabel\n" + "".join(f"word{i % 5} of {i} \t{i % 2}\n" for i in range(12))

Load = Callable[[Path, Mapping[str, Any]], Dataset]
LOADS: dict[str, Load] = {
    "cifar10-5k": lambda folder, options: cifar10.load(folder, options, source=write_archive(folder)),
    # FashionMNIST comes as MNIST's IDX archives.
    "fashion-mnist": lambda folder, options: mnist.load_source(
        folder, options, test_data_mnist.write_source(folder, compress=True, of_archives=True)
    ),
    "sst2-1k": lambda folder, options: sst2.load(
        folder, options, source=test_data_sst2.write(folder, zipped=True, train=SENTENCES)
    ),
}

ROWS = [
    ("zs25-table1", "mlp", "cifar10-5k"),
    ("zs25-table2", "cnn", "cifar10-5k"),
    ("zs25-fig4", "mlp", "cifar10-5k"),
    ("say25-fig1", "cnn", "cifar10-5k"),
    ("say25-table1", "cnn", "cifar10-5k"),
    ("say25-table1", "transformer", "sst2-1k"),
    ("mmb26", "mlp", "fashion-mnist"),
]
"""Spaces and models whose first steps take a second; deeper ones are in trainers/test_models_trained.py."""


def first_steps(cell: Cell) -> Cell:
    """Return the cell with short phases, small subspaces, and every probe at every second step."""

    def shorter(phase: Phase, number: int) -> Phase:
        until = (number + 1) * STEPS // len(cell.phases)
        if isinstance(phase.until, Condition):
            condition = replace(phase.until, at_most=until, every=1, holdout_size=HOLDOUT, k=K)
            return replace(phase, until=condition, k=K)
        return replace(phase, until=until, k=K)

    def cheaper(probe: Probe) -> Probe:
        options = dict(probe.options)
        options |= {key: value for key, value in CHEAP.items() if key in PROBES[probe.name].options}
        if isinstance(options.get("since"), int):
            options["since"] = STEPS // 2
        return replace(probe, every=2, options=tuple(sorted(options.items())))

    return replace(
        cell,
        phases=tuple(shorter(phase, number) for number, phase in enumerate(cell.phases)),
        probes=tuple(map(cheaper, cell.probes)),
        holdout_size=HOLDOUT,
        batch_size=BATCH,
        refresh_every=2,
        evaluate_every=2,
    )


@pytest.mark.parametrize(("name", "model", "dataset"), ROWS)
def test_a_row_on_other_data_trains(name: str, model: str, dataset: str, tmp_path: Path) -> None:
    points = [
        point
        for point in load_space(name).points()
        if (point.cell.model.name, point.cell.dataset.name) == (model, dataset)
    ]
    # The last one of a grid has most of what the space adds to SGD there; the same probes are looked at once.
    last = {point.grid: first_steps(point.cell) for point in points}
    options = points[-1].cell.dataset.resolve("dataset", DATASETS[dataset].options)
    data = LOADS[dataset](tmp_path, options)
    for cell in {tuple(probe.name for probe in cell.probes): cell for cell in last.values()}.values():
        trainer = Trainer([cell], data=data)
        trainer.advance(STEPS)
        series = recorded(trainer)
        assert list(series["train/loss"]) == [0, 2, STEPS]
        assert all(math.isfinite(value) for value in series["train/loss"].values())
        kinds = {pattern.partition("/")[0] for probe in cell.probes for pattern in PROBES[probe.name].series}
        assert kinds <= {found.partition("/")[0] for found in series}
