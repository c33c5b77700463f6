"""The objective of an arbitrary module through `torch.func`: `functional_call`, `vmap`, `jvp`, `grad`.

Slower than a chain, but right for every module whose forward pass is a function of its parameters; also the
reference against which the chain is tested.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, jvp, vjp, vmap

from trainers.losses import Loss
from trainers.objective import CurvatureProduct, Part

DIRECTIONS_AT_ONCE = 16
"""Directions per vectorised pass; bounds memory."""


class FunctionalObjective:
    """`Objective` of any module; the template module's own parameters are never used."""

    def __init__(self, module: nn.Module, loss: Loss) -> None:
        self._module = module.eval()
        self._loss = loss
        self._shapes = {name: parameter.shape for name, parameter in module.named_parameters()}
        self.num_params = sum(shape.numel() for shape in self._shapes.values())

    def _call(self, params_P: Tensor, inputs_BX: Tensor) -> Tensor:
        parts = params_P.split([shape.numel() for shape in self._shapes.values()])
        named = {
            name: part.view(shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }
        return functional_call(self._module, named, (inputs_BX,))

    def _mean_loss(self, params_P: Tensor, inputs_BX: Tensor, targets_BC: Tensor) -> Tensor:
        outputs = self._call(params_P, inputs_BX)
        return self._loss.value(outputs.unsqueeze(0), targets_BC.unsqueeze(0)).squeeze(0)

    @torch.no_grad()
    def outputs(self, params_NP: Tensor, inputs_NBX: Tensor) -> Tensor:
        """Return the model's outputs, (N, B, C)."""
        return vmap(self._call)(params_NP, inputs_NBX)

    @torch.no_grad()
    def loss_and_gradient(
        self, params_NP: Tensor, inputs_NBX: Tensor, targets_NBC: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the mean loss of each lane (N,) and its gradient (N, P)."""
        result = vmap(grad_and_value(self._mean_loss))(params_NP, inputs_NBX, targets_NBC)
        return result[1], result[0]

    @torch.no_grad()
    def curvature(
        self, params_NP: Tensor, inputs_NBX: Tensor, targets_NBC: Tensor, *, part: Part = "hessian"
    ) -> CurvatureProduct:
        """Return the product with (a part of) the Hessian of the mean loss at `params_NP`."""
        point = params_NP.clone()
        one_lane = {
            "hessian": self._hessian_product,
            "gauss_newton": self._gauss_newton_product,
            "functional": self._functional_product,
        }[part]

        @torch.no_grad()
        def product(directions_NRP: Tensor) -> Tensor:
            over_directions: Callable[..., Tensor] = vmap(
                one_lane, in_dims=(None, None, None, 0), chunk_size=DIRECTIONS_AT_ONCE
            )
            return vmap(over_directions)(point, inputs_NBX, targets_NBC, directions_NRP)

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
        outputs = self._call(params_P, inputs_BX)
        residual = self._loss.gradient(outputs.unsqueeze(0), targets_BC.unsqueeze(0)).squeeze(0)

        def pulled_back(params: Tensor) -> Tensor:
            """J(theta)^T r with the residual r held fast."""
            return torch.func.grad(lambda inner: (self._call(inner, inputs_BX) * residual).sum())(params)

        return jvp(pulled_back, (params_P,), (vector_P,))[1]
