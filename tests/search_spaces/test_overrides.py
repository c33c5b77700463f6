"""The small variant of a space, and what the command line sets in it."""

import math
from pathlib import Path

import pytest

from search_spaces import Space, load_space, load_space_text
from tests.search_spaces.malformed import GOOD
from trainers.cell import Cell
from trainers.errors import ConfigError
from trainers.options import Choice

SMOKE = """\
smoke:
  base.phases.0.until: 10
  base.phases.1.until: 20
  lr: [0.1]
  grids.main.axes.alpha_dom: [1, inf]
  description: tiny
"""


def cells(space: Space) -> list[Cell]:
    return [point.cell for point in space.points()]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(GOOD + SMOKE)
    return path


def test_smoke(file: Path) -> None:
    small = load_space(file, smoke=True)
    assert (small.name, small.description) == ("small-smoke", "tiny")
    assert [tuple(point.axes.values()) for point in small.points()] == [(1.0, 0.1), (math.inf, 0.1), ("SGD",)]
    assert {cell.phases[1].until for cell in cells(small)} == {20}
    assert load_space_text(small.text) == small
    assert load_space(file) == load_space_text(GOOD)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("base.phases.0.until=50", lambda cell: cell.phases[0].until == 50),
        ("base.phases.-1.k=5", lambda cell: cell.phases[1].k == 5),
        ("base.refresh_every=100", lambda cell: cell.refresh_every == 100),
        ("base.model.activation=tanh", lambda cell: cell.model == Choice.of("mlp", activation="tanh")),
        ("base.model=cnn", lambda cell: cell.model == Choice("cnn")),
        ("base.solver.tolerance=1e-4", lambda cell: cell.solver.tolerance == 1e-4),
        ("base.holdout_size=null", lambda cell: cell.holdout_size is None),
        ("base.probes=[{name: curvature, k: 3}]", lambda cell: cell.probes[0].options == (("k", 3),)),
        ("k=4", lambda cell: cell.phases[1].k == 4),
        ("grids.0.set.phases.0.until=1", lambda cell: cell.phases[0].until in (1, 100)),
    ],
)
def test_overrides_of_fields(file: Path, override: str, expected: object) -> None:
    assert callable(expected)
    before, after = load_space(file), load_space(file, overrides=[override])
    assert before != after
    assert all(expected(cell) for cell in cells(after))
    assert len(cells(after)) == len(cells(before))


def test_overrides_of_axes(file: Path) -> None:
    assert len(cells(load_space(file, overrides=["lr=[0.1, 0.2, 0.3]"]))) == 3 * 3 + 1
    assert len(cells(load_space(file, overrides=["lr=0.3"]))) == 3 * 1 + 1
    assert len(cells(load_space(file, smoke=True, overrides=["lr=[0.1, 0.2]"]))) == 2 * 2 + 1
    seeded = load_space(file, overrides=["seed=[0, 1]"])
    assert len(cells(seeded)) == 2 * 7
    assert {point.axes["seed"] for point in seeded.points()} == {0, 1}
    assert load_space(file, overrides=["method=SGD"]) == load_space(file)
    assert len(cells(load_space(file, overrides=["grids.sgd.axes.holdout_seed=[0, 1]"]))) == 6 + 2


def test_an_override_takes_report_filters_along(tmp_path: Path) -> None:
    path = tmp_path / "filtered.yaml"
    path.write_text(GOOD.replace("y: lr,", "y: lr, where: {alpha_dom: [1, 2, null]},").replace(", null", ""))
    report = load_space(path, overrides=["alpha_dom=[2, 4]"]).reports[0]
    assert report.where == {"alpha_dom": (2.0,)}
    report = load_space(path, overrides=["alpha_dom=[4, 8]"]).reports[0]
    assert report.where == {}


@pytest.mark.parametrize(
    ("override", "where"),
    [
        ("lr=[0.3]", {"alpha_dom": (None,)}),
        ("alpha_dom=[4, 8]", {"alpha_dom": (None,)}),
        ("grids.main.axes={lr: [0.1]}", {}),
    ],
)
def test_a_filter_of_points_without_an_axis_stays(
    tmp_path: Path, override: str, where: dict[str, tuple[None]]
) -> None:
    path = tmp_path / "filtered.yaml"
    report = "{kind: curves, name: heat, lines: [lr], where: {alpha_dom: [null]}}"
    path.write_text(f"{GOOD[: GOOD.index('reports:')]}reports: [{report}]\n")
    assert load_space(path, overrides=[override]).reports[0].where == where


SST2, CE = ["reports.eigenvalues-sst2.highlight=3"], "eigenvalues-ce"


def networks(label: str) -> list[str]:
    return [f"grids.{grid}.axes.network=[{label}]" for grid in ("mse", "cross-entropy", "distance")]


@pytest.mark.parametrize(
    ("name", "small", "overrides", "left"),
    [
        ("grd18-spread", False, ["labels=[given]"], {"eigenvalues-parity"}),
        ("grd18-spread", True, ["labels=[given]"], {"eigenvalues-parity"}),
        ("grd18-spread", False, ["labels=[parity]"], {"eigenvalues"}),
        ("grd18-spread", False, ["labels=[parity, given]"], set()),
        ("grd18-spread", False, ["labels=[random]"], {"eigenvalues-parity"}),
        ("grd18-spread", False, ["labels=[given]", "reports.3.highlight=11"], set()),
        ("say25-fig1", False, networks("MLP"), {"eigenvalues-sst2", f"{CE}-sst2"}),
        ("say25-fig1", False, networks("Transformer"), {"eigenvalues", CE}),
        ("say25-fig1", False, [*networks("MLP"), *SST2], {f"{CE}-sst2"}),
        ("say25-fig1", False, ["method=[Dom-SGD]"], set()),
        ("say25-fig1", True, ["seed=[0, 1]"], set()),
    ],
)
def test_of_one_report_in_parts_those_go_that_have_nothing_to_show(
    name: str, small: bool, overrides: list[str], left: set[str]
) -> None:
    names = [report.name for report in load_space(name).reports]
    space = load_space(name, smoke=small, overrides=overrides)
    assert [report.name for report in space.reports] == [one for one in names if one not in left]
    assert load_space_text(space.text) == space


EXCLUDING = GOOD.replace(
    "  - name: sgd\n",
    "    exclude: [{alpha_dom: .inf, lr: 0.1}, {alpha_dom: [1, 2], lr: 0.2}]\n  - name: sgd\n",
)


@pytest.mark.parametrize(
    ("overrides", "points"),
    [
        ([], {(1.0, 0.1), (2.0, 0.1), (math.inf, 0.2)}),
        (["alpha_dom=[1, 2]"], {(1.0, 0.1), (2.0, 0.1)}),
        (["alpha_dom=[1, 4]"], {(1.0, 0.1), (4.0, 0.1), (4.0, 0.2)}),
        (["lr=0.3"], {(1.0, 0.3), (2.0, 0.3), (math.inf, 0.3)}),
        (["lr=0.3", "lr=[0.1]"], {(1.0, 0.1), (2.0, 0.1)}),
        (["grids.main.axes.alpha_dom.values=[inf]"], {(math.inf, 0.2)}),
        (["reports=[]", "grids.main.axes={alpha_dom: [1, inf]}"], {(1.0,), (math.inf,)}),
        (["alpha_dom=[1, 4]", "grids.main.exclude=[{alpha_dom: 4}]"], {(1.0, 0.1), (1.0, 0.2)}),
    ],
)
def test_an_override_takes_rules_along(
    tmp_path: Path, overrides: list[str], points: set[tuple[float, ...]]
) -> None:
    path = tmp_path / "excluding.yaml"
    path.write_text(EXCLUDING)
    space = load_space(path, overrides=overrides)
    assert {tuple(point.axes.values()) for point in space.points() if point.grid == "main"} == points
    assert load_space_text(space.text) == space


def test_rules_that_a_small_variant_gives_are_taken_along_too(tmp_path: Path) -> None:
    path = tmp_path / "excluding.yaml"
    path.write_text(EXCLUDING + "smoke:\n  lr: [0.1, 0.4]\n  grids.main.exclude: [{lr: 0.4}]\n")
    assert len(cells(load_space(path, smoke=True))) == 3 + 1
    assert len(cells(load_space(path, smoke=True, overrides=["lr=[0.1, 0.2]"]))) == 6 + 1


@pytest.mark.parametrize("rule", ["{alpha_dom: 3}", "{alpha_don: 1}", "{}"])
def test_a_rule_of_an_override_names_what_there_is(tmp_path: Path, rule: str) -> None:
    path = tmp_path / "excluding.yaml"
    path.write_text(EXCLUDING)
    with pytest.raises(ConfigError, match=r"grids\.main\.exclude\[0\]"):
        load_space(path, overrides=["alpha_dom=[1, 2]", f"grids.main.exclude=[{rule}]"])


@pytest.mark.parametrize(
    ("name", "earlier"),
    [("zs25-fig3", "switch_step=600"), ("zs25-fig1", "grids.switch.axes.switch_step=[0, 600]")],
)
def test_a_cell_is_not_made_shorter_than_its_first_phase(name: str, earlier: str) -> None:
    """Otherwise the last phase would be dropped, and cells train for longer than was asked."""
    with pytest.raises(ConfigError, match=r"phases\.1\.until: found 2000; .* phase 0, which ends at "):
        list(load_space(name, overrides=["num_steps=2000"]).points())
    shorter = load_space(name, overrides=["num_steps=2000", earlier])
    assert max(cell.num_steps for cell in cells(shorter)) == 2000


TITLED = (
    GOOD.replace("y: lr,", "y: lr, title: MLP at two rates, where: {alpha_dom: [1, 2]},")
    + "smoke:\n  alpha_dom: [2, 4]\n  base.evaluate_every: 50\n"
)


@pytest.mark.parametrize(
    ("smoke", "overrides", "title"),
    [
        (False, [], "MLP at two rates"),
        (False, ["alpha_dom=[1, 2, 4]"], "MLP at two rates"),
        (False, ["alpha_dom=[2, 4]"], ""),
        (False, ["alpha_dom=[2, 4]", "reports.0.title=MLP at two rates"], "MLP at two rates"),
        (False, ["alpha_dom=[2, 4]", "reports.-1.title=another"], "another"),
        (False, ["reports.heat.where.alpha_dom=[1]"], ""),
        (False, ["base.model=cnn"], "heat"),
        (False, ["base.model=cnn", "reports.heat.title=A CNN"], "A CNN"),
        (False, ["base.model.widths=[10]", "base.dataset=mnist"], "MLP at two rates"),
        (True, [], ""),
        (True, ["alpha_dom=[1, 2]"], ""),
        (True, ["reports.heat.title=another"], "another"),
    ],
)
def test_a_title_does_not_outlive_what_it_says(
    tmp_path: Path, smoke: bool, overrides: list[str], title: str
) -> None:
    path = tmp_path / "titled.yaml"
    path.write_text(TITLED)
    assert load_space(path, smoke=smoke, overrides=overrides).reports[0].title == title


def test_the_title_of_a_small_variant_is_about_its_own_values(tmp_path: Path) -> None:
    path = tmp_path / "titled.yaml"
    path.write_text(TITLED + "  reports.heat.title: MLP at one rate\n")
    assert load_space(path, smoke=True).reports[0].title == "MLP at one rate"
    both = load_space(path, smoke=True, overrides=["alpha_dom=[1, 2]"]).reports[0]
    assert (both.title, both.where) == ("", {"alpha_dom": (1.0, 2.0)})


def test_a_description_names_no_report_by_a_data_set_that_is_gone() -> None:
    """The demo is one of MNIST-5k by its description, which heads a report without a title."""
    of = ["base.dataset=cifar10-5k"]
    assert [report.title for report in load_space("demo", overrides=of).reports] == [
        "heatmap",
        "curves",
        "table",
    ]
    spoken = [*of, "description=Two learning rates"]
    assert load_space("demo", overrides=["k=[2, 5]", *spoken]).reports[1].title == ""
