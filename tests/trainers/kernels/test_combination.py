"""Combinations of rows in the place of the first of them."""

import pytest
import torch

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
