"""Coordinates in which a curvature product costs less and loses nothing.

A first dense layer y = W x + b sees its weights only through W x on the examples at hand, so that layer's
block of the Hessian acts on nothing but the span of their inputs. With E an isometry onto the span (all other
parameters as they are),

    H = E H_c E^T,

with H_c the Hessian of the same network whose examples are given in orthonormal coordinates of that span. The
eigenpairs of H that are not null vectors are those of H_c, lifted by E. For 200 examples of CIFAR-10, H_c has
200 of the 3,072 input dimensions; MNIST's inputs leave out the pixels that are 0 in every example.

Where examples are fewer than the inputs they use, the basis of their span that Gram-Schmidt gives, in order,
leaves example b without a component behind number b: half of the inputs in coordinates are 0, which products
on a CPU leave out (`trainers.layers.triangular_products`).

Shape legend: R directions, B examples, F inputs, S coordinates of the span, O outputs of the layer,
P parameters, C compressed parameters.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

WORTH_A_ROTATION = {"cpu": 1, "cuda": 2}
"""A rotation is used from this many times more used inputs than examples on: lifting costs too. A GPU's
programs find kept inputs where they are, and have no use for zeros."""

FLOPS_IN_A_BYTE = 20
"""What a matrix product does while a byte of a long vector is read: 300 GFLOP/s beside 15 GB/s."""

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

    @property
    def triangular(self) -> bool:
        """Whether products are to leave out the components that examples lack."""
        return self.rotation_SF is not None and self.inputs_BS.device.type == "cpu"

    def are_worth_lifting(self, count: int, times: int) -> bool:
        """Whether so many directions, onto which so many vectors are projected, are better lifted once."""
        sizes = self.num_inputs, self.inputs_BS.shape[1], self.num_outputs, self.num_params
        return self.triangular and lifting_pays(count, times, sizes)

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


def coordinates_of(
    inputs_BF: Tensor, *, num_outputs: int, num_params: int, device_type: str | None = None
) -> Coordinates | None:
    """Choose coordinates for a first dense layer; `None` where the inputs as they are serve as well.

    Args:
        inputs_BF: The examples, flat.
        num_outputs: Outputs of the layer.
        num_params: Parameters of the whole network.
        device_type: Of the device on which they would be chosen; that of the examples without.
    """
    worth = WORTH_A_ROTATION[device_type or inputs_BF.device.type]
    num_examples, num_inputs = inputs_BF.shape
    used = (inputs_BF != 0).any(0)
    num_used = int(used.sum())
    if num_examples * worth <= num_used:
        # X^T = Q R gives X = R^T Q^T with orthonormal columns of Q, whatever the rank of X.
        rotation, triangle = torch.linalg.qr(inputs_BF.double().mT)
        # The one of them that all libraries agree on: with a diagonal that is not negative.
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


def lifting_pays(count: int, times: int, sizes: tuple[int, int, int, int]) -> bool:
    """Whether it costs less to lift directions once than to restrict vectors and lift their projections.

    A function of shapes alone, because last bits depend on it.

    Args:
        count: Directions.
        times: Vectors that are projected onto them, one after another.
        sizes: F, S, O and P of a rotation.
    """
    num_inputs, inside, num_outputs, num_params = sizes
    rotating = 2 * num_inputs * inside * num_outputs / FLOPS_IN_A_BYTE
    reading = 2 * count * torch.float32.itemsize
    left_out = num_outputs * (num_inputs - inside)
    once = count * rotating + times * reading * num_params
    return once < times * (2 * rotating + reading * (num_params - left_out))


def _order(kept_S: Tensor, *, num_inputs: int, num_outputs: int, num_params: int) -> Tensor:
    """Return the parameters that are left when the first layer keeps some of its inputs, then the others."""
    weights = torch.arange(num_outputs * num_inputs, device=kept_S.device).view(num_outputs, num_inputs)
    rest = torch.arange(num_outputs * num_inputs, num_params, device=kept_S.device)
    left_out = torch.ones(num_inputs, dtype=torch.bool, device=kept_S.device)
    left_out[kept_S] = False
    return torch.cat([weights[:, kept_S].flatten(), rest, weights[:, left_out].flatten()]).int()
