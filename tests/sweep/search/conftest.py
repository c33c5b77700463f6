"""Commands of a search that end with the test, and turns that follow each other quickly."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from sweep.ledger import Ledger
from sweep.storage import Storage
from tests.sweep.search.one_search import Search


@pytest.fixture
def quick_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweep.search.turns.SECONDS_BETWEEN_TURNS", 0.01)
    monkeypatch.setattr("sweep.search.steering.SECONDS_BETWEEN_LOOKS_AT_OTHERS", 0.05)


@pytest.fixture
def searching(ledger: Ledger, storage: Storage, quick_turns: None) -> Iterator[Callable[..., Search]]:
    with ExitStack() as stack:

        def begin(*arguments: Any, **options: Any) -> Search:
            search = Search(ledger, storage, *arguments, **options)
            stack.enter_context(search.stack)
            return search

        yield begin
