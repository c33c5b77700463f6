"""Several addresses are looked at together, in order, and no longer than somebody wants to know."""

import threading

import pytest

from sweep.looking import LOOKS_AT_ONCE, looks

PATIENCE_SECONDS = 60.0


def test_looks_go_on_together_and_their_order_is_kept() -> None:
    together = threading.Barrier(LOOKS_AT_ONCE)

    def look(address: str) -> str:
        # Looked at one after another, each would wait here for the others in vain.
        together.wait(PATIENCE_SECONDS)
        return address.upper()

    addresses = [f"a{number}" for number in range(5 * LOOKS_AT_ONCE)]
    assert list(looks(addresses, look)) == [(address, address.upper()) for address in addresses]


def test_nothing_is_looked_at_where_there_is_nothing() -> None:
    assert list(looks([], str.upper)) == []


def test_whoever_does_not_want_to_know_any_more_does_not_wait() -> None:
    answers, asked = threading.Event(), threading.Event()

    def look(address: str) -> str:
        if address == "first":
            return address
        asked.set()
        assert answers.wait(PATIENCE_SECONDS)
        return address

    found = looks(["first", *map(str, range(100))], look, is_over=asked.is_set)
    try:
        assert dict(found).keys() <= {"first"}
        assert not answers.is_set()
    finally:
        answers.set()


def test_what_a_look_raises_is_raised_and_no_more_is_looked_at() -> None:
    looked: list[str] = []

    def look(address: str) -> str:
        looked.append(address)
        if address == "3":
            raise OSError("away")
        return address

    found = looks(map(str, range(10_000)), look)
    with pytest.raises(OSError, match="away"):
        list(found)
    assert len(looked) < 1000
