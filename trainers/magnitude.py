r"""The Dominant subspace by magnitude: the eigenpairs of largest |lambda|, by the solver for the largest.

H and H^2 have the same eigenvectors, and the algebraically largest eigenvalues of H^2 are those of H of
largest magnitude. So the tracker of `trainers.eigenspace` runs on v -> H (H v), and Rayleigh-Ritz with H in
the block that it returns gives back the signs, and tells lambda from -lambda, which H^2 cannot.

Shape legend: N lanes, W block width, P parameters.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from trainers.eigenpairs import Eigenspace, Wanted, Warm, pairs_of
from trainers.eigenspace import refresh
from trainers.first_block import Operator
from trainers.objective import BlockProduct
from trainers.ritz import inner, to_host


def refresh_leading(
    order: str,
    operator: Operator,
    warm: Warm | None,
    random_block: Callable[[], Tensor],
    *,
    k: int | Sequence[int],
    tolerance: float,
    max_products: int,
    max_cold_products: int,
) -> Eigenspace:
    """Track the leading eigenpairs in either order; see `trainers.eigenspace.refresh`.

    `order` is one of `trainers.cell.ORDERS`. By magnitude each block product of the budgets is two, residuals
    are those of H, and `floor_N` is of H^2.
    """

    def find(what: Operator) -> Eigenspace:
        return refresh(
            what,
            warm,
            random_block,
            k=k,
            tolerance=tolerance,
            max_products=max_products,
            max_cold_products=max_cold_products,
        )

    if order == "algebraic":
        return find(operator)
    of_lanes = operator.of_lanes
    squared = find(
        Operator(
            product=_twice(operator.product),
            of_lanes=None if of_lanes is None else lambda rows: _twice(of_lanes(rows)),
        )
    )
    return _with_signs(operator.product, squared, k=k, tolerance=tolerance)


def _twice(product: BlockProduct) -> BlockProduct:
    return lambda block_NWP: product(product(block_NWP))


def _with_signs(
    product: BlockProduct, squared: Eigenspace, *, k: int | Sequence[int], tolerance: float
) -> Eigenspace:
    """Return the eigenpairs of H in the block that holds those of H^2, in descending order of magnitude."""
    basis = squared.basis_NWP
    images = product(basis)
    projected = inner(basis, images)
    finite = projected.isfinite().all(2, keepdim=True).all(1, keepdim=True)
    projected = torch.where(finite, projected, 0.0)
    values, vectors = torch.linalg.eigh(0.5 * (projected + projected.mT))
    descending = values.abs().argsort(dim=1, descending=True)
    values = values.gather(1, descending)
    vectors = vectors.gather(2, descending.unsqueeze(1).expand_as(vectors))
    rotation = vectors.mT.to(basis)
    basis, images = torch.bmm(rotation, basis), torch.bmm(rotation, images)
    residuals = images.addcmul_(values.unsqueeze(2).to(basis), basis, value=-1)
    values = torch.where(finite.squeeze(2), values, torch.nan)
    products = 2 * squared.products_N + basis.shape[1]
    norms, wanted = to_host(torch.linalg.vector_norm(residuals, dim=2)), Wanted(k, *values.shape)
    space = pairs_of(basis, values, norms, wanted, tolerance, 0, squared.floor_N)
    space.products_N = products
    return space
