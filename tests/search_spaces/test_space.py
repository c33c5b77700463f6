"""Loading, expanding and overriding spaces."""

import itertools
import math
from pathlib import Path

import pytest

from search_spaces import Space, list_spaces, load_space, load_space_text, read_stored_space, space_file
from search_spaces.yaml_text import read_yaml, write_yaml
from tests.search_spaces.malformed import GOOD
from trainers.cell import Cell, Condition, Phase, Probe, Solver
from trainers.errors import ConfigError
from trainers.options import Choice

HEAD = "name: s\nbase:\n  model: mlp\n  dataset: mnist-5k\n  phases:\n    - {lr: 0.1, until: 5}\n"
TWO_PHASES = HEAD + "    - {lr: 0.2, until: 9}\n"


def cells(space: Space) -> list[Cell]:
    return [point.cell for point in space.points()]


def test_a_cell_has_every_field_as_stated() -> None:
    (point,) = load_space_text(
        """
name: everything
base:
  model: {name: mlp, widths: [30, 20], activation: tanh}
  dataset: {name: mnist-5k, normalize: scale}
  loss: {name: mse, scale: sum}
  seed: 3
  batch_size: 25
  holdout_size: null
  holdout_seed: 4
  refresh_every: 7
  solver: {tolerance: 1e-3, guard: 2, max_products: 5, max_cold_products: 50}
  init: xavier
  divergence_factor: 20
  divergence_every: 11
  evaluate_every: 13
  probes: [curvature, {name: alignment, every: 26, k: 4}]
  phases:
    - {lr: 1e-1, until: 1_0, optimizer: sgd, alpha_dom: inf, beta_bulk: 2, k: 3}
    - {lr: 0.05, until: 20, beta_bulk: .inf}
grids: [{name: only}]
""".replace("{name: mnist-5k, normalize: scale}", "mnist-5k")
    ).points()
    assert (point.grid, point.axes) == ("only", {})
    assert point.cell == Cell(
        model=Choice.of("mlp", widths=[30, 20], activation="tanh"),
        dataset=Choice("mnist-5k"),
        loss=Choice.of("mse", scale="sum"),
        seed=3,
        batch_size=25,
        holdout_size=None,
        holdout_seed=4,
        refresh_every=7,
        solver=Solver(tolerance=1e-3, guard=2, max_products=5, max_cold_products=50),
        init="xavier",
        divergence_factor=20.0,
        divergence_every=11,
        evaluate_every=13,
        probes=(Probe(name="curvature"), Probe(name="alignment", every=26, options=(("k", 4),))),
        phases=(
            Phase(lr=0.1, until=10, alpha_dom=math.inf, beta_bulk=2, k=3),
            Phase(lr=0.05, until=20, beta_bulk=math.inf),
        ),
    )


def test_defaults_are_those_of_the_cell() -> None:
    (cell,) = cells(load_space_text(HEAD + "grids: [{name: only}]\n"))
    assert cell == Cell(model=Choice("mlp"), dataset=Choice("mnist-5k"), phases=(Phase(lr=0.1, until=5),))


def test_a_grid_is_the_product_of_its_axes_and_a_space_the_concatenation() -> None:
    space = load_space_text(GOOD)
    points = [(point.grid, tuple(point.axes.items())) for point in space.points()]
    product = itertools.product((1.0, 2.0, math.inf), (0.1, 0.2))
    assert points == [
        *(("main", (("alpha_dom", alpha), ("lr", lr))) for alpha, lr in product),
        ("sgd", (("method", "SGD"),)),
    ]
    assert space.axis_names == ("alpha_dom", "lr", "method")
    last = [cell.phases[-1] for cell in cells(space)]
    assert [(phase.alpha_dom, phase.lr) for phase in last[:6]] == [
        (alpha, lr) for alpha in (1, 2, math.inf) for lr in (0.1, 0.2)
    ]
    assert {cell.phases[0].lr for cell in cells(space)} == {0.1}
    assert {phase.k for phase in last} == {10}


def test_top_level_axes_are_one_grid() -> None:
    space = load_space_text(HEAD + "axes: {seed: [0, 1]}\n")
    assert [(point.grid, point.cell.seed) for point in space.points()] == [("grid", 0), ("grid", 1)]


@pytest.mark.parametrize(
    ("axis", "changed"),
    [
        ("switch_step: [3]", {(0, "until"): 3}),
        ("num_steps: [30]", {(1, "until"): 30}),
        ("k: [7]", {(1, "k"): 7}),
        ("beta_bulk: [inf]", {(1, "beta_bulk"): math.inf}),
        ("rate: {path: phases.*.lr, values: [0.3]}", {(0, "lr"): 0.3, (1, "lr"): 0.3}),
        (
            "rate: {path: [phases.0.lr, phases.-1.alpha_dom], values: [0.3]}",
            {(0, "lr"): 0.3, (1, "alpha_dom"): 0.3},
        ),
        ("lr: {path: phases.0.lr, values: [0.3]}", {(0, "lr"): 0.3}),
        ("m: {choices: {a: {phases.0.k: 4, phases.1.lr: 0.5}}}", {(0, "k"): 4, (1, "lr"): 0.5}),
    ],
)
def test_where_axes_go(axis: str, changed: dict[tuple[int, str], float]) -> None:
    (cell,) = cells(load_space_text(TWO_PHASES + f"axes: {{{axis}}}\n"))
    expected = [{"lr": 0.1, "until": 5}, {"lr": 0.2, "until": 9}]
    for (phase, field), value in changed.items():
        expected[phase][field] = value
    assert cell.phases == tuple(Phase(**values) for values in expected)


def test_axes_of_choices_solver_and_probes() -> None:
    space = load_space_text(
        HEAD.replace("  phases", "  probes: [{name: curvature, k: 3}]\n  phases")
        + "axes:\n  model: [mlp, cnn]\n  loss: [mse, cross_entropy]\n"
        "  tolerance: {path: solver.tolerance, values: [1e-2, 1e-3]}\n"
        "  width: {path: probes.0.k, values: [3, 5]}\n"
        "  activation: {path: model.activation, values: [relu, tanh]}\n"
    )
    points = list(space.points())
    assert len(points) == len({point.cell for point in points}) == 2**5
    last = points[-1]
    assert last.axes == {
        "model": "cnn",
        "loss": "cross_entropy",
        "tolerance": 1e-3,
        "width": 5,
        "activation": "tanh",
    }
    assert last.cell.model == Choice.of("cnn", activation="tanh")
    assert last.cell.probes[0].options == (("k", 5),)


def test_a_model_axis_after_its_own_option_is_refused() -> None:
    text = HEAD + "axes: {activation: {path: model.activation, values: [relu, tanh]}, model: [mlp, cnn]}\n"
    with pytest.raises(Exception, match=r"axes\.model: sets model"):
        load_space_text(text)


def test_set_changes_the_base_of_one_grid() -> None:
    space = load_space_text(
        TWO_PHASES + "grids:\n  - {name: a, set: {phases.*.lr: 0.5, seed: 4}}\n"
        "  - name: b\n    axes: {seed: [1]}\n"
        "    set: {model.activation: tanh, solver.guard: 1, probes: [curvature]}\n"
        "  - {name: c, set: {phases: [{lr: 0.7, until: 2}]}}\n"
    )
    a, b, c = cells(space)
    assert ([phase.lr for phase in a.phases] if len(a.phases) == 2 else None) == [0.5, 0.5]
    assert (a.seed, b.seed, c.seed) == (4, 1, 0)
    assert (b.model, b.solver.guard, b.probes) == (
        Choice.of("mlp", activation="tanh"),
        1,
        (Probe(name="curvature"),),
    )
    assert c.phases == (Phase(lr=0.7, until=2),)


def test_excluded_points_are_left_out() -> None:
    text = HEAD + (
        "grids:\n  - name: g\n    axes: {alpha_dom: [1, .inf], beta_bulk: [1, 2, inf]}\n"
        "    exclude: [{alpha_dom: .inf, beta_bulk: inf}, {alpha_dom: 1, beta_bulk: [1, 2]}]\n"
    )
    found = [tuple(point.axes.values()) for point in load_space_text(text).points()]
    assert found == [(1.0, math.inf), (math.inf, 1.0), (math.inf, 2.0)]


RECORDED = {
    "a report": "axes: {lr: [0.1]}\nreports: [{kind: curves, name: a, metrics: [curvature/chi]}]",
    "a report's axis": "axes: {lr: [0.1]}\nreports: [{kind: finals, name: loss, x: k}]",
    "a path without effect": "grids: [{name: g, set: {phases.1.lr: 0.5, phases.*.lr: 0.1}}]",
    "a label without effect": "axes: {n: {choices: {a: {model.activation: tanh, model: cnn}}}}",
    "a claim": "axes: {lr: [0.1]}\n"
    "claims: [{name: c, says: all, statistic: {name: drop}, grids: [n], band: {at_most: 1}}]",
    "an end of a search": "search: {axes: {length: {path: phases.0.until, values: [1, 50]}}}",
    "a search": "search: {axes: {lr: [0.1]}, set: {phases.1.lr: 0.5, phases.*.lr: 0.1}}",
}


@pytest.mark.parametrize("what", RECORDED)
def test_what_is_refused_of_a_new_space_does_not_keep_a_recorded_one_from_going_on(what: str) -> None:
    text = f"{TWO_PHASES}{RECORDED[what]}\n"
    with pytest.raises(ConfigError):
        load_space_text(text)
    recorded = load_space_text(text, recorded=True)
    assert load_space_text(recorded.text, recorded=True) == recorded
    if not recorded.is_search:
        assert list(recorded.points())


def test_a_stored_space_is_read_where_its_files_are_not(tmp_path: Path) -> None:
    (tmp_path / "my_model.py").write_text("def build(input_shape, num_outputs): ...")
    path = tmp_path / "my_model.py"
    text = HEAD.replace("model: mlp", f"model: {{name: file, path: {path}}}") + "axes: {seed: [0, 1]}\n"
    assert str(path) in text
    elsewhere = load_space_text(text).text.replace(str(path), str(tmp_path / "gone.py"))
    with pytest.raises(ConfigError, match="cannot be read"):
        load_space_text(elsewhere)
    space = read_stored_space(elsewhere, origin="a record")
    assert (space.text, space.name, space.is_search) == (elsewhere, "s", False)


def test_a_search_leaves_out_what_is_excluded() -> None:
    text = HEAD + (
        "grids:\n  - name: g\n    axes: {alpha_dom: [1, .inf], beta_bulk: [1, 2, inf], seed: [0, 1]}\n"
        "    exclude: [{alpha_dom: .inf, beta_bulk: inf}]\n"
        "search: {exclude: [{alpha_dom: 1, seed: 1}], cells: 3}\n"
    )
    space = load_space_text(text).for_search({})
    assert load_space_text(space.text).search == space.search

    def seeds(alpha: float, beta: float) -> list[int]:
        return [point.cell.seed for point in space.sampled({"alpha_dom": alpha, "beta_bulk": beta})]

    assert (seeds(math.inf, math.inf), seeds(math.inf, 1.0), seeds(1.0, 1.0)) == ([], [0, 1], [0])


def test_a_search_leaves_out_a_range() -> None:
    text = HEAD + (
        "search:\n  axes: {lr: {low: 0.01, high: 1, log: true}, alpha_dom: [1, 2]}\n"
        "  exclude: [{lr: {low: 0.1, high: 0.5}, alpha_dom: 1}, {lr: {low: 0.9}}]\n"
    )
    space = load_space_text(text)
    found = [
        (lr, a, len(space.sampled({"lr": lr, "alpha_dom": a})))
        for lr in (0.05, 0.1, 0.95)
        for a in (1.0, 2.0)
    ]
    assert [number for *_, number in found] == [1, 1, 0, 1, 0, 0]


@pytest.mark.parametrize(
    "rule, parts",
    [
        ("{alpha_don: 1}", ("exclude[0]", "Did you mean 'alpha_dom'")),
        ("{alpha_dom: 3}", ("exclude[0].alpha_dom", "3", "1.0, 2.0")),
        ("{lr: {low: 1, high: 0.1}}", ("exclude.0.lr", "low 1 and high 0.1")),
        ("{lr: {}}", ("exclude.0.lr", "expected values, or a range")),
        ("{}", ("exclude[0]", "exclude everything")),
        ("3", ("exclude", "found 3")),
    ],
)
def test_a_wrong_exclusion_of_a_search_is_named(rule: str, parts: tuple[str, ...]) -> None:
    text = HEAD + (
        "search:\n  axes: {lr: {low: 0.01, high: 1, log: true}, alpha_dom: [1, 2]}\n"
        f"  exclude: [{rule}]\n"
    )
    with pytest.raises(ConfigError) as raised:
        load_space_text(text)
    assert [part for part in parts if part not in str(raised.value)] == []


def test_the_text_is_the_whole_space() -> None:
    for text in (GOOD, HEAD + "axes: {seed: [0, 1]}\n"):
        space = load_space_text(text)
        again = load_space_text(space.text)
        assert again == space
        assert again.text == space.text
        assert again.sha256 == space.sha256
        assert list(again.points()) == list(space.points())
        assert again.reports == space.reports
        assert "refresh_every: 10" in space.text


def test_writing_does_not_depend_on_how_it_was_written() -> None:
    text = GOOD.replace(
        "alpha_dom: [1, 2, .inf]", "alpha_dom: {path: [phases.-1.alpha_dom], values: [1.0, 2, inf]}"
    )
    assert load_space_text(text).sha256 == load_space_text(GOOD).sha256
    assert load_space_text(GOOD.replace("0.2]", "0.3]")).sha256 != load_space_text(GOOD).sha256


def test_a_filter_may_keep_points_without_the_axis() -> None:
    text = GOOD.replace("y: lr, grids: [main]", "y: lr, where: {alpha_dom: [1, null]}")
    assert load_space_text(text).reports[0].where == {"alpha_dom": (1, None)}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E+2", 100.0),
        (".5", 0.5),
        ("-.inf", -math.inf),
        ("20_000", 20000),
        ("0100", 100),
        ("1:30", "1:30"),
        ("no", "no"),
        ("on", "on"),
        ("2024-01-01", "2024-01-01"),
        ("true", True),
        ("~", None),
        ("inf", "inf"),
        ("0x10", "0x10"),
    ],
)
def test_scalars(text: str, value: object) -> None:
    found = read_yaml(f"key: {text}", "x")["key"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "value",
    ["1e-4", "true", "null", "1:30", "a: b", "", "two\nlines\n", "# no", "*x", "é", 1e-5, 1e300, math.inf, 3],
)
def test_what_is_written_is_read_again(value: object) -> None:
    assert read_yaml(write_yaml({"key": [value, {"deeper": value}]}), "x") == {
        "key": [value, {"deeper": value}]
    }


SWITCHED = HEAD.replace("until: 5", "until: {chi_above: 0.95, at_most: 9}") + (
    "    - {lr: 0.2, until: 9, optimizer: {name: momentum, beta: 0.5}, carry: false}\n"
)


def test_phases_end_on_conditions_and_have_optimizers_with_options() -> None:
    space = load_space_text(SWITCHED + "axes: {seed: [0]}\n")
    (cell,) = cells(space)
    assert cell.phases == (
        Phase(lr=0.1, until=Condition(chi_above=0.95, at_most=9)),
        Phase(lr=0.2, until=9, optimizer=Choice.of("momentum", beta=0.5), carry=False),
    )
    assert cells(load_space_text(space.text)) == [cell]


def test_axes_of_optimizers_and_conditions() -> None:
    axes = """axes:
  optimizer: [sgd, adam]
  momentum:
    choices:
      with: {phases.0.optimizer: momentum}
      without: {phases.0.optimizer: {name: momentum, beta: 0.0}}
  end:
    choices:
      early: {phases.0.until: 3}
      aligned: {phases.0.until: {chi_above: 0.5, at_most: 9, k: 2}}
"""
    points = list(load_space_text(TWO_PHASES + axes).points())
    assert len(points) == 8
    last = points[-1]
    assert last.axes == {"optimizer": "adam", "momentum": "without", "end": "aligned"}
    assert last.cell.phases[0].optimizer == Choice.of("momentum", beta=0.0)
    assert last.cell.phases[0].until == Condition(chi_above=0.5, at_most=9, k=2)
    assert [phase.optimizer.name for phase in points[0].cell.phases] == ["momentum", "sgd"]
    assert points[0].cell.phases[0].until == 3


def test_curves_may_show_what_probes_record() -> None:
    report = "axes: {{lr: [0.1]}}\nreports: [{{kind: curves, name: c, lines: [lr], metrics: [{}]}}]\n"
    probed = HEAD.replace("  phases:", "  probes: [subspace_overlap]\n  phases:")
    load_space_text(probed + report.format("subspace/top_10_since_0"))
    with pytest.raises(ConfigError, match="unknown metric 'subspace/top_10_since_0'"):
        load_space_text(HEAD + report.format("subspace/top_10_since_0"))
    with pytest.raises(ConfigError, match="unknown metric 'subspace/best_10_since_0'"):
        load_space_text(probed + report.format("subspace/best_10_since_0"))


def test_a_reference_is_a_name_of_the_package_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("demo", "mine.yaml"):
        Path(name).write_text(HEAD + "axes: {seed: [0]}\n")
    assert {space_file(name) for name, _ in list_spaces()} == {None}
    assert load_space("demo").name == "demo", "not the file of that name"
    for reference in ("./demo", Path("demo"), "mine.yaml", "~/mine.yaml"):
        file = space_file(reference)
        assert file is not None and file.samefile(Path(reference).name)
        assert load_space(reference).name == "s"
    with pytest.raises(ConfigError, match="unknown search space 'mine'"):
        space_file("mine")
