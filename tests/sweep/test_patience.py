"""What is away for a moment is waited for where nobody would start the command again, and only there."""

import time
from collections.abc import Callable

import pytest
from rich.console import Console
from typer import Exit

from search_spaces import Space
from sweep import patience
from sweep.cli_running import run
from sweep.errors import (
    ClusterError,
    LeaseHeldError,
    LedgerError,
    LedgerUnavailableError,
    NoRoomError,
    StorageUnavailableError,
)
from sweep.places import Places
from sweep.run_options import RunOptions
from sweep.sweep_run import EXIT_DONE
from trainers.errors import ConfigError, DownloadError, SharpflatError


@pytest.mark.parametrize("told", [None, "SWEEP_RESTARTED", "SWEEP_UNATTENDED"])
def test_what_keeps_a_driver_going_says_so(told: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[RunOptions] = []

    def keep(
        space: Space, places: Places, options: RunOptions, console: Console, *, begun: Callable[[], None]
    ) -> int:
        given.append(options)
        return EXIT_DONE

    monkeypatch.setattr("sweep.driver.run_sweep", keep)
    if told is not None:
        monkeypatch.setenv(told, "1")
    with pytest.raises(Exit):
        run("demo", smoke=True)
    # Who is alone and was begun by a user forgets what was asked of the driver before.
    expected = (told == "SWEEP_RESTARTED", told is not None)
    assert [(options.restarted, options.unattended) for options in given] == [expected]


@pytest.mark.parametrize("told", [None, "SWEEP_RESTARTED", "SWEEP_UNATTENDED"])
@pytest.mark.parametrize(
    "error",
    [
        LedgerUnavailableError("away", transient=True),
        StorageUnavailableError("away"),
        LeaseHeldError("being run"),
        ClusterError("no Ray yet"),
        DownloadError("no network"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_away_is_waited_for_where_nobody_would_start_the_driver_again(
    error: SharpflatError, told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def away(
        space: Space, places: Places, options: RunOptions, console: Console, *, begun: Callable[[], None]
    ) -> int:
        tries.append(options.name)
        if len(tries) < 3:
            raise error
        return EXIT_DONE

    monkeypatch.setattr("sweep.driver.run_sweep", away)
    monkeypatch.setattr(patience, "SECONDS_BETWEEN_TRIES", 0.0)
    if told is not None:
        monkeypatch.setenv(told, "1")
        with pytest.raises(Exit) as ended:
            run("demo", smoke=True)
        assert ended.value.exit_code == EXIT_DONE and len(tries) == 3
    else:
        with pytest.raises(type(error)):
            run("demo", smoke=True)
        assert len(tries) == 1


def test_a_try_after_one_that_had_begun_is_no_new_command(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[bool] = []

    def away(
        space: Space, places: Places, options: RunOptions, console: Console, *, begun: Callable[[], None]
    ) -> int:
        tries.append(options.restarted)
        if len(tries) == 2:
            begun()
        if len(tries) < 4:
            raise StorageUnavailableError("away")
        return EXIT_DONE

    monkeypatch.setattr("sweep.driver.run_sweep", away)
    monkeypatch.setattr(patience, "SECONDS_BETWEEN_TRIES", 0.0)
    monkeypatch.setenv("SWEEP_UNATTENDED", "1")
    with pytest.raises(Exit):
        run("demo", smoke=True)
    assert tries == [False, False, True, True]


def test_patience_has_an_end_and_is_for_what_may_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "SECONDS_BETWEEN_TRIES", 0.01)
    monkeypatch.setattr(patience, "SECONDS_TO_COME_BACK", 0.05)
    tries, said = list[SharpflatError](), list[str]()

    def fail(error: SharpflatError) -> None:
        tries.append(error)
        raise error

    with pytest.raises(LedgerError):
        patience.patiently(lambda: fail(LedgerError("away", transient=True)), said.append)
    assert len(tries) > 1 and len(said) == 1
    for error in (LedgerError("refused"), ConfigError("wrong"), NoRoomError("no node has come")):
        tries.clear()
        with pytest.raises(type(error)):
            patience.patiently(lambda error=error: fail(error), said.append)
        assert tries == [error]


def test_patience_begins_anew_where_what_was_away_had_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "SECONDS_TO_COME_BACK", 0.2)
    monkeypatch.setattr(patience, "SECONDS_OF_A_TRY", 0.1)
    monkeypatch.setattr(patience, "SECONDS_BETWEEN_TRIES", 0.0)
    ends = [LedgerError("away", transient=True)] * 5

    def work() -> str:
        time.sleep(0.15)
        if ends:
            raise ends.pop()
        return "done"

    assert patience.patiently(work, lambda _: None) == "done"
