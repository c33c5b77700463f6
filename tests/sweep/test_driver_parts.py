"""Commands that make a part of a sweep, and what is said and counted at the end of one."""

import io
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from rich.console import Console

from search_spaces import load_space_text
from sweep import training
from sweep.driver import RunOptions, run_sweep
from sweep.errors import (
    LedgerError,
    StorageError,
)
from sweep.ledger import Ledger
from sweep.names import Status
from sweep.places import Places
from sweep.plan import make_plan
from sweep.ray_cluster import Resources
from sweep.recorder import Recorder
from sweep.reopening import reopen_stored
from sweep.run_options import TRIAL
from sweep.spending import Spending
from sweep.steering_requests import request_stop
from sweep.storage import Storage
from sweep.storage.stop_marks import StopMarks
from sweep.sweep_run import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, SweepRun
from tests.integration.faults.killed_writes import SPACE, HereCluster, packs_here
from trainers.errors import ConfigError

FIRST, SECOND = make_plan(load_space_text(SPACE)).cells


@pytest.fixture
def places(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    """Where a sweep runs without Ray."""
    monkeypatch.setattr(sys, "argv", ["sweep"])
    monkeypatch.setattr(training, "Cluster", HereCluster)
    monkeypatch.setattr(training, "run_packs", packs_here(SimpleNamespace(note=lambda _: None)))  # type: ignore[arg-type]
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    return Places(
        home=folder,
        tracking_uri=uri,
        storage=str(folder / "storage"),
        data_folder=folder / "data",
        given={"--tracking-uri": uri},
    )


@pytest.fixture
def ran(places: Places) -> Callable[..., tuple[int, str]]:
    def run(**options: Any) -> tuple[int, str]:
        said = io.StringIO()
        console = Console(file=said, width=1000)
        return run_sweep(
            load_space_text(SPACE), places, RunOptions(name="writes", **options), console
        ), said.getvalue()

    return run


def statuses(ledger: Ledger) -> dict[str, Status]:
    return {cell: run.status for cell, run in ledger.lookup([FIRST, SECOND]).items()}


def sweep_status(ledger: Ledger) -> str:
    return ledger.parent_run(ledger.find_sweep("writes")).info.status


def test_a_part_of_a_sweep_does_not_finish_it(ledger: Ledger, ran: Callable[..., tuple[int, str]]) -> None:
    code, said = ran(only=frozenset({FIRST}))
    assert (code, statuses(ledger)) == (EXIT_DONE, {FIRST: Status.COMPLETED}), said
    assert sweep_status(ledger) == "KILLED"
    assert ran()[0] == EXIT_DONE
    assert sweep_status(ledger) == "FINISHED"


@pytest.mark.parametrize(("address", "waiting"), [("auto", 2), (None, 1)])
def test_all_that_is_to_be_trained_waits_where_a_cluster_may_add_nodes_for_it(
    address: str | None,
    waiting: int,
    ran: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[int] = []
    monkeypatch.setattr(training, "run_packs", lambda packs, **named: given.append(named["num_waiting"]))
    assert ran(address=address)[0] == EXIT_FAILED
    assert given == [waiting], "two packs, room for one"


def test_a_cell_that_was_asked_to_stop_goes_on_when_it_is_named(
    ledger: Ledger,
    places: Places,
    ran: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert ran(only=frozenset({SECOND}))[0] == EXIT_DONE
    told = request_stop(places.tracking_uri, "writes", [FIRST], given=places.given)
    words = shlex.split(told.rpartition("go on with one: ")[2])
    assert words == ["sweep", "resume", "writes", "--cell", FIRST, "--tracking-uri", places.tracking_uri]
    seen: list[object] = []
    train = training.run_packs

    def watched(*arguments: Any, **options: Any) -> None:
        seen.append((ledger.requests(sweep).cells, storage.stops(sweep.run_id).all()))
        train(*arguments, **options)

    sweep, storage = ledger.find_sweep("writes"), Storage.open(places.storage)
    # As a driver leaves it that is lost before the worker sees it.
    storage.stops(sweep.run_id).put(FIRST, "as asked")
    monkeypatch.setattr(training, "run_packs", watched)
    code, said = ran(only=frozenset({FIRST}))
    assert (code, statuses(ledger)[FIRST]) == (EXIT_DONE, Status.COMPLETED), said
    assert seen == [(frozenset(), set())]


def test_a_stop_that_only_the_store_knows_of_is_undone_too(
    ledger: Ledger,
    places: Places,
    ran: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert ran()[0] == EXIT_DONE
    storage, run = Storage.open(places.storage), ledger.lookup([FIRST])[FIRST]
    # As a driver leaves it that is killed between the commit of the stop and its record.
    reopen_stored(FIRST, storage)
    newest, _ = storage.latest(FIRST)
    assert newest is not None
    storage.commit(
        FIRST,
        attempt=storage.begin_attempt(FIRST),
        step=newest.step,
        checkpoint=storage.read_checkpoint(newest),
        part=storage.read_parts(newest),
        start=0,
        previous=None,
        outcome={"status": "stopped", "reason": "fell behind"},
        summary=newest.summary,
    )
    ledger.finish_cell(run.run_id, Status.INTERRUPTED, "killed")
    code, said = ran(only=frozenset({FIRST}))
    assert "1 cell stopped early, to go on" in said
    assert (code, statuses(ledger)[FIRST]) == (EXIT_DONE, Status.COMPLETED), said


def test_what_is_said_to_type_next_has_what_trials_take_and_where(
    places: Places, ran: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any, events: Any, stop: Any, **__: Any) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(training, "run_packs", stopped)
    monkeypatch.setattr("sweep.driver.require_reachable", lambda address: None)
    code, said = ran(cpus_per_trial=2, lanes=3, address="host:6379")
    assert code == EXIT_INTERRUPTED
    words = shlex.split(said.rpartition("go on with: ")[2])
    assert words[:3] == ["sweep", "resume", "writes"]
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert options == {
        "--cpus-per-trial": "2",
        "--lanes": "3",
        "--address": "host:6379",
        "--tracking-uri": places.tracking_uri,
    }
    assert RunOptions(name="s").typed == ()
    assert RunOptions(name="s", gpus_per_trial=0.25, lanes=0).typed == (
        *("--gpus-per-trial", "0.25"),
        *("--lanes", "auto"),
    )


def test_what_trials_take_stays_with_the_sweep(
    ledger: Ledger, places: Places, ran: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Resources] = []
    train = training.run_packs

    def watched(*arguments: Any, resources: Resources, **named: Any) -> None:
        taken.append(resources)
        train(*arguments, resources=resources, **named)

    monkeypatch.setattr(training, "run_packs", watched)
    unsaid = frozenset(TRIAL)
    of_a_part = RunOptions(name="writes", cpus_per_trial=3).trial
    code, said = ran(cpus_per_trial=3, unsaid=unsaid - {"cpus_per_trial"}, only=frozenset({FIRST}))
    assert code == EXIT_DONE and "trials take what they took before" not in said
    assert ledger.read_trial("writes") != of_a_part, "a command that makes a part may have reasons of its own"
    ledger.write_trial(ledger.find_sweep("writes"), RunOptions(name="writes", cpus_per_trial=2).trial)
    again = request_stop(places.tracking_uri, "writes", [SECOND])
    assert again.endswith(f"sweep resume writes --cell {SECOND} --cpus-per-trial 2"), again
    code, said = ran(unsaid=unsaid, only=frozenset({SECOND}))
    assert code == EXIT_DONE and "trials take what they took before: --cpus-per-trial 2" in said
    assert [one.cpus for one in taken] == [3, 2]


def test_gpus_that_no_trial_takes_are_spoken_of(
    ran: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "GPU" not in ran(only=frozenset({FIRST}))[1]
    monkeypatch.setattr(HereCluster, "num_gpus", lambda _: 2)
    assert "2 GPUs there, and trials take none: --gpus-per-trial 1" in ran()[1]


def _signal_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let SIGTERM come once all is trained, before the rest of it is recorded."""
    drain = Recorder.drain

    def signalled(recorder: Recorder, seconds: float) -> list[str]:
        signal.raise_signal(signal.SIGTERM)
        return drain(recorder, seconds)

    monkeypatch.setattr(Recorder, "drain", signalled)


def test_a_signal_that_stops_nothing_any_more_is_no_interruption(
    ledger: Ledger, ran: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _signal_at_the_end(monkeypatch)
    code, said = ran()
    assert code == EXIT_DONE and "figures and tables" in said
    assert sweep_status(ledger) == "FINISHED"


def test_a_stop_that_is_asked_while_a_driver_begins_is_met(
    ledger: Ledger, places: Places, ran: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ran(only=frozenset({FIRST}))[0] == EXIT_DONE
    write_plan = Ledger.write_plan

    def asked_meanwhile(known: Ledger, *arguments: Any, **options: Any) -> None:
        request_stop(places.tracking_uri, "writes", ())
        write_plan(known, *arguments, **options)

    monkeypatch.setattr(Ledger, "write_plan", asked_meanwhile)
    monkeypatch.setattr(training, "SECONDS_BETWEEN_POLLS", 3600.0)
    ran()
    # It is there for the next look at requests.
    assert ledger.requests(ledger.find_sweep("writes")).stop


def test_limits_count_on_in_a_driver_that_is_started_again(
    ledger: Ledger, ran: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ran(only=frozenset({FIRST}))[0] == EXIT_DONE
    sweep = ledger.find_sweep("writes")
    ledger.write_spent(sweep, {"seconds": 3590.0, "held_seconds": 3600.0, "search_seconds": 5.0})
    spending = Spending(ledger, sweep, goes_on=True, is_kept=True)
    assert spending.seconds >= 3590.0 and spending.held_seconds == 3600.0
    spending.hold(10.0)
    spending.close(is_over=False)
    spent = ledger.spent(sweep)
    assert spent["held_seconds"] == 3610.0 and spent["seconds"] >= 3590.0 and spent["search_seconds"] >= 5.0
    # A limit that the driver before has used up ends this one, and is that of this command alone.
    code, said = ran(restarted=True, limit_seconds=1.0)
    assert code == EXIT_INTERRUPTED and "the time limit of 1 s is over" in said
    assert ledger.spent(sweep).keys() == {"search_seconds"}
    code, said = ran(restarted=True, limit_seconds=3600.0, cost_limit=1000.0)
    assert code == EXIT_DONE, said


def test_a_command_that_a_user_starts_counts_from_nothing(ledger: Ledger, ran: Callable[..., Any]) -> None:
    assert ran(only=frozenset({FIRST}))[0] == EXIT_DONE
    sweep = ledger.find_sweep("writes")
    ledger.write_spent(sweep, {"seconds": 3590.0, "held_seconds": 3600.0, "search_seconds": 5.0})
    spending = Spending(ledger, sweep, goes_on=False, is_kept=True)
    assert spending.seconds < 3590.0 and spending.held_seconds == 0.0 and spending.search_seconds >= 5.0
    assert ledger.spent(sweep)["seconds"] == 3590.0, "nothing is written by looking"
    spending.begin()
    # Whoever follows it is not to find what was taken before.
    assert ledger.spent(sweep).keys() == {"search_seconds"}
    for text in ("", "[1]", "{", '{"seconds": "x"}'):
        ledger.client.set_tag(sweep.run_id, "sweep.spent", text)
        assert ledger.spent(sweep) == {}


@pytest.mark.parametrize(
    ("what", "told", "code"),
    [
        ("all failed", True, EXIT_DONE),
        ("all failed", False, EXIT_FAILED),
        ("one is left", True, EXIT_FAILED),
        ("not recorded", True, EXIT_FAILED),
    ],
)
def test_cells_that_failed_are_an_end_where_another_cluster_would_be_begun(
    what: str, told: bool, code: int, ran: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(run: SweepRun, looked: object) -> dict[str, str]:
        for cell in [FIRST] if what == "one is left" else [FIRST, SECOND]:
            axes = run._plan.axes_of(cell)
            begun = run._ledger.start_cell(run._sweep, cell_id=cell, cell=run._plan.cells[cell], axes=axes)
            run._ledger.finish_cell(begun.run_id, Status.FAILED, "broke")
        run._unrecorded = [SECOND] if what == "not recorded" else []
        return {}

    monkeypatch.setattr(SweepRun, "_make_missing", fail)
    assert ran(failed_is_done=told)[0] == code


def test_a_search_that_is_interrupted_between_two_questions_counts_on(
    ledger: Ledger, ran: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        _signal_at_the_end(patched)
        patched.setattr(SweepRun, "_is_unfinished", True)
        code, said = ran(limit_seconds=3600.0)
    assert code == EXIT_INTERRUPTED and "by SIGTERM" in said
    assert statuses(ledger) == {FIRST: Status.COMPLETED, SECOND: Status.COMPLETED}
    assert "seconds" in ledger.spent(ledger.find_sweep("writes"))
    # One that ends at its limit leaves nothing to go on with.
    assert ran(limit_seconds=3600.0, restarted=True)[0] == EXIT_DONE
    assert "seconds" not in ledger.spent(ledger.find_sweep("writes"))


def test_what_a_search_has_added_is_written_down_before_the_plan_is_stored(
    ledger: Ledger, ran: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    guide = Mock(expects_more=False, is_unfinished=False, pauses=lambda cells: ())
    guide.settle.side_effect = LedgerError("away", transient=True)
    monkeypatch.setattr("sweep.sweep_run.make_guide", lambda *_, **__: guide)
    code, said = ran()
    assert code == EXIT_FAILED and "trained, not recorded: away" in said
    stored = ledger.read_cells(ledger.find_sweep("writes"))
    assert stored is not None and stored["status"].to_pylist() == [Status.PENDING] * 2


def test_time_counts_while_nodes_are_waited_for(
    ledger: Ledger, ran: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweep.spending.SECONDS_BETWEEN_RECORDS", 0.0)
    kept: list[dict[str, float]] = []

    def slots(cluster: HereCluster, resources: Resources, *, stopped_within: Any, **_: Any) -> int:
        assert not stopped_within(0.01)
        kept.append(ledger.spent(ledger.find_sweep("writes")))
        return 1

    monkeypatch.setattr(HereCluster, "slots", slots)
    assert ran(limit_seconds=3600.0)[0] == EXIT_DONE
    assert [spent.keys() for spent in kept] == [{"seconds", "search_seconds", "held_seconds"}]


def test_a_cell_that_has_another_address_by_now_is_not_passed_over(
    ledger: Ledger, ran: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ran(only=frozenset({FIRST}))[0] == EXIT_DONE
    before = ledger.parent_run(ledger.find_sweep("writes")).data
    with pytest.raises(ConfigError, match="cell 0{16} is another one by now.*sweep resume writes") as refused:
        ran(only=frozenset({FIRST, "0" * 16}), address="auto", cpus_per_trial=2)
    again = refused.value.args[0].rpartition(": ")[2]
    assert "--cpus-per-trial 2 " in again and again.endswith(" --address auto")
    assert ledger.parent_run(ledger.find_sweep("writes")).data.params == before.params


def test_marks_that_cannot_be_removed_change_nothing_about_how_a_sweep_ended(
    ledger: Ledger, ran: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(marks: StopMarks) -> set[str]:
        raise StorageError("the store is away")

    monkeypatch.setattr(StopMarks, "all", away)
    code, said = ran()
    assert code == EXIT_DONE, said
    assert sweep_status(ledger) == "FINISHED"


@pytest.mark.parametrize("asked", [False, True])
def test_who_is_told_to_stop_while_the_store_is_away_is_to_go_on(
    asked: bool, ran: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(run: SweepRun, looked: object) -> dict[str, str]:
        if asked:
            run._stop.ask("by SIGTERM")
        raise StorageError("the store is away")

    monkeypatch.setattr(SweepRun, "_make_missing", away)
    if asked:
        code, said = ran()
        assert code == EXIT_INTERRUPTED and "the store is away" in said and "resume writes" in said
    else:
        with pytest.raises(StorageError, match="is away"):
            ran()
