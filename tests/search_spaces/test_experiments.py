"""The spaces of the package: all load, at both sizes, and are what the paper's items ask for."""

from collections import Counter
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import pytest
import yaml

from search_spaces import Space, list_spaces, load_space, load_space_text
from search_spaces.reports import SpectrumSpec
from sweep.plan import make_plan
from trainers.canonical import dataset_entry, stages
from trainers.errors import ConfigError

NAMES = [name for name, _ in list_spaces()]
ZS25_STEPS = 20_000
LARGEST_SMOKE = 10_000
SHIPPED = {"mnist-5k", "signs", "gaussian-mixture", "sine"}
"""Data that needs no download, as a small variant must not."""

SIZES = {
    "zs25-table1": 39,
    "zs25-table2": 18,
    "zs25-fig1": 68,
    "zs25-fig2": 4,
    "zs25-fig3": 8,
    "zs25-fig4": 48,
    "zs25-refresh": 27,
    "zs25-fig5": 3,
    "zs25-fig6": 3,
    "zs25-fig7": 3,
    "say25-fig1": 93,
    "say25-fig4": 24,
    "say25-fig6": 6,
    "say25-fig9": 9,
    "say25-fig10": 9,
    "say25-table1": 36,
    "mmb26": 96,
    "grd18-fig1": 27,
    "grd18-fig2": 9,
    "grd18-spread": 33,
    "grd18-table1": 27,
    "grd18-toy": 21,
}
"""Distinct cells of every experiment at full size."""


def full(name: str) -> Space:
    return load_space(name)


def test_the_experiments_are_there() -> None:
    assert {"demo", *SIZES} <= set(NAMES)
    assert {name: len(make_plan(full(name)).cells) for name in SIZES} == SIZES


@pytest.mark.parametrize("name", SIZES)
def test_every_claim_is_about_cells_that_the_space_has(name: str) -> None:
    space = full(name)
    assert space.claims, "an experiment without a claim cannot fail"
    points = [{"grid": point.grid, **point.axes} for point in space.points()]

    def found(grids: tuple[str, ...] | None, *filters: Mapping[str, tuple[Any, ...]]) -> bool:
        return any(
            (grids is None or point["grid"] in grids)
            and all(point.get(axis) in values for named in filters for axis, values in named.items())
            for point in points
        )

    for claim in space.claims:
        assert claim.says.startswith(("ZS25", "SAY25", "GRD18", "MMB26", "by definition"))
        for at, _, _ in claim.bands():
            assert found(claim.grids, claim.where, at), (claim.name, at)
        if claim.against is not None:
            assert found(claim.against_grids or claim.grids, claim.against), claim.name


@pytest.mark.parametrize("name", NAMES)
def test_both_sizes_load_and_plan(name: str) -> None:
    space, small = load_space(name), load_space(name, smoke=True)
    assert space.name == name
    assert small.name == f"{name}-smoke"
    assert load_space_text(space.text) == space
    assert load_space_text(small.text) == small
    assert space.reports
    assert [report.name for report in small.reports] == [report.name for report in space.reports]
    large, little = make_plan(space), make_plan(small)
    assert little.steps_planned <= LARGEST_SMOKE
    assert little.steps_planned < large.steps_planned
    assert {cell.dataset.name for cell in little.cells.values()} <= SHIPPED
    # A small variant must not be taken for the experiment.
    assert small.description.startswith(f"A small variant of {name}")
    assert not any("CIFAR" in report.title for report in small.reports)
    for texts in (space.spec.paper, space.spec.choices):
        assert texts.strip()
    assert 20 < len(space.description.splitlines()[0]) < 120
    # PyYAML's own rules read the files alike, so any other reader of YAML does.
    assert isinstance(yaml.safe_load(files("search_spaces").joinpath(f"{name}.yaml").read_text()), dict)


@pytest.mark.parametrize("name", ["zs25-table1", "zs25-table2", *(f"zs25-fig{i}" for i in range(1, 5))])
def test_zs25_has_the_papers_numbers(name: str) -> None:
    for point in full(name).points():
        cell = point.cell
        assert cell.batch_size == 50
        assert cell.loss.name == "mse"
        assert cell.num_steps == (200 if point.grid.startswith("first-200") else ZS25_STEPS)
        assert cell.refresh_every == (100 if name == "zs25-fig4" else 10)


@pytest.mark.parametrize(("name", "num_bulk", "num_sgd"), [("zs25-table1", 36, 3), ("zs25-table2", 16, 2)])
def test_the_tables(name: str, num_bulk: int, num_sgd: int) -> None:
    space = full(name)
    assert Counter(point.grid for point in space.points()) == {"bulk": num_bulk, "sgd": num_sgd}
    for point in space.points():
        (stage,) = stages(point.cell)
        assert point.cell.dataset.name == "cifar10-5k"
        assert stage.bulk_rate == point.axes["lr"]
        assert (stage.dom_rate, stage.k) == (
            (0.0, point.axes["k"]) if point.grid == "bulk" else (stage.bulk_rate, None)
        )


def test_figure_1_switches_once() -> None:
    for point in full("zs25-fig1").points():
        found = stages(point.cell)
        switch = point.axes.get("switch_step", 0)
        assert [stage.projects for stage in found] == (
            [False] if "method" not in point.axes else [True] if switch == 0 else [False, True]
        )
        if len(found) == 2:
            assert found[0].stop == switch
            assert (found[1].dom_rate == 0) == (point.axes["method"] == "Bulk-SGD")
            assert (found[1].bulk_rate == 0) == (point.axes["method"] == "Dom-SGD")


def test_figures_2_to_4() -> None:
    for point in full("zs25-fig2").points():
        assert dict(point.cell.probes[0].options)["k"] == 21
        assert stages(point.cell)[0].k == (None if point.axes["method"] == "SGD" else 20)
    for point in full("zs25-fig3").points():
        assert stages(point.cell)[0].stop in (6000, ZS25_STEPS)
        assert stages(point.cell)[-1].bulk_rate == point.axes["lr"]
    plan = make_plan(full("zs25-fig4"))
    assert len(plan.cell_ids) == len(plan.cells) == 7 * 7 - 1


@pytest.mark.parametrize("small", [False, True], ids=["full", "small"])
@pytest.mark.parametrize("name", SIZES)
def test_the_black_eigenvalue_is_the_first_of_the_bulk(name: str, small: bool) -> None:
    space = load_space(name, smoke=small)
    for report in space.reports:
        if not isinstance(report, SpectrumSpec) or report.highlight is None:
            continue
        shown = [
            point.cell
            for point in space.points()
            if point.grid in (report.grids or [point.grid])
            and all(point.axes.get(axis) in values for axis, values in report.where.items())
        ]
        sizes = {
            phase.k or dataset_entry(cell.dataset).num_outputs for cell in shown for phase in cell.phases
        }
        assert sizes == {report.highlight - 1}, report.name


def test_an_overlay_that_no_probe_measures_is_refused() -> None:
    assert "edges" in {probe["name"] for probe in full("say25-fig9").spec.base.probes}
    with pytest.raises(ConfigError, match="eigenvalues.*edge/gd"):
        load_space("zs25-fig2", overrides=["reports.eigenvalues.overlay=[edge/gd]"])


def test_the_demo_records_the_curvature() -> None:
    # The charts of MLflow, and everybody who reads the demo to learn the names, look for it.
    assert all("curvature" in {probe.name for probe in point.cell.probes} for point in full("demo").points())


def test_the_demo_has_a_diagonal_on_which_k_makes_no_difference() -> None:
    plan = make_plan(full("demo"))
    shared = [address for address, count in Counter(plan.cell_ids).items() if count > 1]
    assert len(plan.cells) < len(plan.cell_ids)
    assert shared
    for address in shared:
        axes = [axes for axes, cell in zip(plan.axes, plan.cell_ids, strict=True) if cell == address]
        assert len({point["k"] for point in axes}) == 2
        assert all(point["alpha_dom"] == point["beta_bulk"] for point in axes)
