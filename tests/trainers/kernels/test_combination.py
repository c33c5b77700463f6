"""Combinations of rows in the place of the first of them."""

import pytest
import torch

from tests.trainers.kernels.conftest import DEVICE
from tests.trainers.kernels.test_products import drawn, error
from tests.trainers.tolerances import HALVES
from trainers.kernels.combination import MOST_RESULTS, combine


@pytest.mark.parametrize("count, results, size", [(24, 12, 1000), (2, 1, 7), (56, 28, 514), (40, 40, 300)])
@pytest.mark.parametrize("apart", [False, True])
def test_combines_rows_in_their_place(count: int, results: int, size: int, apart: bool) -> None:
    room = drawn(3, count + 3 * apart, size + 5 * apart)
    rows, factors = room[:, :count, :size], drawn(3, results, count)
    exact, rest, around = factors.double() @ rows.double(), rows[:, results:].clone(), room.clone()
    found = combine(rows, factors)
    assert error(found, exact) < HALVES and found.data_ptr() == rows.data_ptr()
    assert torch.equal(rows[:, results:], rest)
    assert torch.equal(room[:, count:], around[:, count:])
    # As far as wide loads reach, what lies between rows is nobody's.
    assert torch.equal(room[:, :, size + 3 :], around[:, :, size + 3 :])


def test_more_than_a_program_holds_are_the_librarys() -> None:
    rows, factors = drawn(1, MOST_RESULTS + 4, 70), drawn(1, MOST_RESULTS + 1, MOST_RESULTS + 4)
    exact = factors.double() @ rows.double()
    assert error(combine(rows, factors), exact) < HALVES


def test_nothing_is_done_unless() -> None:
    rows, factors = drawn(2, 24, 700), drawn(2, 12, 24)
    before = rows.clone()
    combine(rows, factors, unless=torch.ones(1, dtype=torch.int32, device=DEVICE))
    assert torch.equal(rows, before)
    combine(rows, factors, unless=torch.zeros(1, dtype=torch.int32, device=DEVICE))
    assert error(rows[:, :12], factors.double() @ before.double()) < HALVES
