"""One tensor of many of the same shape, without a copy where they already lie behind each other."""

from collections.abc import Sequence

import torch
from torch import Tensor


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
    size, start = first.element_size(), first.data_ptr()
    follows = step >= first.numel() * size and all(
        row.data_ptr() == start + index * step for index, row in enumerate(rows)
    )
    storage = first.untyped_storage()
    inside = start + (len(rows) - 1) * step + first.numel() * size <= storage.data_ptr() + storage.nbytes()
    if not (follows and inside and all(row.is_contiguous() for row in rows)):
        return None
    return first.as_strided((len(rows), *first.shape), (step // size, *first.stride()))
