"""Shared prefixes: who waits for whom, and what is trained once."""

import math
from collections.abc import Sequence

from sweep.forks import Fork, Sharing, fork_at, lines_of, plan_sharing, steps_to_train
from trainers.cell import Cell, Phase, Probe
from trainers.options import Choice


def cell(*phases: Phase, **fields: object) -> Cell:
    return Cell(model=Choice.of("mlp"), dataset=Choice.of("mnist-5k"), phases=phases, **fields)  # type: ignore[arg-type]


def sgd(until: int, lr: float = 0.1) -> Phase:
    return Phase(lr=lr, until=until)


def bulk(until: int, k: int = 10) -> Phase:
    return Phase(lr=0.1, alpha_dom=math.inf, k=k, until=until)


def shared(cells: Sequence[Cell]) -> tuple[list[Sharing], int]:
    named = {str(index): one for index, one in enumerate(cells)}
    plan = plan_sharing(named)
    return [plan[str(index)] for index in range(len(cells))], steps_to_train(named, plan)


def test_branches_fork_from_the_trunk_at_their_switch_points() -> None:
    cells = [cell(sgd(500)), *(cell(sgd(step), bulk(500)) for step in (10, 20, 300))]
    plans, steps = shared(cells)
    assert [plan.start and plan.start.step for plan in plans] == [None, 10, 20, 300]
    assert [fork.step for fork in plans[0].leaves] == [10, 20, 300]
    assert steps == 500 + 490 + 480 + 200


def test_without_a_trunk_among_the_cells_one_of_them_leads() -> None:
    cells = [cell(sgd(100), bulk(200, k=k)) for k in (1, 5, 10)]
    plans, steps = shared(cells)
    assert [plan.start and plan.start.step for plan in plans] == [None, 100, 100]
    assert [fork.step for fork in plans[0].leaves] == [100]
    assert plans[1].start == plans[0].leaves[0]
    assert steps == 200 + 100 + 100


def test_followers_share_among_themselves_what_the_leader_lacks() -> None:
    cells = [
        cell(sgd(400)),
        cell(sgd(100), bulk(200), sgd(300, lr=0.2)),
        cell(sgd(100), bulk(200), sgd(300, lr=0.3)),
    ]
    plans, steps = shared(cells)
    assert [plan.start and plan.start.step for plan in plans] == [None, 100, 200]
    assert [fork.step for fork in plans[1].leaves] == [200]
    assert steps == 400 + 200 + 100


def test_a_shorter_run_ends_where_the_longer_one_passes() -> None:
    cells = [cell(sgd(100)), cell(sgd(300))]
    plans, steps = shared(cells)
    assert plans[0].start == plans[1].leaves[0] == fork_at(cells[0], 100)
    assert steps == 300
    assert [line for line, _, _ in lines_of(cells[0])] == [line for line, _, _ in lines_of(cells[1])]
    assert fork_at(cells[0], 100) == fork_at(cells[1], 100)


def test_what_differs_from_the_start_shares_nothing() -> None:
    probe = Probe(name="curvature")
    cells = [
        cell(sgd(100)),
        cell(sgd(50), bulk(100), seed=1),
        cell(sgd(50), bulk(100), batch_size=25),
        cell(sgd(50), bulk(100), evaluate_every=10),
        cell(sgd(50), bulk(100), probes=(probe,)),
        cell(sgd(50, lr=0.2), bulk(100)),
        cell(bulk(100)),
    ]
    plans, steps = shared(cells)
    assert all(plan == Sharing() for plan in plans)
    assert steps == sum(one.num_steps for one in cells)


def test_the_eigenspace_settings_matter_only_while_a_phase_projects() -> None:
    cells = [cell(sgd(50), bulk(100), holdout_size=size) for size in (200, 500)]
    plans, _ = shared(cells)
    assert plans[1].start == plans[0].leaves[0]
    assert fork_at(cells[0], 50) == fork_at(cells[1], 50)
    assert fork_at(cells[0], 51) != fork_at(cells[1], 51)


def test_nobody_waits_for_somebody_who_waits_for_him() -> None:
    cells = [
        cell(
            *([sgd(first)] if first else []),
            *([bulk(second, k=k)] if second > first else []),
            sgd(200, lr=lr),
        )
        for first in (0, 30, 60)
        for second in (60, 90)
        for k in (1, 2)
        for lr in (0.1, 0.3)
    ]
    named = {str(index): one for index, one in enumerate(cells)}
    plan = plan_sharing(named)
    left_by: dict[Fork, str] = {fork: name for name, own in plan.items() for fork in own.leaves}
    for name, own in plan.items():
        steps = []
        start = own.start
        while start is not None:
            steps.append(start.step)
            start = plan[left_by[start]].start
            assert len(steps) <= len(plan), f"cell {name} waits in a circle"
        assert steps == sorted(steps, reverse=True)
    assert steps_to_train(named, plan) <= sum(one.num_steps for one in cells)
