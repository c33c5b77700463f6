"""Captions say how many of the measured eigenspaces behind a figure had not converged."""

from pathlib import Path
from typing import Any

import pytest

from search_spaces.reports import (
    CurvesSpec,
    DensitySpec,
    FinalsSpec,
    HeatmapSpec,
    LevelsSpec,
    PathSpec,
    ProfileSpec,
    SeparationSpec,
    SpectrumSpec,
    TableSpec,
)
from sweep import names
from sweep.convergence import convergence_series, unconverged_share
from sweep.html.data import _unconverged, sweep_data
from sweep.record import Record
from sweep.report.canvas import Canvas, caption
from sweep.report.curves import draw_curves
from sweep.report.density import draw_density
from sweep.report.finals import draw_finals
from sweep.report.heatmap import draw_heatmap
from sweep.report.levels import levels_data, levels_markdown
from sweep.report.path import draw_path
from sweep.report.profile import draw_profile
from sweep.report.separation import draw_separation
from sweep.report.spectrum import draw_spectrum
from sweep.report.table import draw_table, table_data, table_markdown
from tests.sweep.report.conftest import Store
from tests.sweep.report.stored_sweep import StoredCell, grid
from tests.sweep.report.test_limits import said
from tests.sweep.report.test_panels import recorded
from tests.sweep.verdicts.synthetic import series
from trainers.history import CURVATURE_CONVERGED, PROBES_CONVERGED, SWITCH_CONVERGED
from trainers.probes import PROBES

CAUTION = "CAUTION: measured eigenspaces not converged: at most 50 % of a run, above 5 % in 1 of 1 cells"
CONVERGED = "all measured eigenspaces converged"


def spectrum_record(store: Store, *converged: float) -> Record:
    points = grid("main", {"seed": [0]})
    histories = {"curvature/lambda_1": [(0, 1.0), (100, 2.0)], "train/loss": [(0, 1.0), (100, 0.5)]}
    histories[CURVATURE_CONVERGED] = list(zip((0, 100), converged, strict=True))
    return store.record(points, {points[0][2]: StoredCell(params={"seed": 0}, histories=histories)})


@pytest.fixture
def captions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(Canvas, "save", lambda canvas, path: found.append(said(canvas)))
    return found


def test_a_spectrum_that_did_not_converge_is_cautioned_against(store: Store, captions: list[str]) -> None:
    for converged in ((0.0, 1.0), (1.0, 1.0)):
        spec = SpectrumSpec(kind="spectrum", name="s")
        draw_spectrum(spectrum_record(store, *converged), spec, Path("s.png"))
    assert CAUTION in captions[0]
    assert CONVERGED in captions[1] and "CAUTION" not in captions[1]


def test_curves_say_so_of_what_rests_on_an_eigenspace_and_is_shown(store: Store, captions: list[str]) -> None:
    given: list[dict[str, Any]] = [
        {"metrics": ("curvature/lambda_1",)},
        {"metrics": ("curvature/lambda_1 over train/loss",)},
        {"metrics": ("train/loss",)},
        {"metrics": ("curvature/lambda_1",), "max_step": 50},
    ]
    for fields in given:
        spec = CurvesSpec(kind="curves", name="c", **fields)
        draw_curves(spectrum_record(store, 1.0, 0.0), spec, Path("c.png"))
    assert [CAUTION in text for text in captions] == [True, True, False, False]
    assert [CONVERGED in text for text in captions] == [False, False, False, True]


def test_profiles_and_levels_say_so_of_the_steps_that_they_show(store: Store, captions: list[str]) -> None:
    history = {
        "spread/gradient_1": [(0, 1.0), (50, 1.0), (100, 1.0)],
        PROBES_CONVERGED: [(0, 1.0), (50, 0.0), (100, 1.0)],
    }
    record = recorded(store, [history])
    for steps in ((0, 50), (0, 100)):
        spec = ProfileSpec(kind="profile", name="p", series="spread/gradient_<i>", steps=steps)
        draw_profile(record, spec, Path("p.png"))
    for start in (50, 60):
        levels = LevelsSpec(
            kind="levels", name="l", rows=("grid",), series=("spread/gradient_1",), start=start
        )
        captions.append(levels_markdown(record, levels, levels_data(record, levels)))
    assert [CAUTION in text for text in captions] == [True, False, True, False]
    assert [CONVERGED in text for text in captions] == [False, True, False, True]


def test_figures_count_what_was_looked_at_for_what_they_show(store: Store, captions: list[str]) -> None:
    """The rows of a frequent probe say nothing of a rare one, which shares their series."""
    steps = range(0, 101, 2)
    history = {
        "layers/1_w": [(0, 1.0), (100, 1.0)],
        "alignment/gradient_chi": [(step, 0.5) for step in steps],
        PROBES_CONVERGED: [(step, float(step != 100)) for step in steps],
    }
    record = recorded(store, [history])
    both = "alignment/gradient_chi over layers/1_w"
    for metric in ("layers/1_w", "alignment/gradient_chi", both):
        draw_curves(record, CurvesSpec(kind="curves", name="c", metrics=(metric,)), Path("c.png"))
    draw_profile(
        record, ProfileSpec(kind="profile", name="p", series="layers/<i>_w", steps=(0, 100)), Path("p.png")
    )
    levels = LevelsSpec(kind="levels", name="l", rows=("grid",), series=("layers/1_w",))
    captions.append(levels_markdown(record, levels, levels_data(record, levels)))
    assert [CAUTION in text for text in captions] == [True, False, True, True, True]
    assert "measured eigenspaces not converged: at most 1.96 % of a run" in captions[1]


def test_a_path_says_so_of_the_steps_that_both_series_have(store: Store, captions: list[str]) -> None:
    history = {
        "curvature/chi": [(0, 1.0), (50, 1.0), (100, 1.0)],
        "train/loss": [(0, 1.0), (50, 1.0), (100, 1.0)],
        "test/accuracy": [(0, 0.5), (100, 1.0)],
        CURVATURE_CONVERGED: [(0, 1.0), (50, 1.0), (100, 0.0)],
    }
    record = recorded(store, [history])
    for x, y in (("curvature/chi", "test/accuracy"), ("train/loss", "test/accuracy")):
        draw_path(record, PathSpec(kind="path", name="p", x=x, y=y), Path("p.png"))
    assert [CAUTION in text for text in captions] == [True, False]
    assert "measured eigenspaces" not in captions[1]


def test_what_ended_a_phase_counts_whatever_is_shown(store: Store, captions: list[str]) -> None:
    """Where a phase ended by what had not converged, the loss behind it rests on that, too."""
    history = {
        "train/loss": [(0, 1.0), (50, 1.0), (100, 1.0)],
        "weights/1": [(0, 1.0), (100, 1.0)],
        "sketch/1": [(0, 1.0), (100, 1.0)],
        "spectrum/node_1_1": [(0, 1.0)],
        "spectrum/weight_1_1": [(0, 1.0)],
        SWITCH_CONVERGED: [(0, 1.0), (10, 0.0)],
    }
    record = recorded(store, [history], metrics={names.FINAL_SWITCH_STEP: 10.0})
    path = Path("f.png")
    draw_curves(record, CurvesSpec(kind="curves", name="c"), path)
    draw_path(record, PathSpec(kind="path", name="p", x="weights/1", y="train/loss"), path)
    draw_separation(record, SeparationSpec(kind="separation", name="s", between="grid"), path)
    draw_density(record, DensitySpec(kind="density", name="d", steps=(0,)), path)
    draw_spectrum(record, SpectrumSpec(kind="spectrum", name="e"), path)
    draw_profile(record, ProfileSpec(kind="profile", name="w", series="weights/<i>", steps=(100,)), path)
    levels = LevelsSpec(kind="levels", name="l", rows=("grid",), series=("train/loss",), start=60)
    captions.append(levels_markdown(record, levels, levels_data(record, levels)))
    draw_heatmap(record, HeatmapSpec(kind="heatmap", name="h", x="grid", y="grid"), path)
    draw_finals(record, FinalsSpec(kind="finals", name="f", x="grid"), path)
    table = TableSpec(kind="table", name="t", rows=("grid",), columns="grid")
    captions.append(table_markdown(record, table, table_data(record, table)))
    draw_table(record, table, table_data(record, table), path)
    captions.append(sweep_data(record)["caption"])
    assert len(captions) == 12
    assert all(CAUTION in text for text in captions), captions


def test_the_page_counts_what_ended_phases_by_whole_histories(store: Store) -> None:
    """MLflow has points where a run was evaluated, the first among them, which is the likeliest to fail."""
    history = {"train/loss": [(0, 1.0)], SWITCH_CONVERGED: [(10 * at, float(at > 0)) for at in range(10)]}
    record = recorded(store, [history], metrics={names.FINAL_SWITCH_STEP: 90.0})
    (outcome,) = record.outcomes.values()
    thinned = {(str(outcome.run_id), SWITCH_CONVERGED): series([0.0, 1.0], every=50)}
    assert _unconverged(record, ["train/loss"], thinned) == (0.1,)


def test_histories_of_runs_without_a_condition_are_not_read_for_finals(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = recorded(store, [{"curvature/lambda_1": [(0, 1.0)], CURVATURE_CONVERGED: [(0, 0.0)]}])
    switched = recorded(store, [{SWITCH_CONVERGED: [(0, 0.0)]}], metrics={names.FINAL_SWITCH_STEP: 0.0})
    before = caption(switched, [0])
    monkeypatch.setattr("sweep.histories._linked", None)
    assert "eigenspaces" not in caption(plain, [0])
    # Of the others they are read once.
    assert caption(switched, [0]) == before and "CAUTION" in before


def test_what_says_so_is_by_what_was_measured() -> None:
    assert convergence_series(["train/loss", "edge/gd", "distance/since_0"]) == (SWITCH_CONVERGED,)
    assert convergence_series(["energy/h", "own/top"]) == (SWITCH_CONVERGED, PROBES_CONVERGED)
    assert convergence_series(["switch/ema", "curvature/chi"]) == (SWITCH_CONVERGED, CURVATURE_CONVERGED)


def test_all_that_looks_at_an_eigenspace_has_a_series_that_says_so() -> None:
    """Of a new probe its names have to be added."""
    without = {"edges", "spectrum", "distance", "sketch", "weights"}
    for name in PROBES.keys() - without:
        assert len(convergence_series(PROBES[name].series)) == 2, name


def test_the_worst_of_several_counts() -> None:
    history = {
        "curvature/chi": series([1.0, 1.0]),
        CURVATURE_CONVERGED: series([1.0, 1.0]),
        "energy/h": series([1.0, 1.0]),
        PROBES_CONVERGED: series([1.0, 0.0]),
    }
    energy = [("energy/h",)]
    assert unconverged_share(history, [("curvature/chi",), *energy]) == 0.5
    assert unconverged_share(history, [("curvature/chi", "energy/h")]) == 0.5
    assert unconverged_share(history, energy, lambda steps: steps < 10) == 0.0
    assert unconverged_share(history, energy, lambda steps: steps > 10) is None
    assert unconverged_share({}, energy) is None
