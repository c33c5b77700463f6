"""The Dominant subspaces of lanes, and what maps through them.

Shape legend: N lanes, K Dominant directions (a lane may have fewer, or none), P parameters, C parameters in
the coordinates of a holdout.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trainers import kernels
from trainers.coordinates import Coordinates
from trainers.rows import in_one_place, room_for_rows, together

ONE_BY_ONE = "cpu"
"""Type of the devices on which lanes are projected one by one, for the sake of their bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subspace:
    """One lane's: the first of a block's directions.

    Args:
        block_WC: Orthonormal directions.
        values_W: Their eigenvalues, float64, on the host.
        count: How many of them span the subspace, K.
        coordinates: What the directions are given in; `None` where that is all parameters.
    """

    block_WC: Tensor
    values_W: Tensor
    count: int
    coordinates: Coordinates | None

    @property
    def basis_KC(self) -> Tensor:
        """The directions that span the subspace."""
        return self.block_WC[: self.count]

    @property
    def values_K(self) -> Tensor:
        """Their eigenvalues."""
        return self.values_W[: self.count]


class Dominant:
    """The Dominant subspace of each lane.

    Args:
        subspaces: Of each lane; `None` where it does not project, which not all may be.
        most: Directions that a lane has at most, now and after a refresh.
        inverts: Whether `newton` will be asked for.
        shares: Whether directions may be read where they are, which saves copying them; `renew` then asks
            that they are found there again.
    """

    def __init__(
        self,
        subspaces: Sequence[Subspace | None],
        *,
        most: int,
        inverts: bool = False,
        shares: bool = False,
    ) -> None:
        self._subspaces, self._inverts, self._may_share = subspaces, inverts, shares and not inverts
        self._together = self._one_tensor(most)
        self.renew(subspaces)

    @property
    def shares(self) -> bool:
        """Whether directions are read where they are, so that those found there again need no `renew`."""
        return self._together is not None and self._together.shared

    @property
    def in_place(self) -> bool:
        """Whether `renew` puts subspaces where the last ones were, as the replay of a step asks for."""
        return self._together is not None

    def renew(self, subspaces: Sequence[Subspace | None]) -> bool:
        """Take over the subspaces of the same lanes after a refresh; return whether that was possible.

        It is not where directions that are read where they are have moved, or where they could be read so.
        """
        self._subspaces = subspaces
        if self._together is None:
            return True
        most = self._together.basis_NKC.shape[1]
        could_share = self._may_share and self._together.by_program and not self._together.shared
        if could_share and _in_one_place(subspaces, most) is not None:
            return False
        if self._inverts:
            self._together.fill_inverse(subspaces)
        return self._together.fill(subspaces)

    def directions(self, row: int) -> Tensor:
        """Return the orthonormal directions of a lane that projects, (K, P)."""
        subspace = self._subspaces[row]
        assert subspace is not None
        return _lifted(subspace.basis_KC, subspace.coordinates)

    def add(self, into_NP: Tensor, vectors_NP: Tensor, dom_N1: Tensor, bulk_N1: Tensor) -> None:
        """Add dom P v + bulk (I - P) v for each lane, in place; P = 0 for lanes that do not project."""
        if self._together is not None and self._together.by_program:
            self._together.add(into_NP, vectors_NP, dom_N1, bulk_N1)
            return
        into_NP.addcmul_(vectors_NP, bulk_N1)
        scales_N1 = dom_N1 - bulk_N1
        if self._together is not None:
            into_NP.add_(self._together.scaled(vectors_NP, scales_N1))
        else:
            self._add_one_by_one(into_NP, vectors_NP, scales_N1)

    def newton(self, vectors_NP: Tensor) -> Tensor:
        """Return sum_i <u_i, v> / lambda_i u_i over lambda_i > 0 for each lane, (N, P)."""
        assert self._inverts, "nobody said that this would be asked for"
        if self._together is not None:
            return self._together.scaled(vectors_NP, self._together.inverse_NK)
        inverses = [None if one is None else _inverse(one.values_K) for one in self._subspaces]
        result = torch.zeros_like(vectors_NP)
        self._add_one_by_one(result, vectors_NP, inverses)
        return result

    def _add_one_by_one(
        self, into_NP: Tensor, vectors_NP: Tensor, scales: "Tensor | Sequence[Tensor | None]"
    ) -> None:
        # Lane by lane, each from memory of its own: on a CPU the bits of one product for all lanes depend on
        # how many there are and on where in memory they begin.
        for row, (subspace, scale) in enumerate(zip(self._subspaces, scales, strict=True)):
            if subspace is None:
                continue
            assert scale is not None
            vector = vectors_NP if len(vectors_NP) == 1 else vectors_NP[row : row + 1].clone()
            inside = _restricted(vector, subspace.coordinates)
            part = torch.mv(subspace.basis_KC, inside[0]) * scale.to(vector)
            spanned = torch.mv(subspace.basis_KC.mT, part)
            if subspace.coordinates is None:
                into_NP[row].add_(spanned)
            else:
                subspace.coordinates.add_lifted(spanned, into_NP[row])

    def _one_tensor(self, most: int) -> "_Together | None":
        """Return bases as one tensor, or room for them, on a GPU where they are in the same coordinates."""
        known = [subspace for subspace in self._subspaces if subspace is not None]
        kinds = {id(subspace.coordinates) for subspace in known}
        if known[0].block_WC.device.type == ONE_BY_ONE or len(kinds) > 1:
            return None
        first, lanes = known[0].block_WC, len(self._subspaces)
        coordinates = known[0].coordinates
        shares = self._may_share and _by_program(first, coordinates)
        there = _in_one_place(self._subspaces, most) if shares else None
        shared = there is not None
        if there is None:
            there = room_for_rows(first, lanes, most, first.shape[1]).zero_()
        return _Together(
            basis_NKC=there,
            inverse_NK=first.new_zeros(lanes, most),
            counts_N=torch.zeros(lanes, dtype=torch.int32, device=first.device),
            coordinates=coordinates,
            shared=shared,
        )


@dataclass(slots=True, kw_only=True)
class _Together:
    """All bases in one tensor.

    Args:
        basis_NKC: Directions; where they are not shared, rows beyond a lane's are 0.
        inverse_NK: 1 / lambda_i of each, 0 where lambda_i <= 0.
        counts_N: How many directions each lane has, int32.
        coordinates: Of all of them.
        shared: Whether the directions lie where the refreshes put them.
    """

    basis_NKC: Tensor
    inverse_NK: Tensor
    counts_N: Tensor
    coordinates: Coordinates | None
    shared: bool = False
    _counts: list[int] = field(default_factory=list[int])

    @property
    def by_program(self) -> bool:
        """Whether a program projects, and not the library."""
        return _by_program(self.basis_NKC, self.coordinates)

    def fill(self, subspaces: Sequence[Subspace | None]) -> bool:
        """Take over bases; return `False` where those that are shared have moved."""
        most = self.basis_NKC.shape[1]
        if self.shared:
            there = _in_one_place(subspaces, most)
            if there is None or there.data_ptr() != self.basis_NKC.data_ptr():
                return False
        else:
            self._copy(subspaces)
        counts = [0 if subspace is None else subspace.count for subspace in subspaces]
        if counts != self._counts:
            self.counts_N.copy_(torch.tensor(counts, dtype=torch.int32))
            self._counts = counts
        return True

    def _copy(self, subspaces: Sequence[Subspace | None]) -> None:
        most = self.basis_NKC.shape[1]
        full = [subspace for subspace in subspaces if subspace is not None and subspace.count == most]
        if len(full) == len(subspaces) and len({subspace.block_WC.shape for subspace in full}) == 1:
            self.basis_NKC.copy_(together([subspace.block_WC for subspace in full])[:, :most])
        else:
            for row, subspace in enumerate(subspaces):
                if subspace is not None:
                    self.basis_NKC[row, : subspace.count] = subspace.basis_KC
                    self.basis_NKC[row, subspace.count :] = 0

    def fill_inverse(self, subspaces: Sequence[Subspace | None]) -> None:
        """Put inverse eigenvalues in place."""
        most = self.inverse_NK.shape[1]
        known = [[] if subspace is None else subspace.values_K.tolist() for subspace in subspaces]
        inverse = [[1 / value if value > 0 else 0.0 for value in values] for values in known]
        padded = [values + [0.0] * (most - len(values)) for values in inverse]
        self.inverse_NK.copy_(torch.tensor(padded, dtype=torch.float64))

    def scaled(self, vectors_NP: Tensor, scales: Tensor) -> Tensor:
        """Return sum_i s_i <u_i, v> u_i for each lane, s being (N, 1) or (N, K)."""
        inside_NC = _restricted(vectors_NP, self.coordinates)
        coefficients = torch.bmm(self.basis_NKC, inside_NC.unsqueeze(2)) * scales.unsqueeze(2)
        return _lifted(torch.bmm(coefficients.mT, self.basis_NKC).squeeze(1), self.coordinates)

    def add(self, into_NP: Tensor, vectors_NP: Tensor, dom_N1: Tensor, bulk_N1: Tensor) -> None:
        """Do `Dominant.add` in one program."""
        from trainers.kernels.projection import add_projection

        add_projection(
            into_NP,
            self.basis_NKC,
            vectors_NP,
            dom_N1 - bulk_N1,
            counts_N=self.counts_N,
            rates_N1=bulk_N1,
            places_P=None if self.coordinates is None else self.coordinates.order_P,
        )


def _by_program(tensor: Tensor, coordinates: Coordinates | None) -> bool:
    return kernels.serve(tensor) and (coordinates is None or coordinates.order_P is not None)


def _in_one_place(subspaces: Sequence[Subspace | None], most: int) -> Tensor | None:
    """Return the first directions of all lanes, (N, most, C), where their blocks follow each other."""
    blocks = [subspace.block_WC for subspace in subspaces if subspace is not None]
    if len(blocks) < len(subspaces) or len({block.shape for block in blocks}) > 1 or len(blocks[0]) < most:
        return None
    whole = in_one_place(blocks)
    return None if whole is None else whole[:, :most]


def _inverse(values_K: Tensor) -> Tensor:
    return torch.where(values_K > 0, 1 / values_K, 0.0)


def _restricted(vectors_NP: Tensor, coordinates: Coordinates | None) -> Tensor:
    return vectors_NP if coordinates is None else coordinates.restrict(vectors_NP)


def _lifted(vectors_NC: Tensor, coordinates: Coordinates | None) -> Tensor:
    return vectors_NC if coordinates is None else coordinates.lift(vectors_NC)
