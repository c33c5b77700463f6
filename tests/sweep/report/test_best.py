"""The best configurations, and the space that goes on with them: the same cells, more seeds, more steps."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from search_spaces import Space, load_space, load_space_text
from search_spaces.reports import CurvesSpec
from search_spaces.search import OBJECTIVES
from sweep.best import best_space, find_best, least_is_best, value_text
from sweep.cli import main
from sweep.names import Status
from sweep.notebook import LoadedSweep
from sweep.record import Record, load_record
from sweep.report import make_report
from sweep.report.curve_lines import curves_data
from sweep.report.labels import metric_label
from sweep.search.account import Account
from tests.sweep.report.conftest import Store
from tests.sweep.report.stored_sweep import Point, StoredCell, ended, grid, store_sweep
from trainers.canonical import cell_id
from trainers.errors import ConfigError

LOSS, ACCURACY = "final/train_loss", "final/test_accuracy"

SPACE = """
name: two-grids
base:
  model: {name: mlp, widths: [8]}
  dataset: mnist-5k
  phases: [{lr: 0.1, until: 40}]
grids:
  - name: bulk
    set: {batch_size: 20}
    axes: {lr: [0.1, 0.2], alpha_dom: [2, .inf], seed: [0, 1]}
  - name: named
    axes:
      method: {choices: {sgd: {loss: mse}, other: {loss: cross_entropy}}}
      seed: [0, 1]
"""
LOSSES = {
    # Seed 1 of the lowest loss diverged; the next has the larger spread.
    (("lr", 0.2), ("alpha_dom", math.inf)): (0.01, None),
    (("lr", 0.2), ("alpha_dom", 2)): (0.1, 0.3),
    (("lr", 0.1), ("alpha_dom", math.inf)): (0.25, 0.27),
    (("lr", 0.1), ("alpha_dom", 2)): (0.5, 0.5),
    (("method", "sgd"),): (0.4, 0.4),
    (("method", "other"),): (0.22, 0.24),
}


@pytest.fixture(scope="session")
def space() -> Space:
    return load_space_text(SPACE)


@pytest.fixture(scope="session")
def name(store: Store, space: Space) -> str:
    points: list[Point] = []
    cells: dict[str, StoredCell] = {}
    for point in space.points():
        axes = dict(point.axes)
        seed = int(axes["seed"])
        value = LOSSES[tuple((axis, label) for axis, label in axes.items() if axis != "seed")][seed]
        address = cell_id(point.cell)
        points.append((point.grid, axes, address))
        status = Status.DIVERGED if value is None else Status.COMPLETED
        cells[address] = ended(
            9.0 if value is None else value, 0.5 + (value or 0.0), status=status, seed=seed
        )
    store_sweep(store.client, "two", points, cells, space_text=space.text, root=store.root)
    return "two"


@pytest.fixture(scope="session")
def record(store: Store, name: str) -> Record:
    return load_record(store.uri, name)


def test_configurations_are_ranked_with_all_their_seeds(record: Record) -> None:
    metric, found = find_best(record, top=10)
    assert metric == LOSS
    assert [one.values[LOSS].mean for one in found] == pytest.approx([0.2, 0.23, 0.26, 0.4, 0.5])
    assert (found[0].axes, found[0].seeds, found[0].grid) == ({"lr": 0.2, "alpha_dom": 2}, (0, 1), "bulk")
    assert found[0].values[LOSS].std == pytest.approx(0.2 / math.sqrt(2))
    assert (found[1].axes, found[1].grid) == ({"method": "other"}, "named")
    metric, [best] = find_best(record, metric=ACCURACY)
    assert best.values[ACCURACY].mean == pytest.approx(1.0), "of accuracies the largest"


@pytest.mark.parametrize("metric", OBJECTIVES)
def test_which_way_is_better_is_said_alike_everywhere(metric: str) -> None:
    assert least_is_best(metric) is metric_label(metric).lower_is_better is (OBJECTIVES[metric] == "minimize")


def test_the_best_by_steps_has_the_fewest_as_a_search_has_it(store: Store) -> None:
    points = grid("g", {"lr": [0.1, 0.2]})
    cells = {cell: ended(0.5, steps=int(1000 * axes["lr"])) for _, axes, cell in points}
    _, found = find_best(store.record(points, cells), metric="final/steps", top=2)
    assert [one.axes["lr"] for one in found] == [0.1, 0.2]


def test_what_diverged_is_not_among_the_best_by_whether_it_did(store: Store) -> None:
    points = grid("g", {"lr": [0.1, 0.2]})
    fates = {0.1: Status.DIVERGED, 0.2: Status.COMPLETED}
    cells = {cell: ended(0.5, status=fates[axes["lr"]]) for _, axes, cell in points}
    _, found = find_best(store.record(points, cells), metric="status/diverged", top=2)
    assert [one.axes["lr"] for one in found] == [0.2]


def test_places_of_one_experiment_are_one_of_the_best(store: Store) -> None:
    """As 0.05 / 0.5 and 0.1 / 1 are in Bulk-SGD."""
    (first, second), (other,) = grid("g", {"lr": [0.05, 0.1]}), grid("g", {"lr": [0.2]})
    points = [first, (*second[:2], first[2]), other]
    record = store.record(points, {first[2]: ended(0.1), other[2]: ended(0.2)})
    _, found = find_best(record, top=2)
    assert [one.axes["lr"] for one in found] == [0.05, 0.2]


def test_as_a_data_frame(record: Record) -> None:
    frame = LoadedSweep(record).best(top=2)
    assert frame[LOSS].tolist() == pytest.approx([0.2, 0.23]) and frame["lr"].tolist()[0] == 0.2
    assert frame["method"].isna().tolist() == [True, False] and frame["method"][1] == "other"
    assert frame[f"{LOSS} std"].tolist() == pytest.approx([0.1414, 0.01414], rel=1e-3)
    assert [len(cells) for cells in frame["cells"]] == [2, 2]


def test_a_metric_without_a_value_is_no_number(store: Store) -> None:
    """Of a regression there is no accuracy, and JSON has no NaN."""
    points = grid("g", {"lr": [0.1]})
    cells = {points[0][2]: ended(0.5)}
    del cells[points[0][2]].metrics[ACCURACY]
    _, [found] = find_best(store.record(points, cells))
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["metrics"] == {
        LOSS: {"mean": 0.5, "std": None}
    }
    assert (value_text(found, LOSS), value_text(found, ACCURACY)) == ("0.500", "–")


def test_what_cannot_be_ranked_is_said(record: Record, store: Store) -> None:
    with pytest.raises(ConfigError, match="final/train_loss"):
        find_best(record, metric="final/train_los")
    points = grid("g", {"lr": [0.1, 0.2]})
    lost = {cell: ended(9.0, status=Status.DIVERGED) for _, _, cell in points}
    with pytest.raises(ConfigError, match="no configuration has completed"):
        find_best(store.record(points, lost))


def test_the_space_has_their_cells_and_takes_seeds_and_steps(
    record: Record, space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["sweep"])
    metric, found = find_best(record, top=3)
    path = tmp_path / "best.yaml"
    path.write_text(best_space(space, found, metric=metric, sweep="two", file=str(path)))
    assert f"sweep run {path} --set 'seed=[0,1,2,3,4]'" in path.read_text()
    assert [cell_id(point.cell) for point in load_space(path).points()] == [
        cell for one in found for cell in one.cells
    ]
    more = list(load_space(path, overrides=["seed=[0,1,2]", "num_steps=100"]).points())
    assert len(more) == 9 and {point.cell.num_steps for point in more} == {100}
    assert {point.cell.batch_size for point in more if point.grid != "best-2"} == {20}


def test_what_goes_on_draws_the_best_against_each_other(
    record: Record, space: Space, store: Store, tmp_path: Path
) -> None:
    metric, found = find_best(record, top=3)
    text = best_space(space, found, metric=metric, sweep="two", file="best.yaml")
    going_on = load_space_text(text)
    points: list[Point] = [(point.grid, dict(point.axes), cell_id(point.cell)) for point in going_on.points()]
    store_sweep(store.client, "two-best", points, {}, space_text=text, root=store.root)
    again = load_record(store.uri, "two-best")
    figure, _ = make_report(again, tmp_path)
    assert figure.path == tmp_path / "figures" / "best.png" and figure.path.is_file()
    (spec,) = again.reports
    assert isinstance(spec, CurvesSpec) and spec.metrics == ("train/loss", "test/accuracy")
    losses, _ = curves_data(again, spec).panels
    assert [(line.key, line.num_seeds) for line in losses.lines] == [
        (("best-1",), 2), (("best-2",), 2), (("best-3",), 2)
    ]  # fmt: skip


def test_its_head_can_be_typed_from_where_one_is(
    record: Record, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["elsewhere/bin/sweep"])
    metric, found = find_best(record)
    given = {"--tracking-uri": "http://here"}
    text = best_space(space, found, metric=metric, sweep="two", file="my best.yaml", given=given)
    typed = "#   elsewhere/bin/sweep run 'my best.yaml' --tracking-uri http://here"
    assert f"{typed} --set 'seed=[0,1,2,3,4]'" in text


def test_of_a_search_with_seeds_and_risk(store: Store, tmp_path: Path) -> None:
    text = SPACE[: SPACE.index("grids:")] + (
        "search:\n  axes: {lr: {low: 0.01, high: 1, log: true}, k: {low: 2, high: 9}, alpha_dom: [2, .inf]}\n"
        "  seeds: [3, 4]\n  cells: 8\n  risk: 1\n"
    )
    space = load_space_text(text)
    points: list[Point] = []
    cells: dict[str, StoredCell] = {}
    for rank, (grid_name, losses) in enumerate([("known", (0.2, 0.2)), ("search", (0.1, 0.2))]):
        for point, loss in zip(
            space.sampled({"lr": 0.123456 * (1 + rank), "k": 5, "alpha_dom": math.inf}), losses, strict=True
        ):
            points.append((grid_name, dict(point.axes), cell_id(point.cell)))
            cells[points[-1][2]] = ended(loss)
    plain = store.record(points, cells)
    record = replace(plain, search=Account(search=space.search, trials=(), cells=4, steps=0, seconds=0.0))
    _, found = find_best(record, top=5)
    assert [one.axes["lr"] for one in found] == [0.123456, 0.246912], "0.15 + 0.07 is worse than 0.2"
    text = best_space(space, found, metric=LOSS, sweep="s", file="best.yaml")
    assert [cell_id(point.cell) for point in load_space_text(text).points()] == [
        cell for one in found for cell in one.cells
    ]


def test_the_command(
    name: str,
    store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["sweep"])

    def said(*more: str) -> str:
        with pytest.raises(SystemExit) as end:
            main(["best", name, "--tracking-uri", store.uri, *more])
        assert end.value.code == 0
        return capsys.readouterr().out

    path = tmp_path / "new" / "best.yaml"
    text = said("--top", "2", "--out", str(path))
    assert "0.200 ±0.141" in text and "other" in text and str(path) in text
    assert "the best by final/train_loss, the least first" in text
    assert len(load_space(path).grids) == 2
    shown = said()
    assert f"sweep best {name} --out best.yaml --tracking-uri {store.uri}" in shown
    assert "sweep cell " in shown
    path = tmp_path / "my best.yaml"
    assert f"sweep run '{path}' --tracking-uri {store.uri}   (" in said("--out", str(path))
    assert f"#   sweep run '{path}' --tracking-uri {store.uri} --set" in path.read_text()
    first = json.loads(said("--json"))[0]
    assert json.loads(said("--json", "--top", "3"))[2]["axes"] == {"lr": 0.1, "alpha_dom": "inf"}
    assert first["axes"] == {"lr": 0.2, "alpha_dom": 2.0} and first["metrics"][LOSS]["mean"] == 0.2
