"""The steering through moments in which the checkpoint store does not answer."""

from collections.abc import Callable
from random import Random
from typing import Any
from unittest.mock import Mock

import pytest

from search_spaces.search import StopperSpec
from sweep.errors import LedgerError, StorageError
from sweep.names import Status
from sweep.search.asking import Asking
from sweep.search.comparing import Comparing
from sweep.search.events import Told
from sweep.search.journal import Journal
from sweep.search.outbox import Outbox
from sweep.search.stoppers import Stopper
from sweep.storage import Manifest, Storage
from tests.sweep.search.one_search import SPACE, Search, wait_until
from tests.sweep.small_sweep import history, make_cell


class Away:
    """A method of the store that fails now and then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, fails: Callable[[int], bool]) -> None:
        method, self.calls = getattr(Storage, name), 0

        def call(storage: Storage, *arguments: Any, **options: Any) -> Any:
            self.calls += 1
            if fails(self.calls):
                raise StorageError("storage: away for a moment.")
            return method(storage, *arguments, **options)

        monkeypatch.setattr(Storage, name, call)


@pytest.mark.parametrize("seed", range(3))
def test_a_search_outlives_moments_without_the_store(
    seed: int, searching: Callable[..., Search], monkeypatch: pytest.MonkeyPatch
) -> None:
    search, draw = searching(), Random(seed)
    away = Away(monkeypatch, "latest", lambda _: draw.random() < 0.3)
    search.begin(slots=2)
    cells: list[str] = []
    while len(cells) < 6:
        for cell in search.take():
            search.train(cell)
            cells.append(cell)
    assert wait_until(lambda: sum(isinstance(event, Told) for event in search.events()) == 6)
    assert wait_until(lambda: search.guide.take(0.1) is None)
    assert away.calls > 4
    search.stack.close()
    events, asked = search.events(), search.asked()
    assert [cell for one in asked for cell in one.cells] == cells
    assert sorted(event.number for event in events if isinstance(event, Told)) == list(range(6))
    assert Asking(SPACE.search, events).is_exact


def test_an_end_that_cannot_be_read_yet_is_looked_at_again(
    searching: Callable[..., Search], monkeypatch: pytest.MonkeyPatch
) -> None:
    search = searching()
    search.begin(slots=1)
    (cell,) = search.take()
    latest, is_back = Storage.latest, list[int]()

    def hidden(storage: Storage, cell_id: str, **options: Any) -> Any:
        # As where the manifest that was just written is passed over.
        return latest(storage, cell_id, **options) if is_back else (None, ["damaged"])

    monkeypatch.setattr(Storage, "latest", hidden)
    search.train(cell)
    assert search.guide.take(0.3) == []
    is_back.append(1)
    search.take()
    assert [event.number for event in search.events() if isinstance(event, Told)] == [0]


@pytest.mark.parametrize("something_is_left", [False, True])
def test_an_end_that_is_never_to_be_read_counts_as_failed(
    something_is_left: bool,
    storage: Storage,
    searching: Callable[..., Search],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    search = searching(space=SPACE.for_search({"cells": 2}))
    search.begin(slots=1)
    (cell,) = search.take()
    latest, left = Storage.latest, None
    if something_is_left:
        left = storage.commit(cell, attempt=1, step=20, checkpoint=b"s", part=history(0, 20), previous=None)

    def damaged(storage: Storage, cell_id: str, **options: Any) -> Any:
        return (left, ["damaged"]) if cell_id == cell else latest(storage, cell_id, **options)

    monkeypatch.setattr(Storage, "latest", damaged)
    search.commit(cell)
    search.recorder.submit(cell, step=300, attempt=9)
    search.guide.reported(cell, 300, Status.COMPLETED)
    # The recorder cannot read it either: nobody waits for it, and the search goes on.
    (other,) = search.take()
    search.train(other)
    assert wait_until(lambda: search.guide.take(0.1) is None)
    search.stack.close()
    told = {event.number: event.result.state for event in search.events() if isinstance(event, Told)}
    assert told == {0: "failed", 1: "complete"}
    assert any(f"the end of cell {cell} cannot be read" in line for line in search.said)


def test_mlflow_that_is_away_when_the_search_ends_is_no_error(
    searching: Callable[..., Search], monkeypatch: pytest.MonkeyPatch
) -> None:
    search = searching()
    search.begin(slots=1)
    (cell,) = search.take()

    def away(*_: object) -> None:
        raise LedgerError("away", transient=True)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", away)
        search.train(cell, loss=0.5)
        search.guide.close()
    search.stack.close()
    # Who goes on finds the end in the store.
    again = searching()
    again.begin(slots=1)
    again.take()
    told = [event for event in again.events() if isinstance(event, Told)]
    assert [(event.number, event.result.objectives) for event in told] == [(0, (0.5,))]


def test_what_was_pruned_between_two_looks_is_looked_at_again(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, read_parts, reads = Mock(), Storage.read_parts, list[int]()
    comparing = Comparing(
        Stopper(StopperSpec(kind="asha"), grace=10),
        cells={"cell": make_cell()},
        storage=storage,
        marks=storage.stops("sweep"),
        outbox=(outbox := Outbox(journal)),
        events=[],
        siblings=lambda _: (),
        has_ended=lambda _: False,
    )

    def commit(step: int) -> None:
        storage.commit(
            "cell", attempt=1, step=step, checkpoint=b"state", part=history(0, step), previous=None
        )

    def pruned_first(store: Storage, manifest: Manifest, **options: Any) -> Any:
        reads.append(manifest.step)
        if len(reads) == 1:
            commit(25)
            raise StorageError("storage: a part is missing.")
        return read_parts(store, manifest, **options)

    commit(20)
    monkeypatch.setattr(Storage, "read_parts", pruned_first)
    comparing.compare("cell", 20, Status.RUNNING)
    outbox.flush()
    assert reads == [20, 25]
    ((decided,),) = journal.append.call_args.args
    assert (decided.cell_id, decided.step, decided.value) == ("cell", 10, 2.0 / 11)
