"""Coordinates of a holdout's inputs: the Hessian in them, lifted, is the Hessian."""

import pytest
import torch
from torch import Tensor, nn

from tests.trainers.tolerances import SUMS_FLOAT64
from trainers.chain import ChainObjective
from trainers.coordinates import ALIGNMENT, Coordinates
from trainers.layers.recognition import chain_of
from trainers.losses import LOSSES

INPUTS, OUTPUTS = 40, 3


def objective(*layers: nn.Module) -> ChainObjective:
    chain = chain_of(nn.Sequential(*layers), (1, 5, 8))
    assert chain is not None
    return ChainObjective(chain, LOSSES["cross_entropy"].build({}))


def mlp() -> ChainObjective:
    return objective(nn.Flatten(), nn.Linear(INPUTS, 5), nn.Tanh(), nn.Linear(5, OUTPUTS))


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def few_examples() -> Tensor:
    return drawn(7, 1, 5, 8)


def unused_inputs() -> Tensor:
    inputs = drawn(30, 1, 5, 8)
    inputs.flatten(1)[:, 3:25] = 0
    return inputs


def dependent_examples() -> Tensor:
    return torch.cat([few_examples(), few_examples()])


EXAMPLES = {"rotation": few_examples, "kept inputs": unused_inputs, "dependent": dependent_examples}


def found(inputs: Tensor) -> tuple[ChainObjective, Coordinates]:
    made = mlp()
    coordinates = made.coordinates(inputs)
    assert coordinates is not None
    return made, coordinates


@pytest.mark.parametrize("part", ["hessian", "gauss_newton", "functional"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_hessian_is_that_of_the_coordinates_lifted(name: str, part: str) -> None:
    inputs = EXAMPLES[name]()
    made, coordinates = found(inputs)
    params = drawn(2, made.num_params, seed=1)
    targets = torch.nn.functional.one_hot(torch.arange(len(inputs)) % OUTPUTS, OUTPUTS).double()
    at = params, inputs.expand(2, *inputs.shape), targets.expand(2, *targets.shape)
    whole = made.curvature(*at, part=part)(torch.eye(made.num_params).double().expand(2, -1, -1))
    inside = made.curvature(*at, part=part, coordinates=coordinates)(
        torch.eye(coordinates.size).double().expand(2, -1, -1)
    )
    for lane in range(2):
        half = coordinates.lift(inside[lane])
        lifted = coordinates.lift(half.mT.contiguous()).mT
        torch.testing.assert_close(lifted, whole[lane], **SUMS_FLOAT64)
        assert lifted.abs().max() > 0


@pytest.mark.parametrize("name", EXAMPLES)
def test_lifting_is_an_isometry_and_restricting_its_transpose(name: str) -> None:
    _, coordinates = found(EXAMPLES[name]())
    lifted = coordinates.lift(torch.eye(coordinates.size).double())
    identity = torch.eye(coordinates.size).double()
    torch.testing.assert_close(lifted @ lifted.mT, identity, **SUMS_FLOAT64)
    vectors = drawn(4, coordinates.num_params, seed=2)
    torch.testing.assert_close(coordinates.restrict(vectors), vectors @ lifted.mT, **SUMS_FLOAT64)
    one, into = drawn(1, coordinates.size, seed=3)[0], vectors[0].clone()
    coordinates.add_lifted(one, into)
    assert torch.equal(into, vectors[0] + coordinates.lift(one.unsqueeze(0))[0])


def test_a_rotation_is_the_same_whatever_library_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints have directions in it, and the next machine may be of another kind."""
    inputs = few_examples()
    _, coordinates = found(inputs)
    qr = torch.linalg.qr

    def other(matrix: Tensor) -> tuple[Tensor, Tensor]:
        rotation, triangle = qr(matrix)
        signs = torch.tensor([1.0, -1.0]).double().repeat(len(triangle))[: len(triangle)]
        return rotation * signs, triangle * signs.unsqueeze(1)

    monkeypatch.setattr(torch.linalg, "qr", other)
    _, again = found(inputs)
    assert coordinates.rotation_SF is not None and again.rotation_SF is not None
    assert torch.equal(again.rotation_SF, coordinates.rotation_SF)
    assert torch.equal(again.inputs_BS, coordinates.inputs_BS)
    assert (coordinates.inputs_BS.diagonal() > 0).all()


def test_kept_inputs_are_the_used_ones_and_padding() -> None:
    _, coordinates = found(unused_inputs())
    assert coordinates.kept_S is not None and len(coordinates.kept_S) == 2 * ALIGNMENT
    used = {*range(3), *range(25, INPUTS)}
    assert used < set(coordinates.kept_S.tolist())


def test_there_are_none_where_they_would_save_nothing() -> None:
    assert mlp().coordinates(drawn(30, 1, 5, 8)) is None
    convolution = objective(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, OUTPUTS))
    assert convolution.coordinates(unused_inputs()) is None
