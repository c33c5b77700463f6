"""A driver whose MLflow, a real server, is killed in the middle: told to stop, or begun again by itself."""

import io
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from typer import Exit

from search_spaces import load_space_text
from sweep import cli_running, patience, training
from sweep.cell_records import CellRecords
from sweep.driver import RunOptions, run_sweep
from sweep.errors import StorageDamagedError, StorageError
from sweep.ledger import Ledger
from sweep.names import Status
from sweep.places import Places
from sweep.plan import make_plan
from sweep.recorder import Recorder
from sweep.sweep_run import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, SweepRun
from sweep.wanted import Wanted
from tests.fresh_database import fresh_database
from tests.integration.faults.killed_writes import SPACE, HereCluster, packs_here
from tests.integration.servers import MlflowServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MlflowServer]:
    (tmp_path / "server.db").write_bytes(fresh_database())
    made = MlflowServer(tmp_path)
    made.start()
    yield made
    made.kill()


@pytest.fixture
def places(tmp_path: Path, server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> Places:
    """Where a sweep runs without Ray."""
    monkeypatch.setattr(training, "Cluster", HereCluster)
    monkeypatch.setattr(training, "run_packs", packs_here(SimpleNamespace(note=lambda _: None)))  # type: ignore[arg-type]
    return Places(
        home=tmp_path,
        tracking_uri=server.address,
        storage=str(tmp_path / "storage"),
        data_folder=tmp_path / "data",
    )


def test_who_is_told_to_stop_exits_so_where_the_lease_cannot_be_released(
    places: Places, server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(run: SweepRun, looked: object) -> dict[str, str]:
        run._stop.ask("by SIGTERM")
        server.kill()
        return {}

    monkeypatch.setattr(SweepRun, "_make_missing", told)
    said = io.StringIO()
    code = run_sweep(load_space_text(SPACE), places, RunOptions(name="writes"), Console(file=said))
    assert code == EXIT_INTERRUPTED, said.getvalue()


@pytest.mark.parametrize("moment", ["while it looks", "at its end"])
def test_who_begins_again_in_the_same_process_is_not_kept_out_by_itself(
    moment: str, places: Places, server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    kills: list[threading.Timer] = []
    method = "_look" if moment == "while it looks" else "_finish"
    real = getattr(SweepRun, method)

    def away_once(run: SweepRun) -> object:
        if not kills:
            server.kill()
            kills.append(threading.Timer(2.0, server.start))
            kills[0].start()
        return real(run)

    monkeypatch.setattr(SweepRun, method, away_once)
    monkeypatch.setattr(patience, "SECONDS_BETWEEN_TRIES", 0.5)
    monkeypatch.setenv(cli_running.RESTARTED, "1")
    space = load_space_text(SPACE)
    with pytest.raises(Exit) as ended:
        cli_running._run(space, places, name="writes")
    kills[0].join()
    assert ended.value.exit_code == EXIT_DONE
    ledger = Ledger.open(server.address)
    runs = ledger.lookup(list(make_plan(space).cells))
    assert [run.status for run in runs.values()] == [Status.COMPLETED] * 2


@pytest.mark.parametrize("away", ["MLflow", "the store", "nobody"])
def test_what_could_not_be_recorded_in_time_is_recorded_by_who_begins_again_by_itself(
    away: str, places: Places, server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, drain, write = Recorder.start, SweepRun._drain, CellRecords.write
    left: list[list[str]] = []

    def begin(recorder: Recorder) -> None:
        if away == "MLflow" and not left:
            server.kill()
        start(recorder)

    def refused(records: CellRecords, cell_id: str, wanted: Wanted) -> None:
        if away == "nobody":
            raise StorageDamagedError("no commit is left.")
        if away == "the store" and not left:
            raise StorageError("the store does not answer.")
        write(records, cell_id, wanted)

    def drained(run: SweepRun, recorder: Recorder) -> list[str]:
        left.append(drain(run, recorder))
        if away == "MLflow" and len(left) == 1:
            server.start()
        return left[-1]

    monkeypatch.setattr(Recorder, "start", begin)
    monkeypatch.setattr(CellRecords, "write", refused)
    monkeypatch.setattr(SweepRun, "_drain", drained)
    monkeypatch.setattr(patience, "SECONDS_BETWEEN_TRIES", 0.1)
    monkeypatch.setenv(cli_running.RESTARTED, "1")
    space = load_space_text(SPACE)
    with pytest.raises(Exit) as ended:
        cli_running._run(space, places, name="writes", record_seconds=1.0)
    cells = make_plan(space).cells
    assert left[0] == sorted(cells)
    runs = Ledger.open(server.address).lookup(list(cells))
    if away == "nobody":
        # Waiting mends nothing of what is refused.
        assert (ended.value.exit_code, len(left), len(runs)) == (EXIT_FAILED, 1, 0)
    else:
        # A slow machine may take it more tries than one.
        assert (ended.value.exit_code, left[-1]) == (EXIT_DONE, [])
        assert [run.status for run in runs.values()] == [Status.COMPLETED] * 2
