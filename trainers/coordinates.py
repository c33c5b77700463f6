"""Coordinates in which a curvature product costs less and loses nothing.

A first dense layer y = W x + b sees its weights only through W x on the examples at hand, so that layer's
block of the Hessian acts on nothing but the span of their inputs. With E an isometry onto the span (all other
parameters as they are),

    H = E H_c E^T,

with H_c the Hessian of the same network whose examples are given in orthonormal coordinates of that span. The
eigenpairs of H that are not null vectors are those of H_c, lifted by E. For 200 examples of CIFAR-10, H_c has
200 of the 3,072 input dimensions; MNIST's inputs leave out the pixels that are 0 in every example.

Shape legend: R directions, B examples, F inputs, S coordinates of the span, O outputs of the layer,
P parameters, C compressed parameters.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

WORTH_A_ROTATION = 2
"""A rotation is used from this many times more used inputs than examples on: lifting costs too."""

ALIGNMENT = 16
"""The kept inputs are padded to a multiple of this: matrix products run best on such."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Coordinates:
    """The isometry E for one set of examples.

    Args:
        inputs_BS: The examples' inputs in coordinates of their span.
        kept_S: Which inputs the coordinates are, int64; `None` with a rotation.
        order_P: All parameters, int32: first those that the C compressed ones are; `None` with a rotation.
        rotation_SF: Orthonormal rows; `None` where the coordinates are inputs.
        num_inputs: F.
        num_outputs: O.
        num_params: P.
    """

    inputs_BS: Tensor
    kept_S: Tensor | None
    order_P: Tensor | None
    rotation_SF: Tensor | None
    num_inputs: int
    num_outputs: int
    num_params: int

    @property
    def size(self) -> int:
        """Compressed parameters C."""
        return self.num_params - self.num_outputs * (self.num_inputs - self.inputs_BS.shape[1])

    def restrict(self, vectors_RP: Tensor) -> Tensor:
        """Return E^T v for each row, (R, C)."""
        weights, rest = self._split(vectors_RP, self.num_inputs)
        if self.rotation_SF is not None:
            inside = torch.matmul(weights.flatten(0, 1), self.rotation_SF.mT)
        else:
            assert self.kept_S is not None
            # Row by row, with indices that a cache holds: all at once takes a processor three times as long.
            inside = weights.gather(2, self.kept_S.expand(*weights.shape[:2], -1))
        return torch.cat([inside.reshape(len(vectors_RP), -1), rest], 1)

    def lift(self, vectors_RC: Tensor) -> Tensor:
        """Return E v for each row, (R, P)."""
        lifted = vectors_RC.new_zeros(len(vectors_RC), self.num_params)
        weights, rest = self._split(vectors_RC, self.inputs_BS.shape[1])
        into, rest_into = self._split(lifted, self.num_inputs)
        if self.rotation_SF is not None:
            into.copy_(torch.matmul(weights.flatten(0, 1), self.rotation_SF).view(into.shape))
        else:
            assert self.kept_S is not None
            into.scatter_(2, self.kept_S.expand(weights.shape), weights)
        rest_into.copy_(rest)
        return lifted

    def add_lifted(self, vector_C: Tensor, into_P: Tensor) -> None:
        """Add E v in place: lifted first, as by `lift`, it would pass through memory four times more."""
        weights, rest = self._split(vector_C.unsqueeze(0), self.inputs_BS.shape[1])
        into, rest_into = self._split(into_P.unsqueeze(0), self.num_inputs)
        if self.rotation_SF is not None:
            into[0].add_(torch.matmul(weights[0], self.rotation_SF))
        else:
            assert self.kept_S is not None
            into[0].scatter_add_(1, self.kept_S.expand_as(weights[0]), weights[0])
        rest_into.add_(rest)

    def _split(self, vectors: Tensor, num_inputs: int) -> tuple[Tensor, Tensor]:
        """Return views (R, O, inputs) of the first layer's weights and (R, ...) of all that follows."""
        weights = self.num_outputs * num_inputs
        return vectors[:, :weights].unflatten(1, (self.num_outputs, num_inputs)), vectors[:, weights:]


def coordinates_of(inputs_BF: Tensor, *, num_outputs: int, num_params: int) -> Coordinates | None:
    """Choose coordinates for a first dense layer; `None` where the inputs as they are serve as well.

    Args:
        inputs_BF: The examples, flat.
        num_outputs: Outputs of the layer.
        num_params: Parameters of the whole network.
    """
    num_examples, num_inputs = inputs_BF.shape
    used = (inputs_BF != 0).any(0)
    num_used = int(used.sum())
    if num_examples * WORTH_A_ROTATION <= num_used:
        # X^T = Q R gives X = R^T Q^T with orthonormal columns of Q, whatever the rank of X.
        rotation, triangle = torch.linalg.qr(inputs_BF.double().mT)
        # The one of them that all libraries agree on, as directions in a checkpoint ask for.
        signs = torch.where(triangle.diagonal() < 0, -1.0, 1.0)
        rotation, triangle = rotation * signs, triangle * signs.unsqueeze(1)
        return Coordinates(
            inputs_BS=triangle.mT.to(inputs_BF.dtype).contiguous(),
            kept_S=None,
            order_P=None,
            rotation_SF=rotation.mT.to(inputs_BF.dtype).contiguous(),
            num_inputs=num_inputs,
            num_outputs=num_outputs,
            num_params=num_params,
        )
    padded = -(-max(num_used, 1) // ALIGNMENT) * ALIGNMENT
    if padded >= num_inputs:
        return None
    # Used inputs first, then enough of the others; in ascending order.
    kept = torch.argsort(~used, stable=True)[:padded].sort().values
    return Coordinates(
        inputs_BS=inputs_BF[:, kept].contiguous(),
        kept_S=kept,
        order_P=_order(kept, num_inputs=num_inputs, num_outputs=num_outputs, num_params=num_params),
        rotation_SF=None,
        num_inputs=num_inputs,
        num_outputs=num_outputs,
        num_params=num_params,
    )


def _order(kept_S: Tensor, *, num_inputs: int, num_outputs: int, num_params: int) -> Tensor:
    """Return the parameters that are left when the first layer keeps some of its inputs, then the others."""
    weights = torch.arange(num_outputs * num_inputs, device=kept_S.device).view(num_outputs, num_inputs)
    rest = torch.arange(num_outputs * num_inputs, num_params, device=kept_S.device)
    left_out = torch.ones(num_inputs, dtype=torch.bool, device=kept_S.device)
    left_out[kept_S] = False
    return torch.cat([weights[:, kept_S].flatten(), rest, weights[:, left_out].flatten()]).int()
