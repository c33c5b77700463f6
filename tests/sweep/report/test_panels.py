"""Profiles, trajectories, densities and tables of levels: data from linked histories, and the files."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from matplotlib import image
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from search_spaces.reports import (
    DensitySpec,
    LevelsSpec,
    PathSpec,
    ProfileSpec,
    Report,
    SeparationSpec,
    SpectrumSpec,
)
from sweep import names
from sweep.histories import read_history
from sweep.names import Status
from sweep.record import Record
from sweep.report import make_report
from sweep.report.canvas import Canvas, caption
from sweep.report.curves import _minor_label, _sparse_label
from sweep.report.density import density_data, quadrature
from sweep.report.labels import grid_label
from sweep.report.levels import levels_csv, levels_data, levels_markdown
from sweep.report.panels import Panel, PanelLine, _symmetric_ticks
from sweep.report.path import draw_path, path_data
from sweep.report.profile import draw_profile, profile_data
from sweep.report.separation import draw_separation
from sweep.report.spectrum import draw_spectrum, spectrum_data
from sweep.storage.parts import encode_part
from tests.sweep.report.conftest import Store
from tests.sweep.report.stored_sweep import StoredCell, grid

STEPS = 100
Values = Mapping[str, Sequence[tuple[int, float]]]


def recorded(
    store: Store,
    by_seed: Sequence[Mapping[str, Sequence[tuple[int, float]]]],
    axes: Mapping[str, Sequence[object]] | None = None,
    metrics: Mapping[str, float] | None = None,
) -> Record:
    """Store one cell a seed, or a place of `axes`, with a history in two parts, as the recorder has them."""
    points = grid("main", axes or {"seed": list(range(len(by_seed)))})
    cells = {
        point[2]: StoredCell(
            params={"num_steps": STEPS, "seed": point[1]["seed"]}, metrics=dict(metrics or {})
        )
        for point in points
    }
    record = store.record(points, cells)
    for point, history in zip(points, by_seed, strict=True):
        run = record.outcomes[point[2]].run_id
        assert run is not None
        for low, high in ((0, 50), (50, STEPS + 1)):
            steps = sorted({step for pairs in history.values() for step, _ in pairs if low <= step < high})
            columns = {name: [dict(pairs).get(step) for step in steps] for name, pairs in history.items()}
            table = pa.table({"step": pa.array(steps, pa.int64()), **columns})
            folder = store.root / "parts"
            folder.mkdir(exist_ok=True)
            path = folder / f"part-{low:09d}-{high:09d}.parquet"
            path.write_bytes(encode_part(table))
            record.client.log_artifact(run, str(path), names.ARTIFACT_HISTORY)
    return record


def test_a_history_is_read_whole(store: Store) -> None:
    record = recorded(store, [{"x": [(0, 1.0), (50, math.inf), (100, 3.0)], "y": [(50, 2.0)]}])
    (outcome,) = record.outcomes.values()
    found = read_history(record, str(outcome.run_id))
    assert found["x"].steps.tolist() == [0, 50, 100]
    assert found["x"].values.tolist() == [1.0, math.inf, 3.0]
    assert found["y"].steps.tolist() == [50]


def test_a_profile_is_by_index_and_averaged_over_the_seeds(store: Store) -> None:
    histories = [
        {f"spread/gradient_{i}": [(0, i + seed), (100, 10.0 * i)] for i in (1, 2, 10)}
        | {"spread/gradient_sum": [(0, 99.0)]}
        for seed in (0.0, 2.0)
    ]
    spec = ProfileSpec(kind="profile", name="p", series="spread/gradient_<i>", steps=(0, 100, 77))
    (panel,) = profile_data(recorded(store, histories), spec).panels
    first, last = panel.lines
    assert (first.label, last.label) == ("step 0", "step 100")
    assert first.x.tolist() == [1, 2, 10], "in the order of numbers, and the sum is no index"
    assert first.mean.tolist() == [2.0, 3.0, 11.0]
    assert first.std.tolist() == pytest.approx([math.sqrt(2)] * 3)
    assert last.mean.tolist() == [10.0, 20.0, 100.0]
    few = profile_data(recorded(store, histories), spec.model_copy(update={"at_most": 2}))
    assert few.panels[0].lines[0].x.tolist() == [1, 2]


def test_ticks_to_both_sides_leave_zero_its_room() -> None:
    x = np.array([-0.3, 0.0, 8.0])
    line = PanelLine(label="", x=x, mean=x, std=x)
    ticks = [_symmetric_ticks(Panel(key=(), lines=(line,), linear_below=unit)) for unit in (2e-3, 2e-5)]
    assert ticks[0] == [-1.0, -0.1, -0.01, 0.0, 0.01, 0.1, 1.0]
    assert ticks[1] == [-1e-1, -1e-3, 0.0, 1e-3, 1e-1], "every second of many"


def test_names_stand_where_a_profile_has_no_numbers(store: Store) -> None:
    record = recorded(store, [{"layers/1_0.weight": [(0, 0.9)], "layers/1_0.bias": [(0, 0.1)]}])
    spec = ProfileSpec(kind="profile", name="p", series="layers/1_<i>", steps=(0,))
    (panel,) = profile_data(record, spec).panels
    assert panel.ticks == ("0.bias", "0.weight")
    assert panel.lines[0].mean.tolist() == [0.1, 0.9]


def test_names_are_in_order_and_as_long_as_they_have_to_be(store: Store) -> None:
    names = [f"layers.{number}.attention_in.weight" for number in (11, 3)]
    record = recorded(store, [{f"layers/1_{name}": [(0, float(len(name)))] for name in names}])
    spec = ProfileSpec(kind="profile", name="p", series="layers/1_<i>", steps=(0,))
    (panel,) = profile_data(record, spec).panels
    assert panel.ticks == ("3.attention_in.weight", "1.attention_in.weight"), "of layers 3 and 11"
    assert panel.lines[0].mean.tolist() == [28.0, 29.0]


def test_a_path_joins_two_series_at_common_steps(store: Store) -> None:
    record = recorded(store, [{"x": [(0, 1.0), (10, 2.0), (20, 3.0)], "y": [(0, 5.0), (20, 7.0)]}])
    (panel,) = path_data(record, PathSpec(kind="path", name="p", x="x", y="y")).panels
    assert (panel.lines[0].x.tolist(), panel.lines[0].mean.tolist()) == ([1.0, 3.0], [5.0, 7.0])
    record = recorded(store, [{"x": [(0, 1.0)], "test/accuracy": [(0, 0.5)]}])
    data = path_data(record, PathSpec(kind="path", name="p", x="x", y="test/accuracy"))
    assert (data.y_label, data.panels[0].lines[0].mean.tolist()) == ("test accuracy [%]", [50.0])


def colours_of(axes: Axes) -> dict[str, str]:
    return {str(line.get_label()): to_hex(line.get_color()) for line in axes.lines}


def test_a_label_has_one_colour_in_all_panels_and_the_legend_has_all_labels(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first panel lacks the middle one of three, whose colour and place are its own all the same."""
    steps: list[Values] = [
        {"spread/gradient_1": [(step, 1.0) for step in steps]} for steps in ((0, 100), (0, 50, 100))
    ]
    seeds: list[Values] = [{"x": [(0, 1.0)], "y": [(0, 2.0)]} if seed != 4 else {} for seed in range(6)]
    sketches: list[Values] = [{"sketch/1": [(0, 0.0), (100, 1.0)]} if n != 1 else {} for n in range(6)]
    drawn: list[Canvas] = []
    monkeypatch.setattr(Canvas, "save", lambda canvas, path: drawn.append(canvas))
    profile = ProfileSpec(
        kind="profile", name="p", series="spread/gradient_<i>", steps=(0, 50, 100), panels=("k",)
    )
    draw_profile(recorded(store, steps, {"k": [1, 2], "seed": [0]}), profile, tmp_path / "p.png")
    path = PathSpec(kind="path", name="p", x="x", y="y", panels=("k",))
    draw_path(recorded(store, seeds, {"k": [2, 1], "seed": [10, 9, 8]}), path, tmp_path / "p.png")
    apart = SeparationSpec(kind="separation", name="s", between="lr", panels=("k",))
    draw_separation(
        recorded(store, sketches, {"k": [1, 2], "lr": [0.1, 0.2, 0.3], "seed": [0]}),
        apart,
        tmp_path / "s.png",
    )
    legends: list[list[str]] = []
    for canvas in drawn:
        fewer, whole, key = canvas.figure.axes
        assert len(fewer.lines) < len(whole.lines) == len(set(colours_of(whole).values()))
        assert colours_of(fewer).items() < colours_of(whole).items()
        legend = key.get_legend()
        assert legend is not None
        legends.append([text.get_text() for text in legend.get_texts()])
        drawn_there = [to_hex(line.get_color()) for line in legend.get_lines()]
        assert dict(zip(legends[-1], drawn_there, strict=True)) == colours_of(whole)
    assert legends[0] == ["step 0", "step 50", "step 100"]
    assert legends[1] == ["seed 8", "seed 9", "seed 10"]


def test_a_density_integrates_to_one_and_lies_at_the_nodes(store: Store) -> None:
    history = {
        "spectrum/node_1_1": [(0, 0.0)],
        "spectrum/weight_1_1": [(0, 0.75)],
        "spectrum/node_1_2": [(0, 10.0)],
        "spectrum/weight_1_2": [(0, 0.25)],
    }
    record = recorded(store, [history])
    (panel,) = density_data(record, DensitySpec(kind="density", name="d", steps=(0, 5))).panels
    (line,) = panel.lines
    assert panel.linear_below == pytest.approx(0.01)
    density = np.nan_to_num(line.mean)
    assert np.trapezoid(density, np.arcsinh(line.x / 0.01)) == pytest.approx(1, abs=1e-3)
    assert line.x[density.argmax()] == pytest.approx(0, abs=1e-3)
    assert np.isnan(line.mean[np.abs(line.x - 1).argmin()]), "nothing lies between the nodes"
    nodes, weights = quadrature([read_history(record, str(o.run_id)) for o in record.outcomes.values()], 0)
    assert sorted(zip(nodes, weights, strict=True)) == [(0.0, 0.75), (10.0, 0.25)]


def test_a_density_is_of_the_nodes_that_are_finite(store: Store) -> None:
    """A vector of a run that diverged at the step has none; what it had before stays."""
    history = {
        f"spectrum/{kind}_{vector}_1": [(0, 2.0 * vector), (5, value)]
        for vector, value in ((1, math.nan), (2, 1.0))
        for kind in ("node", "weight")
    }
    record = recorded(store, [history])
    histories = [read_history(record, str(outcome.run_id)) for outcome in record.outcomes.values()]
    nodes, weights = quadrature(histories, 5)
    assert (nodes.tolist(), weights.tolist()) == ([1.0], [1.0])
    (panel,) = density_data(record, DensitySpec(kind="density", name="d", steps=(0, 5))).panels
    assert all(np.isfinite(line.x).all() for line in panel.lines)


def test_levels_are_means_over_the_window_then_over_the_seeds(store: Store) -> None:
    histories = [{"x": [(0, 99.0), (60, 1.0 + seed), (100, 3.0 + seed)]} for seed in (0.0, 1.0)]
    record = recorded(store, histories)
    spec = LevelsSpec(kind="levels", name="l", rows=("grid",), series=("x", "nothing"), start=-40, digits=2)
    data = levels_data(record, spec)
    ((key, (level, none)),) = data.rows
    assert key == ("main",)
    assert (level.mean, level.over_steps, level.num_seeds) == (2.5, 1.0, 2)
    assert level.over_seeds == pytest.approx(math.sqrt(0.5))
    assert none.num_seeds == 0
    text = levels_markdown(record, spec, data)
    assert "| main | 2.50 (1.00) ± 0.71 | –, 0/2 seeds |" in text
    assert text.splitlines()[-1] == caption(record, (0, 1)) and "2 cells: 2 completed" in text
    assert levels_csv(spec, data).splitlines()[1] == f"main,x,2.5,1.0,{level.over_seeds!r},2,2"


@pytest.mark.parametrize("status", [one for one in Status if one is not Status.COMPLETED])
def test_levels_are_of_runs_that_completed_and_say_of_how_many(store: Store, status: Status) -> None:
    record = recorded(store, [{"x": [(100, value)]} for value in (1.0, 2.0, 9.0)])
    last = record.cell_ids[2]
    outcomes = {**record.outcomes, last: replace(record.outcomes[last], status=status)}
    record = replace(record, outcomes=outcomes)
    spec = LevelsSpec(kind="levels", name="l", rows=("grid",), series=("x",), digits=1)
    data = levels_data(record, spec)
    text = levels_markdown(record, spec, data)
    assert "| main | 1.5 (0.0) ± 0.7, 2/3 seeds |" in text and f"2 completed, 1 {status.value}" in text
    assert levels_csv(spec, data).splitlines()[1].endswith(",2,3")


def test_levels_are_headed_in_words_where_these_need_no_tex(store: Store) -> None:
    series = ("effective/dom_rate", "overlap/train", "subspace/top_2_since_100", "test/accuracy")
    record = recorded(store, [{name: [(0, 1.0)] for name in series}])
    spec = LevelsSpec(kind="levels", name="l", rows=("grid",), series=series)
    heads = "| grid | effective Dominant rate | overlap/train | overlap of the top 2, since step 100 |"
    # In no per cent: values are as they are recorded.
    assert f"{heads} test accuracy |" in levels_markdown(record, spec, levels_data(record, spec))


def test_every_kind_writes_its_files(store: Store, tmp_path: Path) -> None:
    history = {
        "x": [(0, 1.0), (100, 2.0)],
        "y": [(0, 1.0), (100, 2.0)],
        "spectrum/node_1_1": [(0, 1.0)],
        "spectrum/weight_1_1": [(0, 1.0)],
        "spread/gradient_1": [(0, 1.0)],
    }
    reports: tuple[Report, ...] = (
        ProfileSpec(kind="profile", name="profile", series="spread/gradient_<i>", steps=(0,)),
        ProfileSpec(kind="profile", name="empty", series="layers/1_<i>", steps=(0,)),
        PathSpec(kind="path", name="path", x="x", y="y"),
        DensitySpec(kind="density", name="density", steps=(0,)),
        LevelsSpec(kind="levels", name="levels", rows=("grid",), series=("x",)),
    )
    record = replace(recorded(store, [history]), reports=reports)
    written = [file.path.relative_to(tmp_path).as_posix() for file in make_report(record, tmp_path)]
    figures = [f"figures/{name}.png" for name in ("profile", "empty", "path", "density")]
    assert written == [*figures, "tables/levels.md", "tables/levels.csv", "tables/summary.csv"]
    for name in figures:
        assert image.imread(tmp_path / name).std() > 0, "a figure that shows something"


def test_an_edge_is_drawn_over_the_eigenvalues(store: Store, tmp_path: Path) -> None:
    points = grid("main", {"method": ["GD", "Dom-GD"]})
    cells = {
        point[2]: StoredCell(
            histories={
                "curvature/lambda_1": [(0, 1.0), (50, 19.0), (100, 20.0)],
                "edge/gd": [(0, 20.0), (50, 20.0), (100, 20.0)],
            },
            metrics={"curvature/lambda_1": 20.0},
        )
        for point in points
    }
    record = store.record(points, cells)
    spec = SpectrumSpec(kind="spectrum", name="s", panels=("method",), overlay=("edge/gd", "edge/sam"))
    data = spectrum_data(record, spec)
    assert [sorted(overlay) for overlay in data.overlays] == [["edge/gd"], ["edge/gd"]]
    assert data.overlays[0]["edge/gd"].mean.tolist() == [20.0, 20.0, 20.0]
    without = spectrum_data(record, spec.model_copy(update={"overlay": ()}))
    assert not any(without.overlays)
    for name, drawn in (("with", spec), ("without", spec.model_copy(update={"overlay": ()}))):
        draw_spectrum(record, drawn, tmp_path / f"{name}.png")
    one, other = (image.imread(tmp_path / f"{name}.png") for name in ("with", "without"))
    assert one.shape != other.shape or (one != other).any(), "the edge is to be seen"


@pytest.mark.parametrize(
    ("name", "text"), [("sgd", "SGD"), ("first-200-sgd", "first 200 SGD"), ("batch_size", "batch size")]
)
def test_grids_are_named_in_words(name: str, text: str) -> None:
    assert grid_label(name) == text


def test_a_logarithmic_axis_of_two_decades_has_a_few_numbers() -> None:
    digits = range(1, 10)
    assert [text for d in digits if (text := _sparse_label(d / 100, None))] == ["0.02", "0.05"]
    assert [_minor_label(d / 100, None) for d in digits][:3] == ["0.01", "0.02", "0.03"]
