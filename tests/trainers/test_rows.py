"""Rows of one tensor come together without a copy; any others with one."""

import torch

from trainers.optimizers.dominant import Subspace, _Together
from trainers.rows import together


def test_rows_of_one_tensor_are_not_copied() -> None:
    whole = torch.randn(5, 3, 4)
    every = whole.unbind(0)
    for rows in (every, whole[:, :2].unbind(0), whole[:, :, :3].unbind(0), every[1:4], every[::2]):
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


def test_bases_of_blocks_of_any_width_lie_in_one_tensor() -> None:
    blocks = [torch.randn(width, 7) for width in (12, 16)]
    room = _Together(
        basis_NKC=torch.zeros(2, 10, 7),
        inverse_NK=torch.zeros(2, 10),
        counts_N=torch.zeros(2, dtype=torch.int32),
        coordinates=None,
    )
    room.fill(
        [
            Subspace(block_WC=block, values_W=torch.ones(len(block)), count=10, coordinates=None)
            for block in blocks
        ]
    )
    assert torch.equal(room.basis_NKC, torch.stack([block[:10] for block in blocks]))
