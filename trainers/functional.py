"""The objective of an arbitrary module through `torch.func`: `functional_call`, `vmap`, `jvp`, `grad`.

Slower than a chain, but right for every module whose forward pass is a function of its parameters; also the
reference against which the chain is tested. Passes are cut into pieces of examples that fit a memory budget,
or that batch normalisation asks for; means over pieces are weighted by their size.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, jvp, vjp, vmap

from trainers.coordinates import Coordinates
from trainers.losses import Loss
from trainers.models.dropout import Masks
from trainers.models.normalization import NORMALIZED_EXAMPLES, normalizes_over_examples
from trainers.objective import CurvatureProduct, Part, unheard

DIRECTIONS_AT_ONCE = 16
"""Most directions per vectorised pass."""

PASS_BYTES = 2**30
"""Budget for the activations of one pass, with what differentiation keeps of them."""

COPIES = 6
"""About how many times a pass with second derivatives keeps each activation."""


def part_elements(module: nn.Module, inputs_1X: Tensor) -> list[tuple[nn.Module, int]]:
    """Return the innermost parts of a module in the order of a pass, with the elements of their outputs."""
    found: list[tuple[nn.Module, int]] = []

    def note(part: nn.Module, inputs: tuple[Tensor, ...], outputs: object) -> None:
        found.append((part, sum(tensor.numel() for tensor in _tensors_in(outputs))))

    parts = [part for part in module.modules() if not any(part.children())]
    hooks = [part.register_forward_hook(note) for part in parts]
    module(inputs_1X)
    for hook in hooks:
        hook.remove()
    return found


def _tensors_in(outputs: object) -> Iterator[Tensor]:
    match outputs:
        case Tensor():
            yield outputs
        case tuple() | list():
            for part in cast("Sequence[object]", outputs):
                yield from _tensors_in(part)
        case dict():
            yield from _tensors_in(list(cast("Mapping[object, object]", outputs).values()))
        case _:
            return


class FunctionalObjective:
    """`Objective` of any module; the template module's own parameters are never used."""

    replayable = False  # Nothing is known about what a module's forward pass does.

    def __init__(self, module: nn.Module, loss: Loss, beat: Callable[[], None] = unheard) -> None:
        self.beat = beat
        self._module = module.eval()
        self._loss = loss
        self._normalizes = normalizes_over_examples(module)
        self._features: dict[torch.Size, int] = {}
        self._shapes = {name: parameter.shape for name, parameter in module.named_parameters()}
        self.num_params = sum(shape.numel() for shape in self._shapes.values())

    def _call(self, params_P: Tensor, inputs_BX: Tensor, masks: Masks | None = None) -> Tensor:
        self.beat()
        parts = params_P.split([shape.numel() for shape in self._shapes.values()])
        named = {
            name: part.view(shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }
        return functional_call(self._module, {**named, **(masks or {})}, (inputs_BX,))

    def _outputs(self, params_P: Tensor, inputs_BX: Tensor) -> Tensor:
        # As if to be differentiated: recurrent layers go through `vmap` no other way.
        return vjp(partial(self._call, inputs_BX=inputs_BX), params_P)[0]

    def _mean_loss(
        self, params_P: Tensor, inputs_BX: Tensor, targets_BC: Tensor, masks: Masks | None = None
    ) -> Tensor:
        outputs = self._call(params_P, inputs_BX, masks)
        return self._loss.value(outputs.unsqueeze(0), targets_BC.unsqueeze(0)).squeeze(0)

    def _cut(self, inputs_NBX: Tensor) -> tuple[list[slice], int, int | None]:
        """Return the pieces of a pass, and how many directions and lanes (`None`: all) go through at once.

        All but the last are functions of one lane's shapes, so that sums do not depend on its neighbours.
        """
        lanes, total = inputs_NBX.shape[:2]
        per_example = self._activations(inputs_NBX) * inputs_NBX.element_size() * COPIES
        size = max(1, min(total, PASS_BYTES // (per_example * DIRECTIONS_AT_ONCE)))
        if self._normalizes:
            size = NORMALIZED_EXAMPLES
        piece_bytes = per_example * min(size, total)
        directions = max(1, min(DIRECTIONS_AT_ONCE, PASS_BYTES // piece_bytes))
        at_once = max(1, PASS_BYTES // (piece_bytes * directions))
        pieces = [slice(start, min(start + size, total)) for start in range(0, total, size)]
        return pieces, directions, None if at_once >= lanes else at_once

    def _activations(self, inputs_NBX: Tensor) -> int:
        """Return the elements that one example leaves in the outputs of the module's parts."""
        shape = inputs_NBX.shape[2:]
        if shape not in self._features:
            # A copy: these are the data set's.
            count = sum(elements for _, elements in part_elements(self._module, inputs_NBX[0, :1].clone()))
            self._features[shape] = max(count, inputs_NBX[0, 0].numel())
        return self._features[shape]

    @torch.no_grad()
    def outputs(self, params_NP: Tensor, inputs_NBX: Tensor) -> Tensor:
        """Return the model's outputs, (N, B, C)."""
        pieces, _, at_once = self._cut(inputs_NBX)
        over_lanes = vmap(self._outputs, chunk_size=at_once)
        return torch.cat([over_lanes(params_NP, inputs_NBX[:, piece]) for piece in pieces], 1)

    @torch.no_grad()
    def loss_and_gradient(
        self, params_NP: Tensor, inputs_NBX: Tensor, targets_NBC: Tensor, masks: Masks | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the mean loss of each lane (N,) and its gradient (N, P), under masks of dropout."""
        loss = params_NP.new_zeros(params_NP.shape[0])
        gradient = torch.zeros_like(params_NP)
        pieces, _, at_once = self._cut(inputs_NBX)
        over_lanes = vmap(grad_and_value(self._mean_loss), chunk_size=at_once)
        for piece in pieces:
            examples = inputs_NBX[:, piece], targets_NBC[:, piece]
            thinned = {name: mask[:, piece] for name, mask in (masks or {}).items()}
            result = over_lanes(params_NP, *examples, thinned)
            share = (piece.stop - piece.start) / inputs_NBX.shape[1]
            loss.add_(result[1], alpha=share)
            gradient.add_(result[0], alpha=share)
        return loss, gradient

    def examples_at_once(self, params_NP: Tensor, inputs_NBX: Tensor) -> int:
        """Return the number of these: a pass is cut here, whatever it is given."""
        return inputs_NBX.shape[1]

    def coordinates(self, inputs_BX: Tensor) -> Coordinates | None:
        """Return `None`: nothing is known about what the model does with its inputs."""
        return None

    @torch.no_grad()
    def curvature(
        self,
        params_NP: Tensor,
        inputs_NBX: Tensor,
        targets_NBC: Tensor,
        *,
        part: Part = "hessian",
        coordinates: Coordinates | None = None,
    ) -> CurvatureProduct:
        """Return the product with (a part of) the Hessian of the mean loss at `params_NP`."""
        assert coordinates is None, "there are none for any module"
        point = params_NP.clone()
        pieces, directions_at_once, lanes_at_once = self._cut(inputs_NBX)
        one_lane = {
            "hessian": self._hessian_product,
            "gauss_newton": self._gauss_newton_product,
            "functional": self._functional_product,
        }[part]

        @torch.no_grad()
        def product(directions_NRP: Tensor, /, into_NRP: Tensor | None = None) -> Tensor:
            over_directions: Callable[..., Tensor] = vmap(
                one_lane, in_dims=(None, None, None, 0), chunk_size=directions_at_once
            )
            over_lanes = vmap(over_directions, chunk_size=lanes_at_once)
            total = torch.empty_like(directions_NRP) if into_NRP is None else into_NRP
            total.zero_()
            for piece in pieces:
                examples = inputs_NBX[:, piece], targets_NBC[:, piece]
                share = (piece.stop - piece.start) / inputs_NBX.shape[1]
                total.add_(over_lanes(point, *examples, directions_NRP), alpha=share)
            return total

        return product

    def _hessian_product(
        self, params_P: Tensor, inputs_BX: Tensor, targets_BC: Tensor, vector_P: Tensor
    ) -> Tensor:
        def gradient(params: Tensor) -> Tensor:
            return torch.func.grad(self._mean_loss)(params, inputs_BX, targets_BC)

        return jvp(gradient, (params_P,), (vector_P,))[1]

    def _gauss_newton_product(
        self, params_P: Tensor, inputs_BX: Tensor, targets_BC: Tensor, vector_P: Tensor
    ) -> Tensor:
        def outputs(params: Tensor) -> Tensor:
            return self._call(params, inputs_BX)

        pushed = jvp(outputs, (params_P,), (vector_P,))
        value, tangent = pushed[0], pushed[1]
        outward = self._loss.output_hessian(value.unsqueeze(0), tangent[None, None]).squeeze(0).squeeze(0)
        return vjp(outputs, params_P)[1](outward)[0]

    def _functional_product(
        self, params_P: Tensor, inputs_BX: Tensor, targets_BC: Tensor, vector_P: Tensor
    ) -> Tensor:
        outputs = self._outputs(params_P, inputs_BX)
        residual = self._loss.gradient(outputs.unsqueeze(0), targets_BC.unsqueeze(0)).squeeze(0)

        def against_residual(params: Tensor) -> Tensor:
            """Return r . f(theta) with the residual r held fast; its gradient is J(theta)^T r."""
            return (self._call(params, inputs_BX) * residual).sum()

        # `grad` records its backward pass, `vjp` here would not: some layers then have no forward mode.
        return jvp(torch.func.grad(against_residual), (params_P,), (vector_P,))[1]
