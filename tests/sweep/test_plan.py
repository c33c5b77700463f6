"""Plans: distinct cells in order, step counts against brute force, and a space of 100,000 cells."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from search_spaces import load_space, load_space_text
from sweep.cli import main
from sweep.forks import plan_sharing, steps_to_train
from sweep.plan import Plan, make_plan
from trainers.canonical import canonical_json, cell_id, record_form, trajectory_id
from trainers.cell import Cell, Phase
from trainers.errors import ConfigError
from trainers.options import Choice

# The stated bounds are 10 s and 1 GiB; the machine may be shared and slow.
LARGE_CELLS, LARGE_SECONDS, LARGE_BYTES = 100_000, 10.0, 2**30

SPACE = """
name: grid
base:
  model: mlp
  dataset: mnist-5k
  phases: [{lr: 0.1, until: 100}]
axes:
  alpha_dom: [1, 2, .inf]
  beta_bulk: [1, 2]
  k: [5, 10]
"""


def test_points_share_their_cells() -> None:
    plan = make_plan(load_space_text(SPACE))
    points = list(load_space_text(SPACE).points())
    assert plan.cell_ids == [cell_id(point.cell) for point in points]
    assert list(plan.axes) == [point.axes for point in points]
    assert set(plan.grids) == {"grid"}
    assert (len(plan.cell_ids), len(plan.cells)) == (12, 10)
    assert list(plan.cells) == list(dict.fromkeys(plan.cell_ids))
    assert plan.trials() == [(address,) for address in plan.cells]
    for address, cell in plan.cells.items():
        assert cell_id(cell) == address
        assert plan.axes_of(address) == points[plan.cell_ids.index(address)].axes
    # Equal rates: k = 10 asks for the cell of k = 5.
    assert plan.cell_ids[0] == plan.cell_ids[1]
    assert plan.axes_of(plan.cell_ids[1])["k"] == 5


def test_what_is_derived_from_a_plan_grows_with_it() -> None:
    points = list(load_space_text(SPACE).points())
    plan = Plan("grid")
    plan.add(points[0])
    assert (plan.steps_unique, plan.steps_planned, list(plan.sharing)) == (100, 100, plan.cell_ids)
    plan.add(points[-1])
    assert (plan.steps_unique, plan.steps_planned, list(plan.sharing)) == (200, 200, plan.cell_ids)


def test_numbers() -> None:
    values = make_plan(load_space_text(SPACE)).to_json()
    assert json.loads(json.dumps(values)) == values
    assert values["name"] == "grid"
    assert (values["cells"], values["unique_cells"], values["trials"]) == (12, 10, 10)
    assert (values["steps_naive"], values["steps_unique"], values["steps_planned"]) == (1200, 1000, 1000)
    assert values["cell_ids"] == list(make_plan(load_space_text(SPACE)).cells)


def test_what_is_said_counts_cells_as_a_run_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    path = tmp_path / "grid.yaml"
    path.write_text(SPACE)
    with pytest.raises(SystemExit):
        main(["plan", str(path)])
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["grid", "points", "12"] in said and ["cells", "10"] in said


@pytest.mark.parametrize(
    ("options", "lanes", "slots"),
    [
        ("--lanes auto", 10, 2),
        ("--lanes auto --gpus-per-trial 0.5", 10, 4),
        ("--lanes auto --gpus-per-trial 0", 1, 7),
        ("--lanes 2", 2, 7),
        ("--lanes 2 --gpus-per-trial 1", 2, 2),
        ("--lanes auto --slots 3", 10, 3),
    ],
)
def test_trials_at_a_time_are_those_of_the_devices_that_are_planned_for(
    options: str,
    lanes: int,
    slots: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path))
    monkeypatch.setattr("sweep.lanes.free_gpu_bytes", lambda: 80 * 2**30)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("os.cpu_count", lambda: 7)
    path = tmp_path / "grid.yaml"
    path.write_text(SPACE)
    with pytest.raises(SystemExit):
        main(["plan", str(path), "--json", *options.split()])
    said = json.loads(capsys.readouterr().out)
    assert (said["lanes"], said["estimate"]["slots"]) == (lanes, slots)


def test_grids_that_overlap_share_cells() -> None:
    head, axes = SPACE.split("axes:")
    indented = axes.replace("\n", "\n  ")
    both = f"grids:\n- name: a\n  axes: {{alpha_dom: [1, 2]}}\n- name: b\n  axes:{indented}"
    plan = make_plan(load_space_text(head + both))
    assert len(plan.cell_ids) == 14
    assert len(plan.cells) == 10
    # SGD, and alpha_dom = 2 with k left to the data set, which is 10.
    assert plan.cell_ids[:2] == [plan.cell_ids[2], plan.cell_ids[7]]
    assert plan.axes[7] == {"alpha_dom": 2.0, "beta_bulk": 1.0, "k": 10}


def test_the_same_space_gives_the_same_plan() -> None:
    space = load_space("demo")
    assert make_plan(space) == make_plan(load_space_text(space.text))


def test_a_point_that_is_no_cell_is_named() -> None:
    # Neither at the first nor at the last values: found by the plan and not when loading.
    text = SPACE.replace("[1, 2, .inf]", "[1, .inf, 2]").replace(
        "beta_bulk: [1, 2]", "beta_bulk: [1, .inf, 2]"
    )
    space = load_space_text(text)
    with pytest.raises(ConfigError, match=r"grids\.grid at alpha_dom=inf, beta_bulk=inf, k=5: .*both"):
        make_plan(space)


def cell(*phases: Phase, **fields: object) -> Cell:
    return Cell(model=Choice("mlp"), dataset=Choice("mnist-5k"), phases=phases, **fields)  # type: ignore[arg-type]


def sgd(until: int, lr: float = 0.1) -> Phase:
    return Phase(lr=lr, until=until)


def bulk(until: int, k: int = 10) -> Phase:
    return Phase(lr=0.1, until=until, alpha_dom=float("inf"), k=k)


@pytest.mark.parametrize(
    ("cells", "steps"),
    [
        ([cell(sgd(10))], 10),
        ([cell(sgd(10)), cell(sgd(30))], 30),
        ([cell(sgd(10), bulk(20)), cell(sgd(15), bulk(20)), cell(sgd(20))], 20 + 10 + 5),
        ([cell(sgd(10), bulk(20)), cell(sgd(10), bulk(20, k=5))], 10 + 10 + 10),
        ([cell(sgd(10), bulk(20)), cell(sgd(10), bulk(20), refresh_every=5)], 10 + 10 + 10),
        ([cell(sgd(10)), cell(sgd(10), refresh_every=5), cell(sgd(10), evaluate_every=1)], 20),
        (
            [
                cell(sgd(10)),
                cell(sgd(10), seed=1),
                cell(sgd(10), batch_size=10),
                cell(sgd(10), init="xavier"),
            ],
            40,
        ),
        (
            [
                cell(sgd(10), bulk(20), sgd(40)),
                cell(sgd(10), bulk(20), sgd(30)),
                cell(sgd(10), bulk(25), sgd(30)),
            ],
            55 - 5 + 0,
        ),
        ([cell(sgd(20), divergence_every=100), cell(sgd(20), divergence_every=50)], 40),
    ],
)
def test_steps_left_by_sharing_against_addresses(cells: list[Cell], steps: int) -> None:
    addresses = {
        (trajectory_id(one, until=step), canonical_json(record_form(one)))
        for one in cells
        for step in range(1, one.num_steps + 1)
    }
    named = {str(index): one for index, one in enumerate(cells)}
    assert steps_to_train(named, plan_sharing(named)) == len(addresses) == steps


def test_planning_imports_neither_torch_nor_ray_nor_mlflow() -> None:
    code = (
        "import sys, search_spaces as s, sweep.forecast, sweep.plan as p, sweep.trainable as t; "
        "space = s.load_space('demo'); plan = p.make_plan(space); plan.to_json(); "
        "t.require_trainable(space, plan); "
        "print([name for name in ('torch', 'ray', 'mlflow') if name in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_hundred_thousand_cells() -> None:
    code = """
import json, pathlib, time
from search_spaces import load_space_text
from sweep.plan import make_plan
from sweep.trainable import require_trainable
text = '''
name: large
base: {model: mlp, dataset: mnist-5k, phases: [{lr: 0.1, until: 20000}]}
axes:
  alpha_dom: [%s]
  beta_bulk: [%s]
  seed: [%s]
''' % tuple(", ".join(map(str, values)) for values in (
    [i / 7 for i in range(1, 101)], [i / 11 for i in range(1, 101)], range(10)))
begun = time.process_time()
space = load_space_text(text)
plan = make_plan(space)
require_trainable(space, plan)
values = plan.to_json()
seconds = time.process_time() - begun
# Not ru_maxrss, which a child takes over from the process that started it.
status = dict(line.split(':') for line in pathlib.Path('/proc/self/status').read_text().splitlines())
peak = int(status['VmHWM'].split()[0]) * 1024
print(json.dumps([values["cells"], values["unique_cells"], seconds, peak]))
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    cells, unique, seconds, peak = json.loads(done.stdout)
    assert (cells, unique) == (LARGE_CELLS, LARGE_CELLS)
    assert seconds < LARGE_SECONDS
    assert peak < LARGE_BYTES
