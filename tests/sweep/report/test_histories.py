"""Whole histories: what is read of them, what is read in their place, and what is left behind."""

import math
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pytest

from search_spaces.reports import CurvesSpec, DensitySpec, LevelsSpec, PathSpec, ProfileSpec, SpectrumSpec
from sweep import names
from sweep.errors import LedgerError
from sweep.export import HISTORY_SCHEMA, history_tables
from sweep.histories import read_history
from sweep.ledger import connection
from sweep.names import Status
from sweep.notebook import LoadedSweep
from sweep.record import READ_AHEAD, Record, Series, load_record
from sweep.report import make_report
from sweep.report.curve_lines import curves_data
from sweep.storage.parts import encode_part
from sweep.thinning import Thinning
from sweep.verdicts.runs import load_runs
from tests.sweep.report.conftest import Store
from tests.sweep.report.stored_sweep import StoredCell, grid
from trainers.errors import ConfigError

PART = f"{names.ARTIFACT_HISTORY}/part-000000000-000060001.parquet"
Values = Mapping[str, Sequence[tuple[int, float]]]


def history_table(history: Values) -> pa.Table:
    """Arrange series as the trainer records them: every tenth step is an evaluation, with a time stamp."""
    steps = sorted({step for points in history.values() for step, _ in points})
    columns = {name: list(map(dict(points).get, steps)) for name, points in history.items()}
    stamps = [None if step % 10 else 1_700_000_000_000 + step for step in steps]
    return pa.table(
        {"step": pa.array(steps, pa.int64()), "timestamp_ms": pa.array(stamps, pa.int64()), **columns}
    )


def linked(store: Store, *histories: Values, status: Status = Status.COMPLETED) -> Record:
    """Store one cell a seed as the recorder does: some points in MLflow, the whole history beside them."""
    points = grid("main", {"seed": list(range(len(histories)))})
    tables = [history_table(history) for history in histories]
    cells = {point[2]: StoredCell(status=status, params={"seed": point[1]["seed"]}) for point in points}
    for table, cell in zip(tables, cells.values(), strict=True):
        last = table["step"].to_pylist()[-1]
        for metric in Thinning(last).choose(table, ended=True):
            cell.histories.setdefault(metric.key, [])
            cell.histories[metric.key] = [*cell.histories[metric.key], (metric.step, metric.value)]
    record = store.record(points, cells)
    for table, (_, _, cell_id) in zip(tables, points, strict=True):
        record.artifacts.put(run_of(record, cell_id), PART, encode_part(table))
    return record


def run_of(record: Record, cell_id: str) -> str:
    run_id = record.outcomes[cell_id].run_id
    assert run_id is not None
    return run_id


def exported(record: Record) -> pa.Table:
    return pa.concat_tables([HISTORY_SCHEMA.empty_table(), *history_tables(record)])


def every(period: int, stop: int, value: float = 1.0) -> list[tuple[int, float]]:
    return [(step, value) for step in range(0, stop + 1, period)]


def test_an_export_has_every_recorded_point(store: Store) -> None:
    loss = every(10, 9990)
    loss[500] = (5000, math.inf)
    record = linked(store, {"train/loss": loss, "train/batch_loss": every(1, 9990, 2.0)})
    assert (
        len(record.histories([run_of(record, record.cell_ids[0])], ["train/loss"]).popitem()[1].steps) < 500
    )
    table = exported(record)
    assert table.column_names == ["cell_id", "series", "step", "value"]
    frame = table.to_pandas()
    assert frame["series"].value_counts().to_dict() == {"train/batch_loss": 9991, "train/loss": 1000}
    (at,) = frame.index[np.isinf(frame["value"])]
    assert (frame["cell_id"][at], frame["series"][at], frame["step"][at]) == (
        record.cell_ids[0],
        "train/loss",
        5000,
    )


def test_a_run_without_a_history_is_exported_as_far_as_mlflow_has_it(store: Store) -> None:
    points = grid("main", {"seed": [0]})
    cell = StoredCell(metrics={"final/train_loss": 1.0}, histories={"train/loss": [(0, 2.0), (10, 1.0)]})
    table = exported(store.record(points, {points[0][2]: cell}))
    assert table.select(["series", "step", "value"]).to_pylist() == [
        {"series": "train/loss", "step": 0, "value": 2.0},
        {"series": "train/loss", "step": 10, "value": 1.0},
    ]
    assert exported(store.record(grid("main", {"seed": [0]}), {})).num_rows == 0


def test_of_a_run_that_goes_on_after_its_end_mlflow_has_more(store: Store) -> None:
    record = linked(store, {"train/loss": every(10, 100)}, status=Status.INTERRUPTED)
    run = run_of(record, record.cell_ids[0])
    record.artifacts.put(run, PART, encode_part(history_table({"train/loss": every(10, 50)})))
    assert exported(record)["step"].to_pylist()[-1] == 100


def test_data_frames_have_whole_histories(store: Store) -> None:
    first: Values = {"train/loss": every(10, 9990), "train/batch_loss": every(1, 100)}
    record = linked(store, first, {"train/loss": every(10, 9990), "own/x": [(3, math.inf)]})
    loaded = LoadedSweep(record)
    assert loaded.series == ["train/batch_loss", "train/loss"]
    assert len(loaded.history("train/loss")) == 2000
    frame = loaded.history(["train/loss", "train/batch_loss"], cells=record.cell_ids[:1])
    assert frame["step"].tolist()[:12] == [*range(12)]
    assert frame["train/loss"].notna().tolist()[:12] == [step % 10 == 0 for step in range(12)]
    # Of one cell only, and not at an evaluation: no list has it, and asking for it finds it.
    assert loaded.history("own/x")["own/x"].tolist() == [math.inf]
    with pytest.raises(ConfigError, match="Did you mean 'train/batch_loss'"):
        loaded.history("train/batchloss")


def test_a_quotient_is_of_all_steps_that_two_series_share(store: Store) -> None:
    """Of what MLflow has of series of periods 20 and 60 hardly any steps are the same."""
    history = {"energy/dom_h": every(60, 60_000, 3.0), "energy/h": every(20, 60_000, 4.0)}
    spec = CurvesSpec(kind="curves", name="c", metrics=("energy/dom_h over energy/h",))
    ((line,),) = (panel.lines for panel in curves_data(linked(store, history), spec).panels)
    assert line.steps.tolist() == list(range(0, 60_001, 60))
    assert set(line.mean.tolist()) == {0.75}


def test_curves_of_what_is_measured_between_evaluations_are_drawn(store: Store) -> None:
    record = linked(store, {"train/loss": every(10, 100), "switch/ema": [(3, 0.5), (7, 0.75)]})
    spec = CurvesSpec(kind="curves", name="c", metrics=("switch/ema",))
    ((line,),) = (panel.lines for panel in curves_data(record, spec).panels)
    assert (line.steps.tolist(), line.mean.tolist()) == ([3, 7], [0.5, 0.75])


REPORTS = (
    CurvesSpec(kind="curves", name="curves"),
    SpectrumSpec(kind="spectrum", name="spectrum"),
    ProfileSpec(kind="profile", name="profile", series="spread/gradient_<i>", steps=(0,)),
    PathSpec(kind="path", name="path", x="train/loss", y="spread/gradient_1"),
    DensitySpec(kind="density", name="density", steps=(0,)),
    LevelsSpec(kind="levels", name="levels", rows=("grid",), series=("train/loss", "spread/gradient_1")),
)


@pytest.mark.parametrize("is_local", [True, False])
def test_reports_read_each_run_once_and_leave_nothing_behind(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_local: bool
) -> None:
    record = replace(
        linked(store, *[{"train/loss": every(10, 100), "spread/gradient_1": every(10, 100)}] * 2),
        reports=REPORTS,
    )
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(connection, "is_local_uri", lambda uri: is_local)
    read: list[str] = []
    read_folder = connection.Artifacts.read_folder

    def counted(self: connection.Artifacts, run_id: str, folder: str) -> dict[str, bytes]:
        read.append(run_id)
        return read_folder(self, run_id, folder)

    monkeypatch.setattr(connection.Artifacts, "read_folder", counted)
    files = make_report(record, tmp_path / "report")
    assert len(files) == len(REPORTS) + 2
    runs = [run_of(record, cell) for cell in record.cell_ids]
    assert sorted(read) == sorted(runs * len(REPORTS))
    assert list(temporary.iterdir()) == []


def test_histories_are_read_in_parallel_in_their_order(store: Store) -> None:
    histories = [{"train/loss": [(0, float(seed))]} for seed in range(10)]
    record = replace(linked(store, *histories), remote=True)
    assert exported(record)["value"].to_pylist() == [float(seed) for seed in range(10)]


def test_a_damaged_history_is_an_error_that_names_the_run(store: Store, tmp_path: Path) -> None:
    record = linked(store, {"train/loss": every(10, 100)})
    run = run_of(record, record.cell_ids[0])
    data = record.artifacts.get(run, PART)
    assert data is not None
    record.artifacts.put(run, PART, data[: len(data) // 2])
    with pytest.raises(LedgerError, match=f"a file of run {run} is damaged.*{PART}"):
        read_history(record, run)
    with pytest.raises(LedgerError, match=run):
        make_report(replace(record, reports=REPORTS[:1]), tmp_path)


def test_what_a_kill_left_of_a_file_is_no_part(store: Store) -> None:
    record = linked(store, {"train/loss": every(10, 100)})
    run = run_of(record, record.cell_ids[0])
    record.artifacts.put(run, f"{names.ARTIFACT_HISTORY}/.part-000000000-000060001.parquet.ab12", b"PAR1")
    assert read_history(record, run)["train/loss"].steps[-1] == 100


def test_runs_of_a_sweep_are_read_without_asking_where_they_are(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = linked(store, {"train/loss": every(10, 100)}).name
    record = load_record(store.uri, name)
    monkeypatch.setattr(record.client, "get_run", lambda run_id: pytest.fail(run_id))
    assert exported(record).num_rows == 11


@pytest.mark.parametrize(("room", "num_read"), [(2**29, 8), (3 * 11 * 16, 8 + 5), (0, 16)])
def test_claims_keep_whole_histories_as_far_as_there_is_room(
    store: Store, monkeypatch: pytest.MonkeyPatch, room: int, num_read: int
) -> None:
    record = linked(store, *[{"train/loss": every(10, 100)}] * 8)
    read: list[str] = []

    def counted(record: Record, run_id: str) -> Mapping[str, Series]:
        read.append(run_id)
        return read_history(record, run_id)

    monkeypatch.setattr("sweep.verdicts.runs.read_history", counted)
    monkeypatch.setattr("sweep.verdicts.runs.KEPT_BYTES", room)
    runs = load_runs(record)
    for _ in range(2):
        for run in runs:
            assert run.series("train/loss").steps.tolist() == list(range(0, 101, 10))
    assert len(read) == num_read
    read.clear()
    for run in [*runs[-2:]] * 3:
        assert len(run.history()) == 1
    assert len(read) <= 2, "a pair that is compared stays"


def test_what_is_read_in_parallel_is_read_a_little_ahead(store: Store) -> None:
    record = replace(linked(store, {"train/loss": every(10, 100)}), remote=True)
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(200):
            taken.append(number)
            yield number

    results = record.each(lambda number: number * number, numbers())
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    assert len(taken) <= READ_AHEAD + 3
    assert list(results) == [number * number for number in range(3, 200)]


def test_whoever_has_seen_enough_of_what_is_read_in_parallel_waits_for_little(store: Store) -> None:
    record = replace(linked(store, {"train/loss": every(10, 100)}), remote=True)
    read: list[int] = []
    results = cast("Generator[None]", record.each(read.append, range(200)))
    next(results)
    results.close()
    assert len(read) <= READ_AHEAD + 1
