"""However long lanes are measured, the watchdog hears of it: no stretch of work is without a beat."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from sweep.pack import Pack
from sweep.storage import Storage
from tests.trainers.small_cells import SIDE, bulk, made_data, sgd, small_cell
from trainers import evaluation, functional
from trainers.cell import Cell, Condition, Phase, Probe
from trainers.chain import ChainObjective
from trainers.functional import FunctionalObjective
from trainers.layers import recognition
from trainers.options import Choice
from trainers.probes.measures import MEASURES, Measure

LANES = 4
DATA = made_data()
PASSES = [(ChainObjective, "_forward"), (ChainObjective, "_product"), (FunctionalObjective, "_call")]
NEVER = Condition(chi_above=0.999, at_most=40, every=2, k=3, holdout_size=60)


class Silence:
    """Counts passes over examples between two beats, as if each took a second."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = self.longest = self.total = 0
        for owner, name in PASSES:
            monkeypatch.setattr(owner, name, self._timed(getattr(owner, name)))

    def _timed(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def take_a_second(*given: Any, **named: Any) -> Any:
            self.seconds += 1
            self.total += 1
            self.longest = max(self.longest, self.seconds)
            return work(*given, **named)

        return take_a_second

    def beat(self) -> None:
        self.seconds = 0


def probe(name: str, **options: object) -> Probe:
    given = tuple(sorted({"holdout_size": 60, **options}.items()))
    return Probe(name=name, every=5, options=given)  # type: ignore[arg-type]


CELLS = {
    "cold solves": small_cell(bulk(10)),
    "a condition": small_cell(Phase(lr=0.05, until=NEVER), sgd(50, lr=0.01)),
    "eigenpairs": small_cell(sgd(10), probes=(probe("curvature", k=3),)),
    "a spectrum": small_cell(sgd(10), probes=(probe("spectrum", lanczos_steps=6, vectors=1),)),
    "evaluations": small_cell(sgd(10)),
    "full batches": small_cell(Phase(lr=0.05, until=10, optimizer=Choice.of("momentum", full_batch=True))),
}


def trained(cell: Cell, steps: int, folder: Path, beat: Callable[[], None]) -> None:
    Pack(
        [replace(cell, seed=seed) for seed in range(LANES)],
        Storage.open(folder),
        data_folder=Path("unused"),
        data=DATA,
        beat=beat,
    ).trainer.advance(steps)


@pytest.mark.parametrize("name", CELLS)
def test_every_pass_over_examples_is_heard(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 5,000 examples in 25 pieces.
    monkeypatch.setattr(evaluation, "ACTIVATION_ELEMENTS", 32 * SIDE**2 * 200)
    silence = Silence(monkeypatch)
    trained(CELLS[name], 10, tmp_path, silence.beat)
    assert silence.total > 60 and silence.longest == 1


def test_every_pass_of_any_module_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where some lanes go through it at a time, too."""
    monkeypatch.setattr(recognition, "chain_of", lambda *_: None)
    monkeypatch.setattr(functional, "PASS_BYTES", 2**20)
    silence = Silence(monkeypatch)
    trained(CELLS["cold solves"], 1, tmp_path, silence.beat)
    assert silence.total > 60 and silence.longest == 1


def test_every_probe_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the user's own may take long without a pass."""
    log: list[str] = []
    monkeypatch.setitem(cast(dict[str, Measure], MEASURES), "sketch", lambda *_: log.append("probe") or {})
    cell = small_cell(sgd(1), probes=(Probe(name="sketch", every=1),))
    trained(cell, 1, tmp_path, lambda: log.append("beat"))
    first = log.index("probe")
    assert log[first - 1 : first + 2 * LANES - 1] == ["beat", "probe"] * LANES
