"""Packs that do nothing, on one worker of a real Ray, whose order is turned round once one has begun."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ray import tune

from sweep import schedule
from sweep.ray_cluster import Cluster, Resources
from sweep.trial import RESULT_CELLS, RESULT_FAILURE, RESULT_NODE, RESULT_PROBLEMS

NUM_PACKS = 8
SECONDS_OF_A_PACK = 0.5


class Turned:
    """Events of packs that begin in the order of their numbers, and in the other one after the first."""

    def __init__(self) -> None:
        self.begun = list[int]()
        self._is_turned = False

    def is_reordered(self) -> bool:
        return bool(self.begun) and not self._is_turned

    def in_order(self, packs: list[int]) -> list[int]:
        self._is_turned = bool(self.begun)
        return sorted(packs, reverse=self._is_turned)

    def started(self, pack: int) -> None:
        self.begun.append(pack)

    def ready(self, pack: int) -> bool:
        return True

    def plan(self, pack: int) -> Any:
        return SimpleNamespace(to_config=dict)

    def more(self, seconds: float) -> None:
        return None

    def failed(self, pack: int, reason: str, log: str) -> list[int]:
        raise AssertionError(log)

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def idle_pack() -> type[tune.Trainable]:
    """Return what stands for a pack; as a class of a function it travels to the worker by value."""

    class IdlePack(tune.Trainable):
        def setup(self, config: dict[str, Any], storage: str) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
            assert Path(storage).is_dir()

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            return True

        def step(self) -> dict[str, Any]:
            time.sleep(SECONDS_OF_A_PACK)
            nothing = {RESULT_CELLS: [], RESULT_PROBLEMS: [], RESULT_FAILURE: None, RESULT_NODE: ("", {})}
            return nothing | {"done": True}

    return IdlePack


def run_idle_packs(address: str, environment: Mapping[str, str], folder: Path) -> None:
    """Run the packs, and write into `folder` what they print and their numbers in the order they began in."""
    with open(folder / "said", "wb") as said:
        for number in (1, 2):
            os.dup2(said.fileno(), number)
    os.environ.update(environment)
    schedule.PackTrial = idle_pack()  # type: ignore[misc]
    events: Any = Turned()
    cluster = Cluster(address)
    schedule.run_packs(
        range(NUM_PACKS),
        sweep="none",
        storage=str(folder),
        data_folder=folder,
        seconds=1.0,
        hang_seconds=60.0,
        resources=Resources(),
        max_failures=0,
        num_waiting=NUM_PACKS,
        events=events,
        stop=lambda: False,
    )
    cluster.close()
    (folder / "began").write_text(" ".join(map(str, events.begun)))
