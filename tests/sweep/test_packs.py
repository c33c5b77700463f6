"""Packs: what may be trained together is, in order, and no pack waits for itself or in circles."""

import math
import random
from unittest.mock import Mock

import pytest

from sweep.forks import fork_at, plan_sharing
from sweep.pack_events import PackEvents
from sweep.packs import Formed, make_packs, pack_of, still_waiting
from tests.sweep.test_forks import bulk, cell, sgd
from trainers.canonical import cell_id
from trainers.cell import Cell, Phase


def named(*cells: Cell) -> dict[str, Cell]:
    return {str(number): one for number, one in enumerate(cells)}


def test_who_asks_for_cells_hears_of_packs_that_are_split() -> None:
    cells = named(*(cell(sgd(100), seed=seed) for seed in range(4)))
    guide = Mock()
    packs, sharing = [tuple(cells)], plan_sharing(cells)
    events = PackEvents(cells, packs, sharing, Mock(), Mock(), Mock(), Mock(), guide)
    assert events.failed(0, "no luck", "CUDA out of memory") == [1, 2]
    guide.parted.assert_called_once_with([["0", "1"], ["2", "3"]])


def test_cells_of_one_shape_and_start_are_lanes() -> None:
    cells = named(*(cell(sgd(100), seed=seed) for seed in range(5)), cell(sgd(100), batch_size=10))
    sharing = plan_sharing(cells)
    assert make_packs(cells, sharing, lanes=2) == [("0", "1"), ("2", "3"), ("4",), ("5",)]
    assert make_packs(cells, sharing, lanes=1) == [(name,) for name in cells]
    # What was interrupted goes on from its own step, with those that were in its pack.
    committed = {"1": 30, "4": 30}
    assert make_packs(cells, sharing, lanes=2, begins=committed) == [
        ("0", "2"),
        ("1", "4"),
        ("3",),
        ("5",),
    ]


def test_what_was_one_pack_is_one_again() -> None:
    cells = named(*(cell(sgd(100), seed=seed) for seed in range(6)))
    sharing, committed = plan_sharing(cells), dict.fromkeys(["0", "2", "3", "4", "5"], 30)
    # 1 has ended; 0 and 2 were beside it, 3 and 4 in the next one, 5 alone.
    formed = {name: Formed(name=pack, lanes=2) for name, pack in zip("0234", "aabb", strict=True)}
    del cells["1"]
    alike = make_packs(cells, sharing, lanes=3, begins=committed)
    assert alike == [("0", "2", "3"), ("4", "5")]
    again = make_packs(cells, sharing, lanes=3, begins=committed, formed=formed)
    assert again == [("0", "2"), ("3", "4"), ("5",)]
    # Killed between the commits of two lanes: both go back to the step before.
    apart = committed | {"2": 20, "5": 20}
    assert make_packs(cells, sharing, lanes=3, begins=apart, formed=formed) == again
    # Whatever `--lanes` says now.
    assert make_packs(cells, sharing, lanes=1, begins=committed, formed=formed) == again


def test_a_pack_that_is_made_again_waits_for_no_state_that_one_of_its_cells_would_leave() -> None:
    cells = named(cell(sgd(500)), cell(sgd(300), bulk(500)))
    # Begun at 0 by a search, which shares nothing; killed before the one switches.
    begins, formed = {"0": 90, "1": 90}, dict.fromkeys("01", Formed(name="a", lanes=2))
    waiting = still_waiting(plan_sharing(cells), begins, formed)
    packs = make_packs(cells, waiting, lanes=2, begins=begins, formed=formed)
    assert packs == [("0", "1")]
    assert PackEvents(cells, packs, waiting, Mock(), Mock(), Mock(), Mock()).ready(0)
    # Two of them would wait for each other.
    cells = named(
        *(one for seed in (0, 1) for one in (cell(sgd(500), seed=seed), cell(sgd(300), bulk(500), seed=seed)))
    )
    begins = dict.fromkeys(cells, 90)
    formed = {name: Formed(name=pack, lanes=2) for name, pack in zip(cells, "abba", strict=True)}
    waiting = still_waiting(plan_sharing(cells), begins, formed)
    packs = make_packs(cells, waiting, lanes=2, begins=begins, formed=formed)
    assert packs == [("0", "3"), ("1", "2")]
    events = PackEvents(cells, packs, waiting, Mock(), Mock(), Mock(), Mock())
    assert events.ready(0) and events.ready(1)


def test_what_waits_is_not_with_what_it_waits_for() -> None:
    cells = named(
        cell(sgd(500)), *(cell(sgd(step), bulk(500)) for step in (10, 20)), cell(sgd(20), bulk(500, 3))
    )
    sharing = plan_sharing(cells)
    assert make_packs(cells, sharing, lanes=8) == [("0",), ("1",), ("2", "3")]
    for pack in make_packs(cells, sharing, lanes=8):
        starts = {sharing[name].start for name in pack}
        leaves = {fork for name in pack for fork in sharing[name].leaves}
        assert not starts & leaves


def test_nobody_waits_for_what_will_not_come_or_is_behind() -> None:
    cells = named(cell(sgd(500)), cell(sgd(20), bulk(500)), cell(sgd(300), bulk(500)))
    sharing = plan_sharing(cells)
    fork = fork_at(cells["0"], 300)
    assert [shared.start and shared.start.step for shared in still_waiting(sharing, {}).values()] == [
        None,
        20,
        300,
    ]
    # The trunk is beyond 20 already, and the second branch beyond its fork.
    waiting = still_waiting(sharing, {"0": 100})
    assert waiting["1"].start is None and waiting["2"].start == fork
    assert still_waiting(sharing, {"2": 400})["2"].start is None
    assert waiting["0"].leaves == sharing["0"].leaves


@pytest.mark.parametrize("with_packs", [0.0, 0.7])
@pytest.mark.parametrize("seed", range(20))
def test_every_pack_can_start_whatever_was_trained_before(seed: int, with_packs: float) -> None:
    draw = random.Random(seed)
    phases = [
        Phase(lr=rate, alpha_dom=alpha, k=2, until=until)
        for rate in (0.1, 0.2)
        for alpha in (1, math.inf)
        for until in (10, 20, 30)
    ]
    cells = {}
    while len(cells) < 12:
        chosen = {phase.until: phase for phase in draw.sample(phases, draw.randint(1, 3))}
        one = cell(*(chosen[until] for until in sorted(chosen)), Phase(lr=0.1, until=40))
        cells[cell_id(one)] = one
    sharing = plan_sharing(cells)
    committed = {name: draw.randint(1, 39) for name in cells if draw.random() < 0.4}
    names = [name for name in committed if draw.random() < with_packs]
    formed = {name: Formed(name=draw.choice("ab"), lanes=draw.randint(2, 3)) for name in names}
    waiting = still_waiting(sharing, committed, formed)
    packs = make_packs(cells, waiting, lanes=draw.randint(1, 4), begins=committed, formed=formed)
    assert sorted(name for pack in packs for name in pack) == sorted(cells)
    there: set[object] = set()
    left = list(packs)
    while left:
        ready = [pack for pack in left if all(waiting[name].start in (None, *there) for name in pack)]
        assert ready, f"{left} wait in a circle"
        for pack in ready:
            there.update(fork for name in pack for fork in waiting[name].leaves)
            left.remove(pack)


def test_a_pack_is_plain_data() -> None:
    cells = named(cell(sgd(500)), cell(sgd(20), bulk(500)))
    config = pack_of(["0"], cells, plan_sharing(cells)).to_config()
    assert config["leaves"] == [[20]] and len(config["cells"]) == 1 and config["ids"] == ["0"]
