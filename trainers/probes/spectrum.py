r"""The spectral density of the Hessian by stochastic Lanczos quadrature (Ubaru, Chen & Saad 2017).

From a random unit vector z, m Lanczos steps give a tridiagonal matrix whose eigenvalues are the nodes, and
the squared first components of whose eigenvectors are the weights, of the Gauss quadrature for the measure
sum_j (z . u_j)^2 delta(lambda - lambda_j). Its mean over z is the density, whose total mass is 1.

Shape legend: R random vectors, M Lanczos steps, P parameters.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from trainers.lane import ScheduledProbe
from trainers.probes.view import View
from trainers.ritz import eigenpairs


def measure_spectrum(view: View, probe: ScheduledProbe) -> dict[str, float]:
    """Return nodes and weights for each random vector; the density averages the vectors."""
    options = probe.options
    product = view.instruments.product(view.params_P, view.holdout(options), part=options["part"])
    steps = min(options["lanczos_steps"], view.params_P.numel())
    draw = view.generator(probe, "spectrum")
    start = torch.randn(options["vectors"], view.params_P.numel(), generator=draw).to(view.params_P)
    nodes, weights = quadrature(product, start, steps)
    values: dict[str, float] = {}
    for vector in range(len(nodes)):
        for index in range(nodes.shape[1]):
            values[f"spectrum/node_{vector + 1}_{index + 1}"] = float(nodes[vector, index])
            values[f"spectrum/weight_{vector + 1}_{index + 1}"] = float(weights[vector, index])
    return values


def quadrature(
    product: Callable[[Tensor], Tensor], start_RP: Tensor, num_steps: int
) -> tuple[Tensor, Tensor]:
    """Return the nodes (R, M), ascending, and the weights (R, M), which sum to 1, in float64.

    Lanczos with full reorthogonalisation. Where the Krylov space is exhausted before `num_steps`, the
    remaining nodes have weight 0. Where a vector's matrix is not finite, both are NaN: the run has diverged,
    which its loss is to tell, and no error is raised.
    """
    vector = start_RP / torch.linalg.vector_norm(start_RP, dim=1, keepdim=True)
    basis = vector.new_empty(len(vector), num_steps, vector.shape[1])
    tridiagonal = start_RP.new_zeros(len(start_RP), num_steps, num_steps, dtype=torch.float64)
    scale = torch.zeros(len(start_RP), dtype=torch.float64, device=start_RP.device)
    for step in range(num_steps):
        basis[:, step] = vector
        known = basis[:, : step + 1]
        image = product(vector)
        tridiagonal[:, step, step] = (image.double() * vector.double()).sum(1)
        scale = torch.maximum(scale, torch.linalg.vector_norm(image, dim=1).double())
        if step + 1 == num_steps:
            break
        for _ in range(2):
            image = image - torch.bmm(torch.bmm(image.unsqueeze(1), known.mT), known).squeeze(1)
        norm = torch.linalg.vector_norm(image.double(), dim=1)
        norm = torch.where(norm > torch.finfo(start_RP.dtype).eps * scale, norm, 0.0)
        tridiagonal[:, step, step + 1] = tridiagonal[:, step + 1, step] = norm
        inverse = torch.where(norm > 0, 1 / norm, 0.0).to(image.dtype)
        vector = image * inverse.unsqueeze(1)
    nodes, vectors = map(torch.from_numpy, eigenpairs(tridiagonal.cpu().numpy(), tridiagonal.device))
    return nodes, torch.where(nodes.isfinite(), vectors[:, 0].square(), torch.nan)
