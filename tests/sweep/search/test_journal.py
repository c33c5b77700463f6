"""The journal in a real MLflow: in order, complete, durable, and nobody else's."""

import pytest

from search_spaces.search import SearchSpec
from sweep import names
from sweep.errors import LeaseLostError, LedgerError
from sweep.lease import Lease
from sweep.ledger import Ledger, Sweep
from sweep.search.events import (
    Asked,
    Decided,
    Event,
    Known,
    Released,
    Result,
    Taken,
    Told,
    event_from_json,
    event_to_json,
)
from sweep.search.journal import Journal, read_events

EVENTS: list[Event] = [
    Known(
        configuration={"lr": 0.1, "k": 3, "alpha_dom": float("inf"), "init": "xavier"},
        result=Result(state="complete", objectives=(0.5, 0.1), spreads=(0.0, 0.01), diverged=0.5),
    ),
    Asked(number=0, configuration={"lr": 0.123456}, cells=("a", "b"), new=2, steps=200, seconds=1.5),
    Asked(number=1, configuration={"lr": 1.5}, cells=("c",), theirs=("c",)),
    Taken(cell_id="c", steps=100),
    Told(number=0, result=Result(state="pruned", objectives=(1e-300,), spreads=(0.0,), step=7), spared=93),
    Decided(cell_id="a", step=10, value=0.1 + 0.2, stops=True, reason="asha: 2 of 3"),
    Released(cell_id="a"),
]


def test_every_kind_of_event_comes_back_as_it_was(ledger: Ledger, sweep: Sweep, lease: Lease) -> None:
    assert read_events(ledger, sweep) == []
    journal = Journal(ledger, sweep, lease, [])
    journal.append(EVENTS[:2])
    journal.append([])
    journal.append(EVENTS[2:])
    assert read_events(ledger, sweep) == journal.events == EVENTS


def test_a_long_journal_is_kept_in_files_that_do_not_change(
    ledger: Ledger, sweep: Sweep, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweep.search.journal.EVENTS_PER_FILE", 3)
    events: list[Event] = [Released(cell_id=str(number)) for number in range(11)]
    written: list[str] = []
    put = ledger.artifacts.put
    monkeypatch.setattr(
        ledger.artifacts, "put", lambda run, path, data: (written.append(path), put(run, path, data))
    )
    # Several files at once, then one event at a time over their edges, each by a journal that was read back.
    Journal(ledger, sweep, lease, []).append(events[:5])
    for number in range(5, 11):
        Journal(ledger, sweep, lease, read_events(ledger, sweep)).append([events[number]])
    assert read_events(ledger, sweep) == events
    assert [path[-7] for path in written] == list("01" + "1" + "222" + "33")


def test_a_damaged_journal_is_said_so(ledger: Ledger, sweep: Sweep, lease: Lease) -> None:
    Journal(ledger, sweep, lease, []).append(EVENTS)
    ledger.artifacts.put(sweep.run_id, f"{names.ARTIFACT_JOURNAL}/000000.jsonl", b'{"kind": "asked"}\n')
    with pytest.raises(LedgerError, match="damaged, line 1"):
        read_events(ledger, sweep)


def test_who_has_lost_the_lease_writes_nothing(
    ledger: Ledger, sweep: Sweep, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost() -> None:
        raise LeaseLostError("another process has taken over")

    journal = Journal(ledger, sweep, lease, [])
    monkeypatch.setattr(lease, "check", lost)
    with pytest.raises(LeaseLostError):
        journal.append(EVENTS)
    assert read_events(ledger, sweep) == [] == journal.events


def test_a_label_that_reads_as_infinity_stays_a_label(ledger: Ledger, sweep: Sweep, lease: Lease) -> None:
    search = SearchSpec.model_validate(
        {
            "axes": {
                "method": {"choices": {"inf": {"seed": 1}, "Infinity": {"seed": 2}, "dom": {"seed": 3}}},
                "alpha_dom": [1, float("inf")],
            }
        }
    )
    events: list[Event] = [
        Asked(number=number, configuration={"method": label, "alpha_dom": value}, cells=())
        for number, (label, value) in enumerate([("inf", float("inf")), ("Infinity", 1), ("dom", 1)])
    ]
    Journal(ledger, sweep, lease, []).append(events)
    assert read_events(ledger, sweep, search) == events
    # A journal of an earlier version is read in the same way.
    assert event_from_json(event_to_json(events[0]), search) == events[0]
