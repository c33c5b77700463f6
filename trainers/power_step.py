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

import numpy as np
import torch

from trainers.ritz import SILENT, Small, diagonal_of, eigenpairs, times, with_diagonal

LEAST_TURNED = 1e-2
"""A Ritz value below this share of the first is not turned with the others: inner products of residuals are
off by rounding times the square of the first, which counts by the square of the share."""


class PowerStep(NamedTuple):
    """Where a step leads.

    Args:
        values_NW: The eigenvalues as they are known after it, descending.
        norms_NW: Bounds on the residuals of the vectors it leads to, as far as the smallest eigenvalue is
            known.
        shares_NW: What to add of a Ritz vector's residual to it: 1 / theta, or 0 where that would not help.
        turn_NWW: The new vectors as combinations of these sums, in rows.
    """

    values_NW: Small
    norms_NW: Small
    shares_NW: Small
    turn_NWW: Small


@SILENT
def power_step(
    theta_NW: Small, residuals_NWW: Small, floor_N: Small, *, rounding: float, device: torch.device
) -> PowerStep:
    """Find where one step of power iteration leads.

    Args:
        theta_NW: Ritz values, descending.
        residuals_NWW: Inner products R^T R of the Ritz vectors' residuals.
        floor_N: The smallest eigenvalue as far as it is known; 0 where it is not.
        rounding: What rounding leaves of the square of a residual, over theta^2.
        device: Where the vectors are; solves many problems at once.
    """
    squares = np.maximum(diagonal_of(residuals_NWW), 0.0) + rounding * np.square(theta_NW)
    norms = np.where(np.isfinite(theta_NW), np.sqrt(squares), np.nan)
    # A bound on the eigenvalues outside the block; Ritz values are off by at most the residual.
    beyond = np.maximum(np.maximum(theta_NW[:, -1], 0.0) + norms.max(1), -floor_N)[:, None]
    helps = theta_NW > beyond
    shares = np.where(helps, 1 / theta_NW, 0.0)
    norms = np.where(helps, norms * beyond / theta_NW, norms)

    turned = helps & (theta_NW > LEAST_TURNED * theta_NW[:, :1])
    lengths = np.sqrt(np.where(turned, theta_NW, 1.0))
    roots = 1 / lengths
    inside = turned[:, None] & turned[:, :, None]
    scaled = np.where(inside, residuals_NWW * roots[:, None] * roots[:, :, None], 0.0)
    # Those that are not turned come behind those that are, and keep their order.
    apart = np.where(turned, theta_NW, -np.abs(theta_NW[:, :1]))
    ascending, vectors = eigenpairs(with_diagonal(scaled, apart), device)
    columns = vectors[:, :, ::-1].copy()
    # mu >= theta, but for what rounding has made of R^T R.
    values = np.where(turned, np.maximum(ascending[:, ::-1], theta_NW), theta_NW)
    # c as columns: X^T H X becomes the identity, and H X c is as long as the root of mu.
    combinations = columns * roots[:, :, None]
    left = (times(scaled, columns) * columns).sum(1)
    left += np.square((theta_NW[:, :, None] - values[:, None]) * combinations).sum(1)
    after = beyond * np.sqrt(np.maximum(left / values + rounding, 0.0))
    norms = np.where(turned, after, norms)
    turn = columns.mT * lengths[:, None] / np.sqrt(np.where(turned, values, 1.0))[:, :, None]
    if not turned.all():
        turn = np.where(turned[:, :, None], turn, np.eye(turn.shape[1]))
    return PowerStep(values, norms, shares, turn)
