"""The data behind curves, finals and spectra."""

import numpy as np
import pytest

from search_spaces.reports import CurvesSpec, FinalsSpec, SpectrumSpec
from sweep import names
from sweep.names import Status
from sweep.record import Record
from sweep.report.curve_lines import curves_data
from sweep.report.curves import leaving_point
from sweep.report.finals import finals_data
from sweep.report.spectrum import spectrum_data
from tests.sweep.report.conftest import Store
from tests.sweep.report.stored_sweep import StoredCell, decay, ended, grid

LOSS = names.FINAL_TRAIN_LOSS


def curve_record(store: Store) -> Record:
    points = grid("g", {"method": ["SGD", "Bulk-SGD"], "seed": [0, 1]}) + grid("none", {"seed": [0]})
    cells: dict[str, StoredCell] = {}
    for name, v, cell in points:
        blow_up = 200 if v.get("method") == "Bulk-SGD" and v["seed"] else None
        status = Status.DIVERGED if blow_up else Status.COMPLETED
        cells[cell] = ended(0.1, status=status, seed=v["seed"])
        cells[cell].histories = {"train/loss": decay(0.01, 400, 10, seed=v["seed"], blow_up=blow_up)}
        if name == "none":
            cells[cell] = StoredCell(status=Status.PENDING)
        for index in (1, 2, 3):
            cells[cell].histories[f"curvature/lambda_{index}"] = [
                (0, 3.0 / index),
                (400, 6.0 / index + v["seed"]),
            ]
    return store.record(points, cells)


CURVES = CurvesSpec(kind="curves", name="curves", lines=("method",))


def test_curves_mean_divergence_and_switches(store: Store) -> None:
    record = curve_record(store)
    (panel,) = curves_data(record, CURVES).panels
    sgd, bulk = panel.lines
    assert (sgd.key, bulk.key) == (("SGD",), ("Bulk-SGD",))
    assert sgd.steps.tolist() == list(range(0, 401, 10))
    runs = [record.outcome(point).run_id for point in (0, 1)]
    histories = record.histories([run for run in runs if run], ["train/loss"])
    expected = np.mean([series.values for series in histories.values()], axis=0)
    np.testing.assert_array_equal(sgd.mean, expected)
    assert (sgd.num_seeds, bulk.num_seeds) == (2, 1)
    assert sgd.switches == bulk.switches == (100,)
    (lost,) = bulk.diverged
    assert lost.steps[-1] < 400
    assert np.isfinite(lost.values).all()


def test_curves_stop_at_max_step(store: Store) -> None:
    (panel,) = curves_data(curve_record(store), CURVES.model_copy(update={"max_step": 90})).panels
    assert all(line.steps.max() == 90 and line.switches == () for line in panel.lines)


def test_a_line_without_the_panel_axis_is_in_every_panel(store: Store) -> None:
    points = grid("switch", {"method": ["Dom", "Bulk"], "switch_step": [10, 20]}) + grid("sgd", {})
    cells = {cell: ended(0.1, seed=0) for _, _, cell in points}
    spec = CurvesSpec(kind="curves", name="c", lines=("switch_step",), panels=("method",))
    data = curves_data(store.record(points, cells), spec)
    assert [(panel.key, [line.key for line in panel.lines]) for panel in data.panels] == [
        (("Dom",), [(None,), (10,), (20,)]),
        (("Bulk",), [(None,), (10,), (20,)]),
    ]
    assert data.fallback[(None,)] == "SGD"


def test_where_a_line_leaves_the_panel() -> None:
    steps, values = np.array([0, 10, 20]), np.array([1.0, 3.0, 7.0])
    assert leaving_point(steps, values, 5.0) == ([15.0], [5.0])
    assert leaving_point(steps, values, 9.0) == ([20.0], [7.0])


def test_finals(store: Store) -> None:
    points = grid("g", {"method": ["Dom", "Bulk"], "switch_step": [100, 0]}) + grid("sgd", {})
    cells = {cell: ended(0.001 * v.get("switch_step", 7) + 0.1, seed=0) for _, v, cell in points}
    spec = FinalsSpec(kind="finals", name="f", x="switch_step", lines=("method",))
    data = finals_data(store.record(points, cells), spec, LOSS)
    assert data.x_values == (0, 100)
    assert [line.key for line in data.lines] == [(None,), ("Dom",), ("Bulk",)]
    assert [place.mean for place in data.lines[1].pools] == [0.1, 0.2]
    assert data.lines[0].level is not None
    assert data.lines[0].level.mean == pytest.approx(0.107)


def test_spectrum(store: Store) -> None:
    spec = SpectrumSpec(kind="spectrum", name="s", panels=("method",), where={"method": ("SGD",)})
    data = spectrum_data(curve_record(store), spec)
    assert data.indices == (1, 2, 3)
    (panel,) = data.panels
    assert panel.lines[2].mean.tolist() == [1.5, 3.5]
