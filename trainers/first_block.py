"""A block of vectors and its images: the first product of a refresh, and the small algebra that follows.

On a GPU all of it is a recording, from the product to the new basis, which lies where the block lay: that a
lane has to go on from the block is the exception, and the device holds back then.

Shape legend: N lanes, W block width, M rows of a block and its images, P parameters.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from trainers import kernels
from trainers.eigenpairs import LEAST_SCALE, Eigenspace, Wanted, Warm, pairs_of
from trainers.objective import BlockProduct, CurvatureProduct
from trainers.power_step import LEAST_TURNED
from trainers.replay import Arriving, Recorded
from trainers.ritz import device_inner
from trainers.rows import room_for_rows
from trainers.span import RANK_TOLERANCE, ROUNDING, Span, symmetric


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """A symmetric operator on the lanes' vectors.

    Args:
        product: Maps a block of directions of all lanes, (N, R, P), to its images.
        of_lanes: Returns the product of some lanes (their rows, int64); without it, lanes that have ended are
            multiplied for nothing.
        begun: The first product of the start block, where `WarmBlock` is at it already.
    """

    product: BlockProduct
    of_lanes: Callable[[Tensor], BlockProduct] | None = None
    begun: "FirstBlock | None" = None


class Small(NamedTuple):
    """What a program on a GPU finds in the inner products of a block, see `trainers.kernels.small`."""

    found: Tensor
    whole_NWM: Tensor
    unfinished: Tensor


class FirstBlock:
    """A block X and its images.

    Args:
        stacked_NMP: [X; H X], (N, 2 W, P).
        gram_NMM: The inner products of these rows, on their device.
        small: What follows from them, where a program has said so.
        combined: Whether the new basis is where X was, unless a lane is to go on from X.
    """

    def __init__(
        self, stacked_NMP: Tensor, gram_NMM: Tensor, small: Small | None, *, combined: bool = False
    ) -> None:
        self.stacked_NMP = stacked_NMP
        self.gram_NMM = gram_NMM
        self.combined = combined
        self._small = None if small is None else (Arriving(small.found), small.whole_NWM)

    def ritz(self, wanted: Wanted, tolerance: float, floor_N: Tensor) -> tuple[Eigenspace, Tensor]:
        """Return the pairs, whose basis is what lies where X lay, and the new one as combinations of rows.

        The latter are (N, W, 2 W); inner products are overwritten.
        """
        stacked, width = self.stacked_NMP, self.stacked_NMP.shape[1] // 2
        if self._small is None:
            self.gram_NMM = self.gram_NMM.to("cpu", torch.float64)
            theta, norms, whole = ritz_in_block(stacked, self.gram_NMM, floor_N)
            return pairs_of(stacked[:, :width], theta, norms, wanted, tolerance, width, floor_N), whole
        found, whole = self._small
        theta, norms, converged = found.get().split((width, width, 1), 1)
        state = pairs_of(stacked[:, :width], theta, norms, wanted, tolerance, width, floor_N)
        # What the device has acted on.
        state.converged_N = converged.squeeze(1) > 0
        return state, whole


class WarmBlock:
    """The block that lanes go on from, and its first product: most of a refresh, and replayed on a GPU.

    There the block has a place of its own from the second time on, so that what reads it can be recorded, and
    stays in it from refresh to refresh.

    Args:
        k: How many leading pairs each lane is after.
        tolerance: See `solve`.
        replayable: Whether which operations a product consists of depends on shapes alone.
    """

    def __init__(self, *, k: Sequence[int], tolerance: float, replayable: bool) -> None:
        self._k, self._tolerance, self._replayable = k, tolerance, replayable
        self._recorded = Recorded[tuple[CurvatureProduct, Tensor, Small | None]]()
        self._stacked_NMP: Tensor | None = None
        self._floors: tuple[Tensor, Tensor] | None = None
        self._counts_N: Tensor | None = None
        self._begun = False

    def begin(
        self, linearise: Callable[[Tensor], CurvatureProduct], params_NP: Tensor, warm: Warm
    ) -> Operator:
        """Return the operator that `linearise` gives at these weights, its first product begun."""
        stacked = self._place(warm.block_NWP)

        if self._counts_N is None:
            self._counts_N = torch.tensor(self._k, dtype=torch.int32, device=stacked.device)
        counts, tolerance = self._counts_N, self._tolerance

        def first(params_NP: Tensor, floor_N: Tensor) -> tuple[CurvatureProduct, Tensor, Small | None]:
            product = linearise(params_NP)
            block, images = stacked.chunk(2, 1)
            # On a CPU the bits of a product depend on where its operands begin.
            product(warm.block_NWP if stacked.device.type == "cpu" else block, into_NRP=images)
            gram = device_inner(stacked, stacked)
            small = small_of(stacked, gram, floor_N, counts, tolerance)
            if small is not None:
                combined(small.whole_NWM, stacked, unless=small.unfinished)
            return product, gram, small

        at = params_NP, self._on_device(warm.floor_N, stacked.device)
        product, gram, small = self._recorded(first, *at) if self._replayable else first(*at)
        return Operator(
            product=product,
            of_lanes=lambda rows: linearise(params_NP[rows]),
            begun=FirstBlock(stacked, gram, small, combined=small is not None),
        )

    def keep(self, block_NWP: Tensor) -> Tensor:
        """Return a block where the next refresh will look for it, with no memory but its own."""
        if block_NWP.device.type == "cpu":
            return block_NWP
        if self._stacked_NMP is None:
            return room_for_rows(block_NWP, *block_NWP.shape).copy_(block_NWP)
        return self._place(block_NWP).chunk(2, 1)[0]

    def _on_device(self, floor_N: Tensor, device: torch.device) -> Tensor:
        """Return the floors on the device, where they seldom change: to copy them is to wait for it."""
        if self._floors is None or not torch.equal(self._floors[0], floor_N):
            self._floors = floor_N, floor_N.to(device)
        return self._floors[1]

    def _place(self, block_NWP: Tensor) -> Tensor:
        """Return room for a block and its images, (N, 2 W, P), that begins with it."""
        lanes, width, size = block_NWP.shape
        stacked = self._stacked_NMP
        if stacked is None:
            stacked = room_for_rows(block_NWP, lanes, 2 * width, size)
        if block_NWP.device.type != "cpu" and self._begun:
            # Lanes that meet only once are not to keep their room.
            self._stacked_NMP = stacked
        self._begun = True
        own = stacked[:, :width]
        if own.data_ptr() != block_NWP.data_ptr():
            own.copy_(block_NWP)
        return stacked


def small_of(
    stacked_NMP: Tensor, gram_NMM: Tensor, floor_N: Tensor, counts_N: Tensor, tolerance: float
) -> Small | None:
    """Return what a program finds in inner products; `None` where there is none for them."""
    if not kernels.serve(stacked_NMP):
        return None
    from trainers.kernels.small import WIDEST_BLOCK, first_ritz

    if gram_NMM.shape[1] > 2 * WIDEST_BLOCK:
        return None
    found = first_ritz(
        gram_NMM.double(),
        floor_N,
        counts_N,
        tolerance=tolerance,
        least_scale=LEAST_SCALE,
        rank_tolerance=RANK_TOLERANCE[stacked_NMP.dtype],
        rounding=ROUNDING[stacked_NMP.dtype],
        least_turned=LEAST_TURNED,
    )
    return Small(*found)


def combined(factors_NWM: Tensor, stacked_NMP: Tensor, *, unless: Tensor | None = None) -> Tensor:
    """Return factors times rows; where a program does it, in the place of the first rows."""
    if not kernels.serve(stacked_NMP):
        return torch.bmm(factors_NWM, stacked_NMP)
    from trainers.kernels.combination import combine

    return combine(stacked_NMP, factors_NWM, unless=unless)


def ritz_in_block(stacked_NMP: Tensor, gram_NMM: Tensor, floor_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Do Rayleigh-Ritz and the power step in one block; see `trainers.span.Span.stepped`.

    Args:
        stacked_NMP: The block and its images.
        gram_NMM: Their inner products, float64 on the host; made symmetric.
        floor_N: See `trainers.eigenspace.solve`.
    """
    width = stacked_NMP.shape[1] // 2
    return Span(symmetric(gram_NMM), width, stacked_NMP.dtype, stacked_NMP.device).stepped(floor_N)
