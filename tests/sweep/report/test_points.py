"""Which experiments a report tells apart: forgotten axes and grids, and panels for what lacks an axis."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from search_spaces import load_space_text
from search_spaces.reports import HeatmapSpec
from search_spaces.yaml_text import write_yaml
from sweep.ledger.connection import Artifacts
from sweep.names import Status
from sweep.record import CellOutcome, Record
from sweep.report.heatmap import heatmap_data
from sweep.report.points import panel_keys, unshown_axes
from sweep.stated import StatedCells
from tests.sweep.report.conftest import Store
from tests.sweep.report.stored_sweep import ended, grid
from trainers.canonical import cell_id

RATES = [0.1, 0.2]
BULK = {"phases.0.alpha_dom": float("inf")}


class NoArtifacts(Artifacts):
    """Of runs that have no files."""

    def get(self, run_id: str, path: str) -> bytes | None:
        return None


def record_of(*grids: Mapping[str, Any]) -> Record:
    """Return a record of every cell of a space, as if all had completed."""
    base = {"model": "mlp", "dataset": "mnist-5k", "phases": [{"lr": 0.1, "until": 10}]}
    space = load_space_text(write_yaml({"name": "own", "base": base, "grids": list(grids)}))
    points = list(space.points())
    ids = tuple(cell_id(point.cell) for point in points)
    axes = dict.fromkeys(axis for point in points for axis in point.axes)
    return Record(
        name="own", space_name="own", space_sha256="", commit="", reports=(), parent_run_id="",
        client=None,  # type: ignore[arg-type]
        artifacts=NoArtifacts(None),  # type: ignore[arg-type]
        grids=tuple(point.grid for point in points),
        axes={axis: tuple(point.axes.get(axis) for point in points) for axis in axes},
        cell_ids=ids,
        outcomes={i: CellOutcome(cell_id=i, run_id=i, status=Status.COMPLETED) for i in ids},
        stated=StatedCells(space),
    )  # fmt: skip


def unshown(record: Record, *shown: str) -> tuple[str, ...]:
    return unshown_axes(record, range(len(record.cell_ids)), shown)


@pytest.mark.parametrize(
    ("seeds", "others"), [([0, 1, 2], None), ([0, 1], [2, 3]), ([0, 1], [1, 2]), ([0], [0])]
)
def test_grids_of_other_seeds_are_told_apart(seeds: Sequence[int], others: Sequence[int] | None) -> None:
    """Plain SGD with its only seed was taken for a fourth seed of Bulk-SGD."""
    sgd = {"lr": RATES} if others is None else {"lr": RATES, "seed": others}
    record = record_of(
        {"name": "bulk", "set": BULK, "axes": {"lr": RATES, "seed": seeds}}, {"name": "sgd", "axes": sgd}
    )
    assert unshown(record, "lr") == ("grid",)
    assert unshown(record, "lr", "grid") == ()


def test_more_seeds_of_one_experiment_are_one_place() -> None:
    axes = [{"lr": RATES, "seed": seeds} for seeds in ([0, 1], [2, 3])]
    record = record_of({"name": "first", "axes": axes[0]}, {"name": "more", "axes": axes[1]})
    assert unshown(record, "lr") == ()


def test_an_axis_whose_values_have_other_seeds_each_is_told_apart() -> None:
    given = [{"name": f"g{k}", "set": BULK, "axes": {"k": [k], "seed": [k]}} for k in (2, 5)]
    assert unshown(record_of(*given)) == ("k",)


def test_a_grid_that_lacks_a_forgotten_axis_keeps_its_name() -> None:
    """By the axis it would have no value, and in a heatmap no panel of its own."""
    bulk = {"name": "bulk", "set": BULK, "axes": {"lr": RATES, "k": [5]}}
    assert unshown(record_of(bulk, {"name": "sgd", "axes": {"lr": RATES}}), "lr") == ("grid",)


def test_an_axis_that_makes_no_difference_is_not_spelled_out() -> None:
    """With equal rates it is plain SGD whatever k is, here with other seeds each."""
    record = record_of({"name": "main", "axes": {"alpha_dom": [1.0], "k": [2, 5], "seed": [0, 1]}})
    assert unshown(record, "alpha_dom") == ()
    other = record_of(
        *({"name": f"g{k}", "axes": {"alpha_dom": [1.0], "k": [k], "seed": [k]}} for k in (2, 5))
    )
    assert unshown(other, "alpha_dom") == ()


def test_points_that_the_space_does_not_tell_are_told_apart_by_their_cells() -> None:
    seeds = ({"name": f"g{seed}", "axes": {"lr": [0.1], "seed": [seed]}} for seed in (0, 1))
    record = record_of(*seeds)
    assert unshown(record) == ()
    other = record_of({"name": "another", "axes": {"lr": [0.1]}})
    assert unshown(replace(record, stated=other.stated)) == ("grid",)


def test_a_group_that_fits_no_panel_makes_its_own() -> None:
    assert panel_keys([(5, 0.1), (10, 0.1), (None, 0.1)]) == ((5, 0.1), (10, 0.1))
    assert panel_keys([(5, 0.1), (None, 0.2)]) == ((None, 0.2), (5, 0.1))
    assert panel_keys([(None, 0.2), (5, None)]) == ((None, 0.2), (5, None))
    assert panel_keys([()]) == ((),) and panel_keys([]) == ((),)


def test_a_heatmap_shows_what_fits_no_panel(store: Store) -> None:
    axes = {"lr": [0.1], "batch_size": [5]}
    points = grid("bulk", {**axes, "k": [5], "refresh_every": [10, 20]})
    points += grid("sgd", {**axes, "refresh_every": [30]})
    losses = {cell: value["refresh_every"] / 100 for _, value, cell in points}
    record = store.record(points, {cell: ended(loss) for cell, loss in losses.items()})
    spec = HeatmapSpec(kind="heatmap", name="h", x="lr", y="batch_size", panels="k")
    data = heatmap_data(record, spec, "final/train_loss")
    assert data.panel_axes == ("k", "refresh_every")
    assert data.panel_keys == ((None, 30), (5, 10), (5, 20))
    assert data.mean.ravel().tolist() == [0.3, 0.1, 0.2]
