r"""One step of power iteration from a block's Ritz vectors, and the eigenvectors as its images give them.

With Ritz pairs (theta_i, x_i) of a block and residuals r_i = H x_i - theta_i x_i, the step goes from x_i to
H x_i / theta_i = x_i + r_i / theta_i. The images are there anyway, so it costs no product. It shrinks the
part of x_i along an eigenvector outside the block by lambda_j / theta_i, so that the span of the images is
nearer to the Dominant subspace than the block is. Ritz vectors are the best the block has, though, not the
best its images have: where eigenvalues lie close together, what the step corrects turns the eigenvectors
inside the span. They are found there again, by Rayleigh-Ritz with H^-1, which in the span of H X needs no
further products:

    (X^T H H X) c = mu (X^T H X) c,

which are the harmonic Ritz pairs of the block (Paige, Parlett & van der Vorst 1995, with target 0). With the
Ritz vectors as X it is the eigenproblem of Theta + Theta^-1/2 (R^T R) Theta^-1/2. Its vectors H X c are
orthogonal, mu_i >= theta_i, and the residual H X c - mu X c is orthogonal to all of them.

Shape legend: N lanes, W block width.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from trainers.ritz import eigenpairs

LEAST_TURNED = 1e-2
"""A Ritz value below this share of the first is not turned with the others: inner products of residuals are
off by rounding times the square of the first, which counts by the square of the share."""


class PowerStep(NamedTuple):
    """Where a step leads, all float64.

    Args:
        values_NW: The eigenvalues as they are known after it, descending.
        norms_NW: Bounds on the residuals of the vectors it leads to, as far as the smallest eigenvalue is
            known.
        shares_NW: What to add of a Ritz vector's residual to it: 1 / theta, or 0 where that would not help.
        turn_NWW: The new vectors as combinations of these sums, in rows.
    """

    values_NW: Tensor
    norms_NW: Tensor
    shares_NW: Tensor
    turn_NWW: Tensor


def power_step(
    theta_NW: Tensor,
    residuals_NWW: Tensor,
    floor_N: Tensor,
    *,
    rounding: float,
    device: torch.device,
) -> PowerStep:
    """Find where one step of power iteration leads.

    Args:
        theta_NW: Ritz values, descending, float64.
        residuals_NWW: Inner products R^T R of the Ritz vectors' residuals, float64.
        floor_N: The smallest eigenvalue as far as it is known; 0 where it is not.
        rounding: What rounding leaves of the square of a residual, over theta^2.
        device: Where the vectors are; solves many problems at once.
    """
    index = torch.arange(theta_NW.shape[1], device=theta_NW.device)
    squares = residuals_NWW.diagonal(dim1=1, dim2=2).clamp_min(0.0) + rounding * theta_NW.square()
    norms = torch.where(theta_NW.isfinite(), squares.sqrt(), torch.nan)
    # A bound on the eigenvalues outside the block; Ritz values are off by at most the residual.
    beyond = torch.maximum(theta_NW[:, -1].clamp_min(0.0) + norms.amax(1), -floor_N).unsqueeze(1)
    helps = theta_NW > beyond
    shares = torch.where(helps, 1 / theta_NW, 0.0)
    norms = torch.where(helps, norms * beyond / theta_NW, norms)

    turned = helps & (theta_NW > LEAST_TURNED * theta_NW[:, :1])
    roots = torch.where(turned, theta_NW, 1.0).rsqrt()
    inside = turned.unsqueeze(1) & turned.unsqueeze(2)
    scaled = torch.where(inside, residuals_NWW * roots.unsqueeze(1) * roots.unsqueeze(2), 0.0)
    # Those that are not turned come behind those that are, and keep their order.
    apart = torch.where(turned, theta_NW, -theta_NW[:, :1].abs())
    ascending, vectors = eigenpairs(scaled + torch.diag_embed(apart), device)
    values, columns = ascending.flip(1), vectors.flip(2)
    # mu >= theta, but for what rounding has made of R^T R.
    values = torch.where(turned, torch.maximum(values, theta_NW), theta_NW)
    # c as columns: X^T H X becomes the identity, and H X c is as long as the root of mu.
    combinations = columns * roots.unsqueeze(2)
    left = torch.bmm(scaled, columns).mul_(columns).sum(1)
    left += ((theta_NW.unsqueeze(2) - values.unsqueeze(1)) * combinations).square().sum(1)
    after = beyond * (left / values + rounding).clamp_min(0.0).sqrt()
    norms = torch.where(turned, after, norms)
    turn = columns.mT * (torch.where(turned, theta_NW, 1.0).sqrt().unsqueeze(1))
    turn = turn * torch.where(turned, values, 1.0).rsqrt().unsqueeze(2)
    untouched = (index.unsqueeze(1) == index).to(turn).expand_as(turn)
    return PowerStep(values, norms, shares, torch.where(turned.unsqueeze(2), turn, untouched))
