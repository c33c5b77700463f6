"""What an override of the base cell reaches, where grids and searches set the same."""

from pathlib import Path

import pytest

from search_spaces import load_space
from tests.search_spaces.malformed import GOOD
from tests.search_spaces.test_space import TWO_PHASES
from trainers.cell import Condition
from trainers.errors import ConfigError
from trainers.options import Choice

ONE_GRID = GOOD[: GOOD.index("  - name: sgd")]
BY_SET = (
    TWO_PHASES + "grids: [{name: g, set: {phases.1.lr: 0.5, model.activation: tanh}, axes: {k: [1, 2]}}]\n"
)
BY_LABELS = TWO_PHASES + (
    "axes: {method: {choices: {one: {phases.-1.lr: 0.3}, two: {phases.1.lr: 0.4, phases.0.lr: 0.4}}}}\n"
)
SEARCH = TWO_PHASES + "search: {axes: {lr: {low: 0.1, high: 1}, k: [1, 2]}, seeds: [0, 1], cells: 2}\n"


def file_of(folder: Path, text: str) -> Path:
    path = folder / "s.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "override", "by", "instead"),
    [
        (ONE_GRID, "base.phases.1.lr=0.7", "axis 'lr'", "lr"),
        (ONE_GRID, "base.phases.-1.lr=0.7", "axis 'lr'", "lr"),
        (BY_SET, "lr=0.7", "set.phases.1.lr", "grids.g.set.phases.1.lr"),
        (BY_SET, "base.model.activation=relu", "set.model.activation", "grids.g.set.model.activation"),
        (BY_LABELS, "lr=0.7", "axis 'method'", "grids.grid.axes.method.choices.LABEL"),
        (SEARCH, "base.phases.1.lr=0.7", "axis 'lr'", "search.axes.lr"),
        (SEARCH, "seed=3", "axis 'seed'", "search.seeds"),
        (SEARCH, "k=3", "axis 'k'", "search.axes.k"),
    ],
)
def test_what_changes_no_point_is_refused(
    tmp_path: Path, text: str, override: str, by: str, instead: str
) -> None:
    said = f"--set {override.partition('=')[0]}: has no effect, since all points set it themselves ({by}). "
    with pytest.raises(ConfigError) as caught:
        load_space(file_of(tmp_path, text), overrides=[override])
    assert str(caught.value) == f"{said}Set {instead} instead."


def test_what_changes_no_point_of_a_small_variant_is_refused(tmp_path: Path) -> None:
    path = file_of(tmp_path, BY_SET + "smoke: {base.phases.1.lr: 0.7}\n")
    with pytest.raises(ConfigError, match=r"smoke base\.phases\.1\.lr: has no effect"):
        load_space(path, smoke=True)
    assert load_space(path)


@pytest.mark.parametrize(
    ("name", "override", "said"),
    [
        ("zs25-table1", "base.phases.0.k=3", "grids.bulk: axis 'k'"),
        ("mmb26", "num_steps=500", "grids.batch-size: set.phases.0.until"),
        ("say25-table1", "lr=0.5", "axis 'method' at Adam without momentum, Adam; grids.cnn: axis 'method'"),
    ],
)
def test_what_misses_some_points_says_which(
    name: str, override: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    load_space(name, overrides=[override])
    [line] = caplog.messages
    assert line.startswith(f"--set {override.partition('=')[0]}: does not reach") and said in line


@pytest.mark.parametrize(
    ("text", "override"),
    [
        (BY_SET, "base.phases.0.lr=0.7"),
        (BY_SET, "base.phases.*.lr=0.7"),
        (BY_SET, "base.model={name: mlp, widths: [3]}"),
        (BY_SET, "lr=[0.7]"),
        (SEARCH, "num_steps=12"),
        (SEARCH, "search.seeds=[3]"),
    ],
)
def test_what_changes_points_is_taken(tmp_path: Path, text: str, override: str) -> None:
    path = file_of(tmp_path, text)
    assert load_space(path, overrides=[override]) != load_space(path)


@pytest.mark.parametrize(
    ("override", "is_set"),
    [
        ("loss={name: mse, scale: sum}", lambda cell: cell.loss == Choice.of("mse", scale="sum")),
        ("optimizer={name: sam, rho: 0.1}", lambda cell: cell.phases[1].optimizer.name == "sam"),
        (
            "switch_step={chi_above: 0.9, at_most: 5}",
            lambda cell: cell.phases[0].until == Condition(chi_above=0.9, at_most=5),
        ),
    ],
)
def test_a_mapping_that_is_no_axis_sets_the_base_cell(tmp_path: Path, override: str, is_set: object) -> None:
    assert callable(is_set)
    points = list(load_space(file_of(tmp_path, BY_LABELS), overrides=[override]).points())
    assert len(points) == 2 and all(is_set(point.cell) for point in points)


def test_a_mapping_with_values_is_an_axis(tmp_path: Path) -> None:
    path = file_of(tmp_path, BY_LABELS)
    assert len(list(load_space(path, overrides=["k={values: [1, 2, 3]}"]).points())) == 6
    with pytest.raises(ConfigError, match="axis 'loss'"):
        load_space(path, overrides=["loss=[mse, cross_entropy]", "loss={name: mse}"])
