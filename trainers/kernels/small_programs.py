# pyright: basic, reportArgumentType=false, reportOperatorIssue=false
"""The small algebra of a refresh, in the language of Triton: each call of a program has one lane's matrices.

Matrices are tiles of P x P in float64, in registers; P is a power of two, and rows and columns beyond a
matrix's own are 0.
"""

import triton
import triton.language as tl

SWEEPS = tl.constexpr(16)
"""Of Jacobi's method at most: it takes 3 near a diagonal matrix and 8 far from one."""

OFF_DIAGONAL = tl.constexpr(1e-14)
"""What is left beside the diagonal at most, over the largest entry."""

SOUND = tl.constexpr(0.5)
"""Rows whose other entries come to less than this share of the least diagonal one are independent."""

TINY = tl.constexpr(1e-300)


@triton.jit
def _times(left, right):
    return tl.dot(left, right, out_dtype=tl.float64)


@triton.jit
def _diagonal(matrix, row, column):
    return tl.sum(tl.where(row == column, matrix, 0.0), axis=1)


@triton.jit
def _symmetric(matrix):
    return 0.5 * (matrix + tl.trans(matrix))


@triton.jit
def _eigenpairs(matrix, P: tl.constexpr):
    """Return eigenvalues and eigenvectors, as columns, of a symmetric matrix, in no order.

    Jacobi's method in parallel (Golub & Van Loan, Matrix Computations, section 8.5): each round rotates P / 2
    planes that have no axis in common, and P - 1 rounds meet all of them, as players do in a tournament.
    Angles are float32: the planes' axes are orthonormal in any case, and the next sweep turns what is left.
    """
    index = tl.arange(0, P)
    row, column = index[:, None], index[None, :]
    vectors = tl.where(row == column, 1.0, 0.0).to(tl.float64)
    largest = tl.max(tl.max(tl.abs(matrix), axis=1), axis=0)
    unit = tl.where(largest > 0.0, largest, 1.0)
    matrix = matrix / unit
    beside = tl.max(tl.max(tl.where(row == column, 0.0, tl.abs(matrix)), axis=1), axis=0)
    sweep = tl.zeros((), dtype=tl.int32)
    while (beside > OFF_DIAGONAL) & (sweep < SWEEPS):
        for turn in range(P - 1):
            opposite = turn * (P // 2) % (P - 1)
            partner = tl.where(index == opposite, P - 1, (turn - index + P - 1) % (P - 1))
            partner = tl.where(index == P - 1, opposite, partner)
            own = _diagonal(matrix, row, column)
            other = tl.gather(own, partner, axis=0)
            between = tl.sum(tl.where(column == partner[:, None], matrix, 0.0), axis=1)
            # Of both partners the same: rounding must not turn them by two angles.
            between = 0.5 * (between + tl.gather(between, partner, axis=0))
            twice = 2.0 * between.to(tl.float32)
            slope = (other - own).to(tl.float32) / tl.where(twice == 0.0, 1.0, twice)
            sign = tl.where(index < partner, 1.0, -1.0)
            sign = tl.where(slope > 0.0, 1.0, tl.where(slope < 0.0, -1.0, sign))
            tangent = sign / (tl.abs(slope) + tl.sqrt(slope * slope + 1.0))
            tangent = tl.where(twice == 0.0, 0.0, tangent)
            # Newton's method, from 7 digits to 28.
            cosine = (1.0 / tl.sqrt(tangent * tangent + 1.0)).to(tl.float64)
            tangent = tangent.to(tl.float64)
            square = tangent * tangent + 1.0
            cosine *= 1.5 - 0.5 * square * cosine * cosine
            cosine *= 1.5 - 0.5 * square * cosine * cosine
            sine = tangent * cosine
            rows = partner[:, None] + 0 * column
            matrix = cosine[:, None] * matrix - sine[:, None] * tl.gather(matrix, rows, axis=0)
            columns = partner[None, :] + 0 * row
            matrix = cosine[None, :] * matrix - sine[None, :] * tl.gather(matrix, columns, axis=1)
            vectors = cosine[None, :] * vectors - sine[None, :] * tl.gather(vectors, columns, axis=1)
        beside = tl.max(tl.max(tl.where(row == column, 0.0, tl.abs(matrix)), axis=1), axis=0)
        sweep += 1
    return unit * _diagonal(matrix, row, column), vectors


@triton.jit
def _descending(values, vectors, P: tl.constexpr):
    """Sort eigenvalues, and their vectors with them, that are columns."""
    index = tl.arange(0, P)
    row, column = index[:, None], index[None, :]
    before = (values[None, :] > values[:, None]) | ((values[None, :] == values[:, None]) & (column < row))
    rank = tl.sum(before.to(tl.int32), axis=1)
    order = tl.minimum(tl.sum(tl.where(rank[None, :] == row, column, 0), axis=1), P - 1)
    return tl.gather(values, order, axis=0), tl.gather(vectors, order[None, :] + 0 * row, axis=1)


@triton.jit
def _whitening(inner, size, rank_tolerance, P: tl.constexpr):
    """Return W with W^T G W = I on the numerical range of G, and which of its columns are 0 instead."""
    index = tl.arange(0, P)
    row, column = index[:, None], index[None, :]
    apart = tl.sum(tl.where(row == column, 0.0, tl.abs(inner)), axis=1)
    least = tl.min(tl.where(index < size, _diagonal(inner, row, column), float("inf")), axis=0)
    if tl.max(apart, axis=0) < SOUND * least:
        # As nearly always: by Gershgorin's theorem no vector depends on the others.
        whitening = tl.trans(_inverse_factor(inner, size, P))
        absent = index >= size
    else:
        values, vectors = _eigenpairs(inner, P)
        absent = (values > rank_tolerance * tl.max(values, axis=0)) == 0
        scale = tl.where(absent, 0.0, 1.0 / tl.sqrt(tl.maximum(tl.abs(values), TINY)))
        whitening = vectors * scale[None, :]
    return whitening, absent


@triton.jit
def _inverse_factor(matrix, size, P: tl.constexpr):
    """Return L^-1 with matrix = L L^T, by Gauss's elimination; rows of 0 where it is singular."""
    index = tl.arange(0, P)
    row, column = index[:, None], index[None, :]
    inverse = tl.where(row == column, 1.0, 0.0).to(tl.float64)
    pivots = tl.zeros((P,), dtype=tl.float64)
    for j in range(size):
        pivot_row = tl.sum(tl.where(row == j, matrix, 0.0), axis=0)
        inverse_row = tl.sum(tl.where(row == j, inverse, 0.0), axis=0)
        pivot = tl.sum(tl.where(index == j, pivot_row, 0.0), axis=0)
        below = tl.sum(tl.where(column == j, matrix, 0.0), axis=1)
        factor = tl.where(index > j, below / tl.where(pivot > 0.0, pivot, float("inf")), 0.0)
        matrix -= factor[:, None] * pivot_row[None, :]
        inverse -= factor[:, None] * inverse_row[None, :]
        pivots = tl.where(index == j, pivot, pivots)
    scale = tl.where(pivots > 0.0, 1.0 / tl.sqrt(tl.where(pivots > 0.0, pivots, 1.0)), 0.0)
    return inverse * scale[:, None]


@triton.jit(do_not_specialize=["width"])
def first_ritz(
    found, whole, unfinished, gram, floors, counts, width, tolerance, least_scale,
    RANK: tl.constexpr, ROUNDING: tl.constexpr, LEAST_TURNED: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Do Rayleigh-Ritz and the power step in a lane's block, as `trainers.power_step` describes them."""
    n = tl.program_id(0).to(tl.int64)
    index = tl.arange(0, P)
    row, column = index[:, None], index[None, :]
    inside = (row < width) & (column < width)
    start = gram + n * 4 * width * width
    above = start + row * 2 * width + column
    inner = _symmetric(tl.load(above, mask=inside, other=0.0))
    projected = tl.load(above + width, mask=inside, other=0.0)
    projected += tl.load(above + 2 * width * width, mask=inside, other=0.0)
    projected = _symmetric(0.5 * projected)
    images = _symmetric(tl.load(above + 2 * width * width + width, mask=inside, other=0.0))
    everything = tl.abs(inner) + tl.abs(projected) + tl.abs(images)
    sound = tl.sum(tl.sum(everything, axis=1), axis=0) < float("inf")

    whitening, absent = _whitening(inner, width, RANK, P)
    reduced = _times(tl.trans(whitening), _times(projected, whitening))
    last = -(2.0 * width + 1.0) * tl.max(tl.max(tl.abs(reduced), axis=1), axis=0) - TINY
    reduced += tl.where((row == column) & absent[:, None], last, 0.0)
    theta, vectors = _eigenpairs(_symmetric(reduced), P)
    theta, coefficients = _descending(theta, _times(whitening, vectors), P)
    theta = tl.where(sound, theta, float("nan"))

    across = tl.trans(coefficients)
    own = _times(across, _times(inner, coefficients))
    mixed = _times(across, _times(projected, coefficients))
    mapped = _times(across, _times(images, coefficients))
    residuals = mapped - (theta[:, None] + theta[None, :]) * mixed + theta[:, None] * theta[None, :] * own
    squares = tl.maximum(_diagonal(residuals, row, column), 0.0)
    norms = tl.where(sound, tl.sqrt(squares + ROUNDING * theta * theta), float("nan"))
    lowest = tl.sum(tl.where(index == width - 1, theta, 0.0), axis=0)
    beyond = tl.maximum(lowest, 0.0) + tl.max(tl.where(index < width, norms, 0.0), axis=0)
    beyond = tl.maximum(beyond, -tl.load(floors + n))
    helps = theta > beyond
    norms = tl.where(helps, norms * (beyond / theta), norms)
    stays, moves = tl.where(helps, 0.0, 1.0), tl.where(helps, 1.0 / theta, 0.0)
    moved = stays[:, None] * stays[None, :] * own + moves[:, None] * moves[None, :] * mapped
    moved += (stays[:, None] * moves[None, :] + moves[:, None] * stays[None, :]) * mixed
    highest = tl.sum(tl.where(index == 0, theta, 0.0), axis=0)
    turned = helps & (theta > LEAST_TURNED * highest)
    scaled = tl.where(turned[:, None] & turned[None, :], _symmetric(residuals), 0.0)
    roots = tl.sqrt(tl.where(turned, theta, 1.0))
    scaled = scaled / roots[:, None] / roots[None, :]
    apart = tl.where(turned, theta, -tl.abs(highest))
    values, vectors = _eigenpairs(scaled + tl.where(row == column, apart[:, None], 0.0), P)
    values, vectors = _descending(values, vectors, P)
    values = tl.where(turned, tl.maximum(values, theta), theta)
    combinations = vectors / roots[:, None]
    left = tl.sum(_times(scaled, vectors) * vectors, axis=0)
    shift = (theta[:, None] - values[None, :]) * combinations
    left += tl.sum(shift * shift, axis=0)
    after = beyond * tl.sqrt(tl.maximum(left / tl.where(turned, values, 1.0) + ROUNDING, 0.0))
    norms = tl.where(turned, after, norms)
    turn = tl.trans(vectors * roots[:, None]) / tl.sqrt(tl.where(turned, values, 1.0))[:, None]
    turn = tl.where(turned[:, None], turn, tl.where(row == column, 1.0, 0.0))
    factor = _inverse_factor(_times(turn, _times(moved, tl.trans(turn))), width, P)
    factor = _times(factor, turn)
    of_block = _times(factor * stays[None, :], across)
    of_images = _times(factor * moves[None, :], across)

    wanted = tl.load(counts + n)
    largest = tl.max(tl.where(index < wanted, norms, 0.0), axis=0)
    first = tl.sum(tl.where(index == 0, tl.abs(values), 0.0), axis=0)
    last = tl.sum(tl.where(index == wanted - 1, tl.abs(values), 0.0), axis=0)
    scale = tl.maximum(tl.maximum(last, least_scale * first), TINY)
    converged = (sound & (largest <= tolerance * scale)).to(tl.int32)
    tl.atomic_add(unfinished, (sound.to(tl.int32) > converged).to(tl.int32))

    found += n * (2 * width + 1)
    tl.store(found + index, values, mask=index < width)
    tl.store(found + width + index, norms, mask=index < width)
    tl.store(found + 2 * width, converged.to(tl.float64))
    into = whole + n * 2 * width * width + row * 2 * width + column
    tl.store(into, of_block.to(tl.float32), mask=inside)
    tl.store(into + width, of_images.to(tl.float32), mask=inside)
