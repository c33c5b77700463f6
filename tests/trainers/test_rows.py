"""Rows of one tensor come together without a copy; any others with one."""

import torch

from trainers.rows import together


def test_rows_of_one_tensor_are_not_copied() -> None:
    whole = torch.randn(5, 3, 4)
    for rows in (whole.unbind(0), whole[:, :2].unbind(0), whole.unbind(0)[1:4], whole.unbind(0)[::2]):
        found = together(rows)
        assert torch.equal(found, torch.stack(list(rows)))
        assert found.data_ptr() == rows[0].data_ptr()
    assert together([whole[2]]).data_ptr() == whole[2].data_ptr()


def test_all_others_are_copied() -> None:
    whole, other = torch.randn(5, 3, 4), torch.randn(3, 4)
    first, *rest = whole.unbind(0)
    cases = [
        [first, other],
        [other, first, *rest],
        [rest[0], first],
        [first, rest[1], rest[2]],
        [first, first],
        [row.mT for row in rest],
    ]
    for rows in cases:
        found = together(rows)
        assert torch.equal(found, torch.stack(rows))
        assert found.data_ptr() not in {row.data_ptr() for row in rows}


def test_neighbours_in_other_memory_are_copied() -> None:
    # Allocations may follow each other without a gap; a view of the first ends with it.
    one = torch.zeros(64)
    rows = [one[:32], one[32:]]
    assert together(rows).data_ptr() == one.data_ptr()
    apart = [torch.zeros(32), torch.zeros(32)]
    assert torch.equal(together(apart), torch.zeros(2, 32))
