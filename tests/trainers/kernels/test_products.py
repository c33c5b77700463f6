"""Matrix products of halves: the error of float32, whatever the shapes, strides and what else is added."""

import pytest
import torch
from torch import Tensor

from tests.trainers.kernels.conftest import DEVICE, GPU
from tests.trainers.tolerances import HALVES

SHAPES = [(2, 3, 36, 52, 24), (1, 2, 130, 33, 70), (2, 1, 5, 300, 10), (3, 1, 129, 16, 65)]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, generator=draw).to(DEVICE)


def error(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("shape", SHAPES)
def test_halves_add_up(shape: tuple[int, ...]) -> None:
    from trainers.kernels.products import halves

    matrices = drawn(*shape[:4])
    for given in (matrices, matrices.mT, matrices[:, 0], matrices[..., :-1, :]):
        big, small = halves(given)
        assert torch.equal(big.view(torch.int32) & 8191, torch.zeros_like(big, dtype=torch.int32))
        assert torch.equal(big + small, given.contiguous())
        longer = halves(given, more=3)
        assert longer.shape[-2] == given.shape[-2] + 3
        assert torch.equal(longer[..., :-3, :], torch.stack([big, small]))


@pytest.mark.parametrize("more", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_product_has_the_error_of_float32(shape: tuple[int, int, int, int, int], more: bool) -> None:
    from trainers.kernels.products import halves, multiply

    lanes, results, rows, depth, columns = shape
    left, right = drawn(lanes, results, rows, depth), drawn(lanes, results, columns, depth)
    exact = left.double() @ right.double().mT
    bias = scale = second = None
    if more:
        other = drawn(lanes, results, 40, rows).mT, drawn(lanes, 1, columns, 40)
        exact += other[0].double() @ other[1].double().mT
        second = other[0], halves(other[1]).expand(2, lanes, results, columns, 40)
        bias, scale = drawn(lanes, results, columns), drawn(lanes, rows, columns, seed=1)
        exact = (exact + bias.double().unsqueeze(2)) * scale.double().unsqueeze(1)
    into = left.new_full((lanes, rows, results, columns), torch.nan).transpose(1, 2)
    multiply(into, (left, halves(right)), second, bias_NRJ=bias, scale_NMS=scale)
    assert error(into, exact) < HALVES


def test_a_scale_repeats_over_the_columns() -> None:
    from trainers.kernels.products import halves, multiply

    left, right, scale = drawn(2, 1, 20, 16), drawn(2, 1, 24, 16), drawn(2, 20, 8)
    into = left.new_empty(2, 1, 20, 24)
    multiply(into, (left, halves(right)), scale_NMS=scale)
    exact = (left.double() @ right.double().mT) * scale.double().repeat(1, 1, 3).unsqueeze(1)
    assert error(into, exact) < HALVES


@pytest.mark.parametrize("depth", [40, 700, 1501])
@pytest.mark.parametrize("shared", [False, True])
def test_sums_over_examples(depth: int, shared: bool) -> None:
    from trainers.kernels.products import sums_over

    tall, short = drawn(2, depth, 60), drawn(2, depth, 21)
    if shared:
        short = short[:1].expand_as(short)
    exact = tall.double().mT @ short.double()
    assert error(sums_over(tall, short), exact) < HALVES
    both = sums_over(tall, short, plain_too=True)
    assert error(both[..., :21], exact) < HALVES
    assert error(both[..., 21], tall.double().sum(1)) < 10 * HALVES
    assert not both[..., 22:].any()


@pytest.mark.parametrize("same", [False, True])
def test_inner_products_of_rows(same: bool) -> None:
    from trainers.kernels.products import inner

    left = drawn(2, 24, 2050)
    right = left if same else drawn(2, 12, 2050)
    assert error(inner(left, right), left.double() @ right.double().mT) < 10 * HALVES


@pytest.mark.gpu
@pytest.mark.skipif(not GPU, reason="needs a CUDA device: Triton's interpreter takes an hour")
def test_more_programs_than_a_second_axis_has_room_for() -> None:
    from trainers.kernels.products import halves, inner, sums_over

    many = drawn(70_000, 4, 1100)
    exact = many.double() @ many.double().mT
    assert error(inner(many, many), exact) < 10 * HALVES
    assert torch.equal(halves(many).sum(0), many)
    assert error(sums_over(many.mT, many.mT), exact) < HALVES


@pytest.mark.gpu
@pytest.mark.skipif(not GPU, reason="needs a CUDA device with 20 GiB")
def test_rows_that_32_bits_do_not_count() -> None:
    from trainers.kernels.products import inner

    long = torch.zeros(1, 24, 100_000_000, device=DEVICE)
    long[0, :, -24:] = torch.eye(24, device=DEVICE)
    assert torch.equal(inner(long, long)[0], torch.eye(24, dtype=torch.float64, device=DEVICE))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy interprets, and warns of what is tested
def test_what_is_not_finite_stays_in_its_lane() -> None:
    from trainers.kernels.products import halves, multiply, sums_over

    left, right = drawn(2, 1, 70, 40), drawn(2, 1, 30, 40)
    left[0, 0, 3, 5], right[0, 0, 2, 7] = torch.nan, torch.inf
    into = left.new_empty(2, 1, 70, 30)
    multiply(into, (left, halves(right)))
    assert not into[0, 0, 3].isfinite().any() and not into[0, 0, :, 2].isfinite().any()
    assert into[1].isfinite().all() and into[0, 0, 4:, 3:].isfinite().all()
    sums = sums_over(left[:, 0], left[:, 0])
    assert not sums[0].isfinite().all() and sums[1].isfinite().all()


@pytest.mark.parametrize("groups", [1, 3])
def test_sums_are_put_in_their_place(groups: int) -> None:
    from trainers.kernels.products import place_sums

    lanes, depth, length, columns = 2, 40, 20, 36
    room = drawn(lanes, groups, length * columns + 2 * length + 5)
    around, rows = room.clone(), slice(0, length * columns)
    where = room[:, :, rows].unflatten(2, (length, columns))
    sums = room[:, :, rows.stop : rows.stop + length]
    tall, short = drawn(lanes, depth, groups * length), drawn(lanes, depth, columns)
    assert place_sums(tall, short, where, sums)
    exact = (tall.double().mT @ short.double()).unflatten(1, (groups, length))
    assert error(where, exact) < HALVES
    assert error(sums, tall.double().sum(1).unflatten(1, (groups, length))) < 10 * HALVES
    assert torch.equal(room[:, :, rows.stop + length :], around[:, :, rows.stop + length :])
    assert not place_sums(tall.repeat(1, 20, 1), short.repeat(1, 20, 1), where, sums), "in several parts"
