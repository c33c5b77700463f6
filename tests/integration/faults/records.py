"""Two sweeps' records compared value by value, and a database looked through for what must not be there."""

import sqlite3
from pathlib import Path

import pyarrow.parquet as parquet
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.file_utils import local_file_uri_to_path

DATABASE = "mlflow.db"
_REPEATED = """
    select run_uuid, key, step, count(*) from metrics
    where key not like 'cells/%' and key not like 'best/%'
    group by run_uuid, key, step having count(*) > 1
"""
"""The sweep's own progress, cells/… and best/…, is a series of looks: two may be at one count of cells."""
_TWICE = """
    select value, count(*) from tags join runs using (run_uuid)
    where key = 'sweep.cell_id' and lifecycle_stage = 'active' group by value having count(*) > 1
"""
_OPEN = "select run_uuid from runs where status = 'RUNNING' and lifecycle_stage = 'active'"


def cell_runs(tracking_uri: str) -> dict[str, Run]:
    """Return the run of every cell; two of one cell are an error."""
    client = MlflowClient(tracking_uri)
    experiments = [one.experiment_id for one in client.search_experiments()]
    found = client.search_runs(experiments, "tags.`sweep.role` = 'cell'", max_results=1000)
    runs = {run.data.tags["sweep.cell_id"]: run for run in found}
    assert len(runs) == len(found), "a cell has two runs"
    return runs


def assert_clean(database: Path) -> None:
    """No cell has two runs, no point is there twice, nothing is shown as running."""
    with sqlite3.connect(database) as connection:
        for query in (_TWICE, _REPEATED, _OPEN):
            assert connection.execute(query).fetchall() == [], query
    connection.close()


def assert_equal_records(home: Path, undisturbed: Path) -> None:
    """The sweep in `home` has the runs, finals, params, points and histories of the other, bit for bit."""
    assert_clean(home / DATABASE)
    mine, expected = (cell_runs(f"sqlite:///{folder / DATABASE}") for folder in (home, undisturbed))
    assert mine.keys() == expected.keys()
    for cell, run in mine.items():
        other = expected[cell]
        assert run.info.status == other.info.status == "FINISHED"
        assert run.data.tags["sweep.status"] == other.data.tags["sweep.status"]
        assert run.data.params == other.data.params
        assert repr(sorted(run.data.metrics.items())) == repr(sorted(other.data.metrics.items()))
        assert _history(run) == _history(other)
    assert _points(home / DATABASE) == _points(undisturbed / DATABASE)


def _history(run: Run) -> str:
    folder = Path(local_file_uri_to_path(run.info.artifact_uri), "history")
    (part,) = folder.glob("*.parquet")
    return repr(parquet.read_table(part).drop_columns("timestamp_ms").to_pydict())


def _points(database: Path) -> list[tuple[object, ...]]:
    query = """
        select tags.value, metrics.key, step, metrics.value from metrics join tags using (run_uuid)
        where tags.key = 'sweep.cell_id' order by 1, 2, 3
    """
    with sqlite3.connect(database) as connection:
        found = connection.execute(query).fetchall()
    connection.close()
    return found
