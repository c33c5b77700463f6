"""The Dominant subspaces of lanes, and what maps through them.

Shape legend: N lanes, K Dominant directions (a lane may have fewer, or none), P parameters, C parameters in
the coordinates of a holdout.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from trainers.coordinates import Coordinates


@dataclass(frozen=True, slots=True, kw_only=True)
class Subspace:
    """One lane's.

    Args:
        basis_KC: Orthonormal directions.
        values_K: Their eigenvalues, float64.
        coordinates: What the directions are given in; `None` where that is all parameters.
    """

    basis_KC: Tensor
    values_K: Tensor
    coordinates: Coordinates | None


@dataclass(frozen=True, kw_only=True)
class Dominant:
    """The Dominant subspace of each lane.

    Args:
        subspaces: Of each lane; `None` where it does not project.
    """

    subspaces: Sequence[Subspace | None]

    def directions(self, row: int) -> Tensor:
        """Return the orthonormal directions of a lane that projects, (K, P)."""
        subspace = self.subspaces[row]
        assert subspace is not None
        return _lifted(subspace.basis_KC, subspace.coordinates)

    def inverse_values(self) -> list[Tensor | None]:
        """Return 1 / lambda_i for each direction of each lane, 0 where lambda_i <= 0."""
        return [
            None if subspace is None else torch.where(subspace.values_K > 0, 1 / subspace.values_K, 0.0)
            for subspace in self.subspaces
        ]

    def scaled(self, vectors_NP: Tensor, scales: Sequence[Tensor | None]) -> Tensor:
        """Return sum_i s_i <u_i, v> u_i for each lane, (N, P).

        Args:
            vectors_NP: The vectors v.
            scales: For each lane s, of one element or (K_n,).
        """
        kinds = {id(subspace.coordinates) for subspace in self.subspaces if subspace is not None}
        if vectors_NP.device.type != "cpu" and len(kinds) == 1:
            return self._scaled_at_once(vectors_NP, scales)
        # Lane by lane, each from memory of its own: on a CPU the bits of one product for all lanes depend on
        # how many there are and on where in memory they begin.
        result = torch.zeros_like(vectors_NP)
        for row, (subspace, scale) in enumerate(zip(self.subspaces, scales, strict=True)):
            if subspace is None or scale is None:
                continue
            vector = vectors_NP if len(vectors_NP) == 1 else vectors_NP[row : row + 1].clone()
            inside = _restricted(vector, subspace.coordinates)
            part = torch.mv(subspace.basis_KC, inside[0]) * scale.to(vector.dtype)
            spanned = torch.mv(subspace.basis_KC.mT, part).unsqueeze(0)
            result[row] = _lifted(spanned, subspace.coordinates)[0]
        return result

    def _scaled_at_once(self, vectors_NP: Tensor, scales: Sequence[Tensor | None]) -> Tensor:
        coordinates = self._known[0].coordinates
        padded = torch.zeros(self._stacked.shape[:2], dtype=vectors_NP.dtype, device=vectors_NP.device)
        for row, (subspace, scale) in enumerate(zip(self.subspaces, scales, strict=True)):
            if subspace is not None and scale is not None:
                padded[row, : len(subspace.basis_KC)] = scale
        inside_NC = _restricted(vectors_NP, coordinates)
        coefficients = torch.bmm(self._stacked, inside_NC.unsqueeze(2)) * padded.unsqueeze(2)
        return _lifted(torch.bmm(coefficients.mT, self._stacked).squeeze(1), coordinates)

    @property
    def _known(self) -> list[Subspace]:
        return [subspace for subspace in self.subspaces if subspace is not None]

    @cached_property
    def _stacked(self) -> Tensor:
        """All bases in one, with zero rows, (N, K, C)."""
        known = [subspace.basis_KC for subspace in self._known]
        widest = max(len(basis) for basis in known)
        stacked = known[0].new_zeros(len(self.subspaces), widest, known[0].shape[1])
        for row, subspace in enumerate(self.subspaces):
            if subspace is not None:
                stacked[row, : len(subspace.basis_KC)] = subspace.basis_KC
        return stacked


def _restricted(vectors_NP: Tensor, coordinates: Coordinates | None) -> Tensor:
    return vectors_NP if coordinates is None else coordinates.restrict(vectors_NP)


def _lifted(vectors_NC: Tensor, coordinates: Coordinates | None) -> Tensor:
    return vectors_NC if coordinates is None else coordinates.lift(vectors_NC)
