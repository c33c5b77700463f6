"""What cells took, and what others will take: kinds of work, rates, the played schedule, the probe."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from search_spaces import load_space_text
from sweep import names
from sweep.costs import Cost, cost_of, kind_of, rates_of, rates_on, work_of
from sweep.estimate import _measure, cell_seconds, estimate, probe_rates
from sweep.forecast import accuracy_text, expected_seconds, forecast
from sweep.forks import Sharing, plan_sharing
from sweep.grid_table import grid_table
from sweep.ledger import Entries, Ledger
from sweep.names import Status
from sweep.packs import make_packs
from sweep.places import Places
from sweep.plan import Plan, make_plan
from sweep.storage import Manifest
from tests.sweep.small_sweep import make_cell
from trainers.canonical import stages
from trainers.cell import Cell, Condition, Phase
from trainers.options import Choice

CELL = make_cell()
PLAIN, BULK = (kind_of(CELL, stage) for stage in stages(CELL))


def test_the_kind_is_what_a_step_costs() -> None:
    """make_cell: 20 steps of SGD, then 80 of Bulk-SGD with k = 3."""
    assert work_of(CELL) == {PLAIN: 20, BULK: 80}
    assert work_of(CELL, 20) == {BULK: 80}
    assert work_of(CELL, 10, 50) == {PLAIN: 10, BULK: 30}
    assert work_of(make_cell(0.3, seed=5)) == work_of(CELL)
    assert PLAIN != BULK
    assert work_of(replace(CELL, batch_size=10)).keys().isdisjoint({PLAIN, BULK})


WAITING = Condition(chi_above=0.9, at_most=50, k=3, holdout_size=100)


def conditional(**changes: object) -> Cell:
    first = Phase(lr=0.1, until=replace(WAITING, **changes))  # type: ignore[arg-type]
    return replace(CELL, phases=(first, replace(CELL.phases[1], until=max(50, first.last))))


@pytest.mark.parametrize("name", ["every", "k", "holdout_size", "tolerance"])
def test_the_kind_has_of_a_condition_what_takes_time(name: str) -> None:
    [before, *_], [after, *_] = work_of(conditional()), work_of(conditional(**{name: 1}))
    assert len({before, after, PLAIN}) == 3


def test_the_kind_has_nothing_of_when_a_condition_is_met() -> None:
    others = conditional(chi_above=0.5, at_most=70, ema=0.1, holdout_seed=4)
    assert work_of(others).keys() == work_of(conditional()).keys()


def test_a_cost_is_read_back_and_damage_is_no_cost() -> None:
    cost = Cost(seconds=1.25, work={PLAIN: 20}, device="cpu on here")
    assert Cost.read(cost.to_text()) == cost
    for damaged in ("", "{", "[]", '{"seconds": 1}', '{"seconds": 1, "work": 3, "device": ""}'):
        assert Cost.read(damaged) is None


def test_rates_are_medians_and_unravel_mixed_cells() -> None:
    costs = [Cost(seconds=steps * 0.01, work={"a": steps}) for steps in (10, 100, 1000)]
    costs.append(Cost(seconds=50.0, work={"a": 1}))
    mixed = [Cost(seconds=1.0 + 0.2 * steps, work={"a": 100, "b": steps}) for steps in (10, 20)]
    assert rates_of([*mixed, *costs]) == {"a": pytest.approx(0.01), "b": pytest.approx(0.2)}


def test_cells_that_diverged_at_once_say_little_of_a_rate() -> None:
    """Their seconds are the first solve's; most cells of a sweep may be such."""
    costs = [Cost(seconds=3.0, work={"a": 60}), *(Cost(seconds=4.0, work={"a": 5}) for _ in range(4))]
    assert rates_of(costs) == {"a": pytest.approx(0.05)}


def test_kinds_that_are_never_seen_apart_share_a_rate() -> None:
    rates = rates_of([Cost(seconds=3.0, work={"a": 10, "b": 20}), Cost(seconds=0.0, work={})])
    assert rates == {"a": pytest.approx(0.1), "b": pytest.approx(0.1)}


def test_the_past_of_such_a_device_counts_first() -> None:
    costs = [
        Cost(seconds=1.0, work={"a": 10}, device="cpu on here"),
        Cost(seconds=4.0, work={"b": 10}, device="cpu on here"),
        Cost(seconds=0.1, work={"a": 10}, device="H200 on there"),
    ]
    assert rates_on(costs, on_gpu=True) == {"a": pytest.approx(0.01), "b": pytest.approx(0.4)}
    assert rates_on(costs, on_gpu=False) == {"a": pytest.approx(0.1), "b": pytest.approx(0.4)}


def schedule(
    cells: dict[str, Cell], rates: dict[str, float], *, slots: int, lanes: int = 1
) -> tuple[float, float]:
    sharing = plan_sharing(cells)
    found = estimate(cells, make_packs(cells, sharing, lanes=lanes), sharing, rates, slots=slots)
    return found.device_seconds, found.wall_seconds


def test_cells_are_played_onto_workers() -> None:
    cells = {f"c{seed}": make_cell(seed=seed) for seed in range(5)}
    rates = {PLAIN: 0.1, BULK: 0.1}
    assert schedule(cells, rates, slots=1) == (pytest.approx(50), pytest.approx(50))
    assert schedule(cells, rates, slots=2) == (pytest.approx(50), pytest.approx(30))
    assert schedule(cells, rates, slots=9) == (pytest.approx(50), pytest.approx(10))


def test_a_shared_prefix_is_paid_once_and_waited_for() -> None:
    """Three branches of one SGD run: 20 steps once, then three times 80; all branches wait for step 20."""
    cells = {f"c{alpha}": make_cell(alpha_dom=alpha) for alpha in (2, 4, 8)}
    rates = {PLAIN: 0.1, BULK: 0.1}
    assert schedule(cells, rates, slots=3) == (pytest.approx(2 + 24), pytest.approx(2 + 8))
    assert schedule(cells, rates, slots=1) == (pytest.approx(26), pytest.approx(26))


def test_the_schedule_of_many_forks_is_played_in_order() -> None:
    """Chains of branches, in an order in which most wait: as one pack after the other would be looked for."""
    cells = {
        f"{alpha}-{seed}-{until}": Cell(
            model=Choice("mlp"), dataset=Choice("mnist-5k"), seed=seed,
            phases=(Phase(lr=0.1, until=until), Phase(lr=0.1, alpha_dom=alpha, k=3, until=100)),
        )
        for until in (90, 50, 10) for alpha in (2, 4, 8) for seed in range(3)
    }  # fmt: skip
    rates = dict.fromkeys(kinds_of(cells), 0.1)
    for slots in (1, 2, 5):
        for lanes in (1, 2):
            sharing = plan_sharing(cells)
            packs = make_packs(cells, sharing, lanes=lanes)
            found = estimate(cells, packs, sharing, rates, slots=slots)
            assert found.wall_seconds == pytest.approx(played(cells, packs, sharing, found.seconds, slots))


def kinds_of(cells: Mapping[str, Cell]) -> set[str]:
    return {kind for cell in cells.values() for kind in work_of(cell)}


def played(
    cells: Mapping[str, Cell],
    packs: Sequence[Sequence[str]],
    sharing: Mapping[str, Sharing],
    seconds: Mapping[str, float],
    slots: int,
) -> float:
    """The schedule by its definition: look through all that wait whenever a worker is free."""
    there = {fork: math.inf for shared in sharing.values() for fork in shared.leaves}
    starts = {cell: shared.start for cell, shared in sharing.items()}
    free, waiting, end = [0.0] * slots, list(packs), 0.0

    def ready(pack: Sequence[str]) -> float:
        return max(there.get(start, 0.0) if (start := starts[cell]) else 0.0 for cell in pack)

    while waiting:
        now = min(free)
        pack = next((pack for pack in waiting if ready(pack) <= now), None) or min(waiting, key=ready)
        begun = max(now, ready(pack)) if math.isfinite(ready(pack)) else now
        took = math.fsum(seconds[cell] for cell in pack)
        for cell in pack:
            start = fork.step if (fork := starts[cell]) else 0
            for fork in sharing[cell].leaves:
                there[fork] = begun + took * (fork.step - start) / (cells[cell].num_steps - start)
        waiting.remove(pack)
        free[free.index(now)] = begun + took
        end = max(end, begun + took)
    return end


def test_what_nothing_is_known_of_is_counted_apart() -> None:
    cells = {"known": make_cell(), "unknown": replace(make_cell(), batch_size=7)}
    sharing = plan_sharing(cells)
    found = estimate(cells, [["known"], ["unknown"]], sharing, {PLAIN: 1.0, BULK: 2.0}, slots=1)
    assert found.device_seconds == pytest.approx(20 + 160)
    assert found.num_unknown == 1 and math.isnan(found.seconds["unknown"])


def test_the_recorded_cost_of_a_fork_is_its_own_part() -> None:
    manifest = Manifest(
        cell_id="c", step=60, attempt=2, checkpoint=None, parts=(), summary={"forked_from": {"step": 20}}
    )
    attempts = [
        {"train_seconds": 3.0, "lanes": 2, "device": "cpu", "hostname": "a"},
        {"train_seconds": 1.0, "lanes": 1, "device": "cuda", "device_name": "H200", "hostname": "b"},
    ]
    assert cost_of(CELL, manifest, attempts) == Cost(seconds=2.5, work={BULK: 40}, device="H200 on b")
    timed = [{"train_seconds": 3.0, "lanes": 2, "device_seconds": 2.75}, *attempts[1:]]
    assert cost_of(CELL, manifest, timed).seconds == 3.75


def test_the_probe_measures_each_kind_once() -> None:
    small = Choice.of("mlp", widths=(4,))
    first = Cell(
        model=small, dataset=Choice("mnist-5k"), holdout_size=1000, refresh_every=1,
        evaluate_every=500, divergence_every=500,
        phases=(Phase(lr=0.1, until=500), Phase(lr=0.1, alpha_dom=2, k=5, until=1000)),
    )  # fmt: skip
    lines: list[str] = []
    cells = {"a": first, "b": replace(first, seed=3)}
    rates = probe_rates(cells, seconds=0.6, data_folder=Path("."), say=lines.append)
    assert rates.keys() == work_of(first).keys()
    assert len(lines) == 2
    # A millisecond a step, give or take two orders.
    assert all(1e-5 < rate < 0.1 for rate in rates.values())
    plain, projected = rates.values()
    assert projected > plain
    assert cell_seconds(first, rates) == pytest.approx(500 * plain + 500 * projected)
    assert probe_rates(cells, seconds=0.6, data_folder=Path("."), known=rates) == rates


def test_the_probe_trains_the_stage_that_it_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A condition among them, and what follows it though it ends no later."""
    trained: list[Cell] = []

    def measure(trainer: object, cell: Cell, seconds: float) -> tuple[float, int]:
        trained.append(cell)
        return 0.0, 1

    monkeypatch.setattr("sweep.estimate._measure", measure)
    cell = conditional()
    rates = probe_rates({"c": cell}, seconds=0.1, data_folder=Path("."))
    assert rates.keys() == work_of(cell).keys() | {kind_of(cell, stages(cell)[1])}
    for stage, alone in zip(stages(cell), map(stages, trained), strict=True):
        assert alone[0].rule == stage.rule and alone[0].stop > 10_000
        assert (alone[0].condition is None) == (stage.condition is None)
    waits = stages(trained[0])[0].condition
    assert waits is not None and waits.chi_above > 0.999
    assert replace(waits, chi_above=0.9, at_most=50) == stages(cell)[0].condition


def test_a_probe_trains_with_a_trials_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """And gives back what the process had, also where it fails."""
    seen: list[int] = []

    def measure(*_: object) -> tuple[float, int]:
        seen.append(torch.get_num_threads())
        if len(seen) > 3:
            raise KeyboardInterrupt
        return 0.0, 1

    monkeypatch.setattr("sweep.estimate._measure", measure)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        probe_rates({"c": CELL}, seconds=0.1, data_folder=Path("."))
        assert torch.get_num_threads() == 3
        probe_rates(
            {"c": replace(CELL, phases=CELL.phases[:1])}, seconds=0.1, data_folder=Path("."), threads=2
        )
        with pytest.raises(KeyboardInterrupt):
            probe_rates({"c": CELL}, seconds=0.1, data_folder=Path("."))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 1, 2, 1]


@pytest.mark.parametrize("refresh_every", [1, 10, 1000])
def test_a_probe_takes_no_longer_than_it_may(refresh_every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = SlowTrainer(monkeypatch)
    cell = replace(CELL, phases=CELL.phases[1:], refresh_every=refresh_every)
    rate, steps = _measure(trainer, cell, 20.0)  # type: ignore[arg-type]
    assert 1 <= rate < 1.5 and steps >= 5
    assert trainer.seconds < 22


class SlowTrainer:
    """A step takes a second, the first one five more."""

    finished = False

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.step, self.seconds = 0, 0.0
        monkeypatch.setattr("sweep.estimate.time.monotonic", lambda: self.seconds)

    def advance(self, stop: int) -> None:
        self.seconds += stop - self.step + (0 if self.step else 5)
        self.step = stop


def test_the_ledger_gives_past_rates_and_what_is_done(ledger: Ledger, folder: Path) -> None:
    """One of two cells was run: 100 steps of which 20 plain took 5 s; 50 plain ones alone took 1 s."""
    space = load_space_text(
        "name: little\ndescription: x\nbase:\n  model: mlp\n  dataset: mnist-5k\n"
        "  phases: [{lr: 0.1, until: 20}, {lr: 0.1, alpha_dom: .inf, k: 3, until: 100}]\n"
        "axes: {seed: [0, 1, 2]}\n"
    )
    plan = make_plan(space)
    table = grid_table(plan.grids, plan.axes, plan.cell_ids)
    sweep = ledger.open_sweep(space, table)
    first, second, third = plan.cells
    for cell_id, status, cost in (
        (first, Status.COMPLETED, Cost(seconds=5.0, work={PLAIN: 20, BULK: 80})),
        (second, Status.FAILED, Cost(seconds=1.0, work={PLAIN: 50})),
    ):
        entries = Entries(tags={names.TAG_COST: cost.to_text()})
        run = ledger.start_cell(sweep, cell_id=cell_id, cell=plan.cells[cell_id], axes={})
        ledger.finish_cell(run.run_id, status, entries=entries)
    places = Places(
        home=folder, tracking_uri=f"sqlite:///{folder / 'mlflow.db'}", storage="", data_folder=folder
    )
    found = forecast(plan, places, lanes=1, slots=2)
    assert found.done == 1 and found.left.seconds.keys() == {second, third}
    assert found.left.device_seconds == pytest.approx(10.0) and found.left.wall_seconds == pytest.approx(5.0)
    assert "2 past cells" in found.basis
    text = dict(found.lines())
    assert text["a cell takes"] == "5 s" and "with 2 trials" in text["in all"]
    expected = expected_seconds(ledger, plan.cells)
    told = accuracy_text({**expected, first: 4.0}, ledger.lookup(list(plan.cells)))
    assert told == "training took 5 s of device time; estimated: 4 s, so it took 25% more"
    assert "no earlier run" in accuracy_text({first: math.nan}, ledger.lookup([first]))
    assert accuracy_text({second: 1.0}, ledger.lookup([second])) == ""
    stopped = accuracy_text({**expected, first: 40.0}, ledger.lookup(list(plan.cells)), stopped=True)
    assert stopped == "training took 5 s of device time", "what was stopped is not compared"
    runs = ledger.lookup(list(plan.cells))
    runs[third] = replace(runs[first], status=Status.DIVERGED, cost=Cost(seconds=2.0, work={}).to_text())
    assert accuracy_text({first: 4.0, third: 4.0}, runs) == (
        "training took 7 s of device time; 1 of the 2 cells can be compared with an estimate: "
        "5 s instead of 4 s, 25% more"
    )


def test_without_a_ledger_nothing_is_known_and_none_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = {"c": make_cell()}
    plan = Plan(
        name="p", grids=["g"], axes=[{}], cell_ids=["c"], cells=cells, first_points={"c": 0}, steps_naive=100
    )  # fmt: skip
    places = Places(
        home=tmp_path, tracking_uri=f"sqlite:///{tmp_path / 'x.db'}", storage="", data_folder=tmp_path
    )
    found = forecast(plan, places, lanes=1, slots=1)
    assert found.left.num_unknown == 1 and "--probe" in dict(found.lines())["time"]
    assert found.to_json()["estimate"]["device_hours"] is None
    monkeypatch.setattr("sweep.forecast.probe_rates", lambda *_, **__: {PLAIN: 0.1, BULK: 0.1})
    probed = forecast(plan, places, lanes=1, slots=1, probe_seconds=10.0)
    assert probed.basis == "a probe of about 10 s on this machine's CPU, with 1 thread"
    assert list(tmp_path.iterdir()) == []
