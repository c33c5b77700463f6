"""The Dominant subspaces of lanes, and what maps through them.

Shape legend: N lanes, K Dominant directions (a lane may have fewer, or none), P parameters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Dominant:
    """The Dominant subspace of each lane.

    Args:
        bases: For each lane its orthonormal directions (K_n, P), or `None` where it does not project.
        values: For each lane their eigenvalues (K_n,) float64, or `None`.
    """

    bases: Sequence[Tensor | None]
    values: Sequence[Tensor | None]

    def inverse_values(self) -> list[Tensor | None]:
        """Return 1 / lambda_i for each direction of each lane, 0 where lambda_i <= 0."""
        return [
            None if values is None else torch.where(values > 0, 1 / values, 0.0) for values in self.values
        ]

    def scaled(self, vectors_NP: Tensor, scales: Sequence[Tensor | None]) -> Tensor:
        """Return sum_i s_i <u_i, v> u_i for each lane, (N, P).

        Args:
            vectors_NP: The vectors v.
            scales: For each lane s, of one element or (K_n,).
        """
        if vectors_NP.device.type != "cpu":
            return self._scaled_at_once(vectors_NP, scales)
        # Lane by lane, each from memory of its own: on a CPU the bits of one product for all lanes depend on
        # how many there are and on where in memory they begin.
        result = torch.zeros_like(vectors_NP)
        for row, (basis, scale) in enumerate(zip(self.bases, scales, strict=True)):
            if basis is not None and scale is not None:
                vector = vectors_NP[row] if len(vectors_NP) == 1 else vectors_NP[row].clone()
                result[row] = torch.mv(basis.mT, torch.mv(basis, vector) * scale.to(vector.dtype))
        return result

    def _scaled_at_once(self, vectors_NP: Tensor, scales: Sequence[Tensor | None]) -> Tensor:
        padded = torch.zeros(self._stacked.shape[:2], dtype=vectors_NP.dtype, device=vectors_NP.device)
        for row, (basis, scale) in enumerate(zip(self.bases, scales, strict=True)):
            if basis is not None and scale is not None:
                padded[row, : len(basis)] = scale
        coefficients = torch.bmm(self._stacked, vectors_NP.unsqueeze(2)) * padded.unsqueeze(2)
        return torch.bmm(coefficients.mT, self._stacked).squeeze(1)

    @cached_property
    def _stacked(self) -> Tensor:
        """All bases in one, with zero rows, (N, K, P)."""
        known = [basis for basis in self.bases if basis is not None]
        widest = max(len(basis) for basis in known)
        stacked = known[0].new_zeros(len(self.bases), widest, known[0].shape[1])
        for row, basis in enumerate(self.bases):
            if basis is not None:
                stacked[row, : len(basis)] = basis
        return stacked
