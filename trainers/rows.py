"""Rows of many lanes in one tensor: where they lie, and when they need not be copied to lie together."""

from collections.abc import Sequence

import torch
from torch import Tensor

ROW_MULTIPLE = {"cpu": 1, "cuda": 4}
"""Rows are so many elements apart, or a multiple: a GPU's widest loads then do for all of them."""


def room_for_rows(like: Tensor, lanes: int, count: int, size: int) -> Tensor:
    """Return room for rows (lanes, count, size), of the type and on the device of a tensor."""
    multiple = ROW_MULTIPLE[like.device.type]
    return like.new_empty(lanes, count, -(-size // multiple) * multiple)[:, :, :size]


def together(rows: Sequence[Tensor]) -> Tensor:
    """Return tensors (...) of one shape as (N, ...): a view where they follow each other, else a copy.

    What an operation returns for all lanes is kept by each lane as its row; the next one for all lanes then
    need not move it.
    """
    found = in_one_place(rows)
    return torch.stack(list(rows)) if found is None else found


def in_one_place(rows: Sequence[Tensor]) -> Tensor | None:
    """Return tensors (...) of one shape as a view (N, ...) where they follow each other."""
    first = rows[0]
    if len(rows) == 1:
        return first.unsqueeze(0)
    step = rows[1].data_ptr() - first.data_ptr()
    size, start, strides = first.element_size(), first.data_ptr(), first.stride()
    extent = size * (
        1 + sum((count - 1) * stride for count, stride in zip(first.shape, strides, strict=True))
    )
    follows = step >= extent and all(
        row.data_ptr() == start + index * step and row.stride() == strides for index, row in enumerate(rows)
    )
    storage = first.untyped_storage()
    inside = start + (len(rows) - 1) * step + extent <= storage.data_ptr() + storage.nbytes()
    if not (follows and inside and strides[-1] == 1):
        return None
    return first.as_strided((len(rows), *first.shape), (step // size, *first.stride()))
