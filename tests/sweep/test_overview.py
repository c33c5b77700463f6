"""What `sweep list` says of a sweep, from its own run alone."""

import json
from datetime import datetime

import pytest

from search_spaces import load_space, load_space_text
from sweep import names
from sweep.cli import main
from sweep.lease import Lease
from sweep.ledger import Ledger
from sweep.names import Status
from sweep.overview import all_sweeps
from tests.sweep.small_sweep import FakeSpace, make_plan


def test_states_counts_and_the_best(
    ledger: Ledger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = ledger.client.tracking_uri
    over = ledger.open_sweep(FakeSpace(), make_plan(0.1), name="over")
    figures = {"cells/completed": 3.0, "cells/diverged": 1.0, "cells/failed": 0.0}
    ledger.log_progress(
        over, {**figures, names.BEST_TRAIN_LOSS: 0.0123, names.BEST_TEST_ACCURACY: 0.912}, step=4
    )
    with Lease.acquire(ledger, over):
        pass
    ledger.finish_sweep(over, Status.COMPLETED)
    killed = ledger.open_sweep(FakeSpace(), make_plan(0.2), name="killed [red]")
    under_way = ledger.open_sweep(FakeSpace(), make_plan(0.3), name="under way")
    with Lease.acquire(ledger, under_way):
        found = {sweep.name: sweep for sweep in all_sweeps(uri)}
        with pytest.raises(SystemExit):
            main(["list", "--tracking-uri", uri, "--json"])
    listed = {sweep["name"]: sweep for sweep in json.loads(capsys.readouterr().out)["sweeps"]}
    assert {name: sweep.state for name, sweep in found.items()} == {
        "over": "finished", "killed [red]": "interrupted", "under way": "running"
    }  # fmt: skip
    assert found["over"].counts == {"completed": 3, "diverged": 1} and found[killed.name].counts == {}
    assert found["over"].columns[4:] == ("3 completed, 1 diverged", "0.0123", "91.2")

    for columns in ("80", None):
        if columns is None:
            # A pipe: whole lines, whatever is in them.
            monkeypatch.delenv("COLUMNS")
        else:
            monkeypatch.setenv("COLUMNS", columns)
        with pytest.raises(SystemExit):
            main(["list", "--tracking-uri", uri])
        said = capsys.readouterr().out
        assert "killed [red]" in said and "zs25-fig1" in said and "say25-" in said and "…" not in said
    assert "best single cell: loss" in said and "3 completed, 1 diverged" in said
    assert listed.keys() == found.keys() and listed["under way"]["state"] == "running"
    assert listed["over"]["counts"] == {"completed": 3, "diverged": 1}
    assert listed["over"]["best"] == {names.FINAL_TRAIN_LOSS: 0.0123, names.FINAL_TEST_ACCURACY: 0.912}
    begun = datetime.fromisoformat(listed["over"]["begun"]).timestamp()
    assert begun == pytest.approx(found["over"].begun, abs=1)


def test_a_space_is_shown_as_it_would_be_run(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["show", "demo", "--set", "lr=0.05"])
    shown = load_space_text(capsys.readouterr().out)
    assert shown.base.phases[-1].lr == 0.05
    assert shown.sha256 == load_space("demo", overrides=["lr=0.05"]).sha256


def test_without_a_database_there_are_none(tmp_path: object) -> None:
    assert all_sweeps(f"sqlite:///{tmp_path}/none.db") == []
