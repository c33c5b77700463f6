"""One Tune trial: a pack of cells, trained on one worker from the store and to the store.

Tune's own checkpoints are off: `setup` reads the checkpoint store, which is the one authority on what has
been trained. Each `step` trains for a few seconds, commits every lane durably and reports what was
committed, so a trial that is stopped between two steps has nothing left to save.
"""

import gc
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from ray import tune

from sweep.environment import collect_environment
from sweep.errors import StorageError
from sweep.names import Status
from sweep.node_use import NodeMeter
from sweep.pack import Committed, Pack
from sweep.plain_text import plain_text
from sweep.storage import Storage
from sweep.watchdog import Watchdog
from trainers.canonical import cell_id, dataset_entry
from trainers.cell import Cell
from trainers.cell_json import cell_from_json
from trainers.data import Dataset
from trainers.errors import ConfigError
from trainers.options import Choice

SECONDS_FOR_STORE = 600.0
"""How long a store that does not answer is waited for before it counts as a failure of the trial."""

SECONDS_BETWEEN_TRIES = 5.0

TRAINING_PER_COMMIT = 10.0
"""For so many times as long as a commit took is trained until the next one: many lanes and a slow store are
to delay the training little."""

LONGEST_STRETCH_SECONDS = 60.0
"""For no longer than this because of that: a kill costs so much, and a clean stop takes so long."""

FIRST_LOOK_FOR_STOPS_SECONDS = 0.1
LAST_LOOK_FOR_STOPS_SECONDS = 1.0
"""How soon after a commit, which may lead to a decision, a worker looks for marks; then less often."""

RESULT_CELLS = "cells"
"""Key of a trial's report: what was committed, one mapping per cell."""

RESULT_PROBLEMS = "problems"
"""Key of a trial's report: damaged files that were passed over."""

RESULT_FAILURE = "failure"
"""Key of a trial's report: the traceback with which a pack ended that is not tried again, else `None`."""

RESULT_NODE = "node"
"""Key of a trial's report: the name of its node and how busy it is, see `sweep.node_use`."""


class PackTrial(tune.Trainable):
    """Trains the pack in `config["cells"]`.

    Config:
        cells: Cells as JSON values (`trainers.cell_json`).
        ids: Their addresses, as they were planned.
        leaves: For each cell, the steps at which it leaves its state for others.
        pauses: Steps at which to commit at once.
        sweep: Run id of the sweep, which may ask for cells to be stopped.
        data_folder: Where data sets are kept.
        seconds: Training time between two commits; longer where commits take long (`TRAINING_PER_COMMIT`).
        hang_seconds: How long the work may stand still before this process is ended.
        threads: Torch threads.
        gpu: Whether to train on the first GPU that Ray made visible.
    """

    _data: "tuple[Choice, Dataset] | None" = None
    _node: NodeMeter | None = None
    _away_since: float | None = None
    """When the store was found not to answer, until it does again."""

    def setup(  # pyright: ignore[reportIncompatibleMethodOverride] - `tune.with_parameters` hands over the rest
        self, config: dict[str, Any], storage: str
    ) -> None:
        """Take a pack; it is built in the first step, where a failure can be reported.

        Args:
            config: See above; Tune writes it where everybody may read.
            storage: Place of the checkpoint store, which may have a key in it.
        """
        self._let_go_of_pack(gpu=config["gpu"])
        self._place = storage
        self._problems: list[str] = []
        self._opened: Storage | None = None
        self._away_since = None
        self._commit_seconds = 0.0
        self._cells = [cell_from_json(values) for values in config["cells"]]
        self._ids: list[str] = list(config["ids"])
        self._watchdog = Watchdog(config["hang_seconds"], self._leave_note)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next pack in the same process."""
        self._watchdog.close()
        # Not that of Tune's subclass, which adds the place.
        PackTrial.setup(self, new_config, self._place)
        return True

    def cleanup(self) -> None:
        """Nothing is left to save."""
        self._watchdog.close()

    @property
    def _store(self) -> Storage:
        """The checkpoint store; opened only when it is needed, because it may be away for a while."""
        if self._opened is None:
            self._opened = Storage.open(self._place, create=False)
        return self._opened

    def _let_go_of_pack(self, *, gpu: bool) -> None:
        self._pack: Pack | None = None
        if gpu:
            # What it had there is to be free now: Python looks for cycles when it likes, and an allocator
            # that runs out of memory does not ask it to.
            gc.collect()
            torch.cuda.empty_cache()

    def step(self) -> dict[str, Any]:
        """Train a while, commit, report; where the store is away, only report, so that a stop is seen."""
        if self._away_since is not None:
            # A pack that could not commit begins again where it last did.
            self._let_go_of_pack(gpu=self.config["gpu"])
            time.sleep(SECONDS_BETWEEN_TRIES)
        committed: list[Committed] = []
        failure = None
        with self._watchdog.watching():
            try:
                committed = self._train_and_commit()
                self._away_since = None
            except Exception as error:
                if not self._waits_for_store(error):
                    # Of several cells one is to blame: each is tried by itself then. One alone fails, and is
                    # tried again unless what the user has written fails whenever it is tried; so are several
                    # where the store failed, for which none of them is to blame. A process that cannot use
                    # its GPU any more is not to get another pack, so it ends.
                    failure = traceback.format_exc()
                    is_alone = len(self._cells) == 1 and not isinstance(error, ConfigError)
                    if is_alone or isinstance(error, StorageError) or self._is_device_lost():
                        if plain_text(failure) != failure:
                            # Tune writes it to a file of text.
                            raise RuntimeError(plain_text(failure)) from None
                        raise
        self._node = self._node or NodeMeter()
        problems, self._problems[:] = list(self._problems), []
        return {
            RESULT_CELLS: [asdict(one) for one in committed],
            RESULT_PROBLEMS: problems,
            RESULT_FAILURE: failure,
            RESULT_NODE: self._node.look(),
            "done": failure is not None
            or (bool(committed) and all(one.status != Status.RUNNING for one in committed)),
        }

    def _waits_for_store(self, error: Exception) -> bool:
        """Whether a failure is that of a store which may still come back by itself."""
        if not isinstance(error, StorageError) or not error.mends_itself:
            return False
        if self._away_since is None:
            self._away_since = time.monotonic()
            self._problems.append(f"{error} Trying again for {SECONDS_FOR_STORE / 60:g} minutes.")
        return time.monotonic() - self._away_since < SECONDS_FOR_STORE

    def _train_and_commit(self) -> list[Committed]:
        if self._pack is None:
            # Here and not in `setup`: files of the user's own are read for it.
            self._require_planned()
            self._pack = self._build()
        self._stop_cells(self._pack)
        # Only now: however long the store takes to list its marks, something is trained.
        deadline = time.monotonic() + self._seconds_to_train
        look = FIRST_LOOK_FOR_STOPS_SECONDS
        while not self._pack.finished and (left := deadline - time.monotonic()) > 0:
            self._pack.train(min(left, look), pauses=self.config["pauses"])
            self._stop_cells(self._pack)
            look = min(2 * look, LAST_LOOK_FOR_STOPS_SECONDS)
            if self._pack.trainer.step in self.config["pauses"]:
                break
        begun = time.monotonic()
        committed = self._pack.commit()
        self._commit_seconds = time.monotonic() - begun
        return committed

    @property
    def _seconds_to_train(self) -> float:
        """How long is trained until the next commit."""
        enough = min(TRAINING_PER_COMMIT * self._commit_seconds, LONGEST_STRETCH_SECONDS)
        return max(float(self.config["seconds"]), enough)

    def _require_planned(self) -> None:
        """See that the cells are here what they were to the driver.

        Raises:
            ConfigError: One is another: a file of the user's own has changed, or the code of this node.
        """
        for planned, cell in zip(self._ids, self._cells, strict=True):
            if (found := cell_id(cell)) != planned:
                chosen = [dict(one.options) for one in (cell.model, cell.dataset, *cell.probes)]
                own = " or ".join(str(options["path"]) for options in chosen if options.get("path"))
                raise ConfigError(
                    f"cell {planned} is another one here, {found}: {own or 'the code of this node'} "
                    "has changed since the cell was planned; plan it again, in a new process."
                )

    def _is_device_lost(self) -> bool:
        """Whether an error of the GPU, such as an illegal access, has made it useless for this process."""
        if not self.config["gpu"]:
            return False
        try:
            torch.cuda.synchronize()
        except RuntimeError:
            return True
        return False

    def _stop_cells(self, pack: Pack) -> None:
        """End the cells that the driver has marked."""
        stops = self._store.stops(self.config["sweep"])
        for address in stops.all() & set(self._ids):
            pack.stop(address, stops.reason(address))

    def _build(self) -> Pack:
        config = self.config
        torch.set_num_threads(config["threads"])
        device = "cuda" if config["gpu"] else "cpu"
        return Pack(
            self._cells,
            self._store,
            data_folder=Path(config["data_folder"]),
            leaves=config["leaves"],
            device=device,
            environment=collect_environment(device=device, threads=config["threads"]),
            report=self._problems.append,
            data=self._dataset(self._cells[0], Path(config["data_folder"])),
            beat=self._watchdog.beat,
        )

    def _dataset(self, cell: Cell, folder: Path) -> Dataset:
        """Load the data once per process, not once per trial."""
        if self._data is None or self._data[0] != cell.dataset:
            entry = dataset_entry(cell.dataset)
            options = cell.dataset.resolve("dataset", entry.options)
            self._data = (cell.dataset, entry.load(folder, options))
        return self._data[1]

    def _leave_note(self, text: str) -> None:
        for address in self._ids:
            self._store.leave_note(address, text)
