"""Programs for a GPU, where its libraries take more passes over memory, or leave its fastest units idle.

They compute what the library's operations compute, to the error of float32, and serve float32 on GPUs with
tensor cores where Triton is installed and can compile; everything else goes to the library.
"""

import warnings
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

FIRST_CAPABILITY = (8, 0)
"""Of a GPU whose tensor cores take float32."""

ERROR = 1e-6
"""Relative, in norms: that of float32 products. Tensor cores multiply numbers of 11 bits, whose products have
a hundred times as much. Sums that are not cut into short ones are allowed ten times as much."""

TRIED_OUT_ON = (132, 64), (68, 64), (132, 96), (68, 96), (1, 68), (132, 68), (12, 600), (600,), (1,), (12, 68)
"""Shapes of a lane's operands, which are random: more than one tile of each result."""


def serve(tensor: Tensor) -> bool:
    """Whether these programs take tensors like this one."""
    return tensor.device.type == "cuda" and tensor.dtype == torch.float32 and _serve(tensor.device)


@cache
def _serve(device: torch.device) -> bool:
    if find_spec("triton") is None or torch.cuda.get_device_capability(device) < FIRST_CAPABILITY:
        return False
    try:
        _try_out(device)
    except Exception as error:
        # Triton wants a C compiler and Python's headers, and fails in as many ways as it has versions.
        # Nothing depends on it.
        warnings.warn(f"the GPU's libraries are used, which take longer: {error}", stacklevel=2)
        return False
    return True


def _try_out(device: torch.device) -> None:
    """Compile each program, with the ways of cutting it, and hold it against float64.

    Here and not where it is first needed, because a program that asks for more than a GPU has fails when it
    is started.
    """
    from trainers.kernels.combination import combine
    from trainers.kernels.products import LARGE, halves, inner, multiply, place_sums, sums_over
    from trainers.kernels.projection import LARGE as MANY
    from trainers.kernels.projection import SMALL as FEW
    from trainers.kernels.projection import add_projection
    from trainers.kernels.small import WIDEST_BLOCK, first_ritz
    from trainers.power_step import LEAST_TURNED

    draw = torch.Generator().manual_seed(0)
    operands = [torch.randn(2, *shape, generator=draw) for shape in TRIED_OUT_ON]
    left, right, left2, right2, bias, scale, basis, vectors, factors, mixing = (
        one.to(device) for one in operands
    )
    whole, into = left.new_empty(2, 1, *scale.shape[1:]), torch.zeros_like(vectors)
    slim, plain = left.new_empty(2, 1, 132, 12), left.new_empty(2, 1, 64, 96)
    pairs = [
        (one.unsqueeze(1), halves(other).unsqueeze(2)) for one, other in ((left, right), (left2, right2))
    ]
    multiply(whole, *pairs, bias_NRJ=bias, scale_NMS=scale, tiles=LARGE)
    multiply(slim, (left.unsqueeze(1), halves(right[:, :12]).unsqueeze(2)))
    multiply(plain, (left.mT.unsqueeze(1), left2.mT.unsqueeze(1)))
    placed, apart = left.new_empty(2, 2, 32, 96), left.new_empty(2, 2, 32)
    place_sums(left, left2, placed, apart)
    counts = torch.full((2,), basis.shape[1], dtype=torch.int32, device=device)
    order = torch.arange(vectors.shape[1], dtype=torch.int32, device=device)
    for cut, places in ((FEW, None), (MANY, order)):
        add_projection(
            into, basis, vectors, factors, counts_N=counts, rates_N1=factors, places_P=places, cut=cut
        )
    found = {
        "multiply": (whole.squeeze(1), ERROR),
        "sums_over": (sums_over(left, left2), ERROR),
        "multiply by few": (slim.squeeze(1), ERROR),
        "multiply as it is": (plain.squeeze(1), ERROR),
        "place_sums": (placed, ERROR),
        "place_sums apart": (apart, 10 * ERROR),
        "inner": (inner(left, right), 10 * ERROR),
        "inner of all": (inner(right, right), 10 * ERROR),
        "add_projection": (into / 2, 10 * ERROR),
        "combine": (combine(right.clone(), mixing), ERROR),
    }
    for width in sorted({12, WIDEST_BLOCK}):
        rows = left[:, : 2 * width].double()
        gram = rows @ rows.mT
        given = {"tolerance": 1.0, "least_scale": 1.0, "rank_tolerance": 1e-5, "rounding": ERROR}
        given["least_turned"] = LEAST_TURNED
        combinations = first_ritz(gram, gram.new_zeros(2), counts, **given)[1].double()
        found[f"first_ritz of {width}"] = combinations @ gram @ combinations.mT, 10 * ERROR
    left, right, left2, right2, bias, scale, basis, vectors, factors, mixing = (
        one.double() for one in operands
    )
    coefficients = (basis @ vectors.unsqueeze(2)) * factors.unsqueeze(2)
    exact = {
        "multiply": (left @ right.mT + left2 @ right2.mT + bias) * scale,
        "sums_over": left.mT @ left2,
        "multiply by few": left @ right[:, :12].mT,
        "multiply as it is": left.mT @ left2,
        "place_sums": (left.mT @ left2).unflatten(1, (2, 32)),
        "place_sums apart": left.sum(1).unflatten(1, (2, 32)),
        "inner": left @ right.mT,
        "inner of all": right @ right.mT,
        "add_projection": (coefficients.mT @ basis).squeeze(1) + factors * vectors,
        "combine": mixing @ right,
        **{f"first_ritz of {width}": torch.eye(width).expand(2, -1, -1) for width in (12, WIDEST_BLOCK)},
    }
    wrong = [
        name
        for name, (values, bound) in found.items()
        if not bool((values.cpu() - exact[name]).norm() <= bound * exact[name].norm())
    ]
    if wrong:
        raise RuntimeError(f"Triton's programs give wrong numbers on this GPU: {', '.join(wrong)}.")
