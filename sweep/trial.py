"""One Tune trial: a pack of cells, trained on one worker from the store and to the store.

Tune's own checkpoints are off: `setup` reads the checkpoint store, which is the one authority on what has
been trained. Each `step` trains for a few seconds, commits every lane durably and reports what was
committed, so a trial that is stopped between two steps has nothing left to save.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from ray import tune

from sweep.environment import collect_environment
from sweep.pack import Pack
from sweep.storage import Storage
from trainers.cell import Cell
from trainers.cell_json import cell_from_json
from trainers.data import DATASETS, Dataset
from trainers.options import Choice

RESULT_CELLS = "cells"
"""Key of a trial's report: what was committed, one mapping per cell."""

RESULT_PROBLEMS = "problems"
"""Key of a trial's report: damaged files that were passed over."""


class PackTrial(tune.Trainable):
    """Trains the pack in `config["cells"]`.

    Config:
        cells: Cells as JSON values (`trainers.cell_json`).
        leaves: For each cell, the steps at which it leaves its state for others.
        storage: Place of the checkpoint store.
        data_folder: Where data sets are kept.
        seconds: Training time between two commits.
        threads: Torch threads.
        gpu: Whether to train on the first GPU that Ray made visible.
    """

    _data: "tuple[Choice, Dataset] | None" = None

    def setup(self, config: dict[str, Any]) -> None:
        """Load the data, read the store and build the pack."""
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next pack in the same process."""
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        torch.set_num_threads(config["threads"])
        cells = [cell_from_json(values) for values in config["cells"]]
        device = "cuda" if config["gpu"] else "cpu"
        self._problems: list[str] = []
        self._seconds = float(config["seconds"])
        self._pack = Pack(
            cells,
            Storage.open(config["storage"]),
            data_folder=Path(config["data_folder"]),
            leaves=config["leaves"],
            device=device,
            environment=collect_environment(device=device, threads=config["threads"]),
            report=self._problems.append,
            data=self._dataset(cells[0], Path(config["data_folder"])),
        )

    def _dataset(self, cell: Cell, folder: Path) -> Dataset:
        """Load the data once per process, not once per trial."""
        if self._data is None or self._data[0] != cell.dataset:
            entry = DATASETS[cell.dataset.name]
            options = cell.dataset.resolve("dataset", entry.options)
            self._data = (cell.dataset, entry.load(folder, options))
        return self._data[1]

    def step(self) -> dict[str, Any]:
        """Train a while, commit, report."""
        if not self._pack.finished:
            self._pack.train(self._seconds)
        committed = self._pack.commit()
        problems, self._problems[:] = list(self._problems), []
        return {
            RESULT_CELLS: [asdict(one) for one in committed],
            RESULT_PROBLEMS: problems,
            "done": self._pack.finished,
        }
