"""The matrix products of a dense layer, y = x W^T + b, and of its tangents, y' = x W'^T + b' + x' W^T.

Shape legend: N lanes, B examples, R directions, O outputs, I inputs.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from trainers import kernels

Matrices = Any
"""A block of directions W' as the products read it; private to who made it."""

Sums = Any
"""Tangents of the gradient in W and b, added up over examples; private to who made them."""


class DenseProducts(Protocol):
    """What computes them. Gates multiply a result; the same for all directions."""

    def outputs(self, inputs_NBI: Tensor, weight_NOI: Tensor, bias_NO: Tensor | None) -> Tensor:
        """Return x W^T + b, (N, B, O)."""
        ...

    def gradient(self, grad_NBO: Tensor, inputs_NBI: Tensor, into_NOI: Tensor) -> None:
        """Overwrite `into_NOI`, whose lanes may lie apart, with g^T x."""
        ...

    def stack(self, directions_NROI: Tensor, *, need_input: bool) -> Matrices:
        """Arrange directions for the products with every chunk of examples."""
        ...

    def tangent(
        self,
        inputs_NBI: Tensor,
        matrices: Matrices,
        bias_NRO: Tensor | None,
        tangents_NBRI: Tensor | None,
        weight_NOI: Tensor,
        gate_NBO: Tensor | None,
    ) -> Tensor:
        """Return x W'^T + b' + x' W^T, (N, B, R, O); without tangents, those of the network's inputs."""
        ...

    def add(
        self,
        sums: Sums,
        grad_tangents_NBRO: Tensor,
        inputs_NBI: Tensor,
        grad_NBO: Tensor | None,
        tangents_NBRI: Tensor | None,
        *,
        bias: bool,
        into: tuple[Tensor, Tensor | None] | None = None,
    ) -> Sums:
        """Add g'^T x + g^T x', and the sum of g' where there is a bias; `None` is the empty sum.

        `into` is where `collect` will be told to write, (N, R, O, I) and (N, R, O): sums may be put there.
        """
        ...

    def backward(
        self,
        grad_tangents_NBRO: Tensor,
        weight_NOI: Tensor,
        grad_NBO: Tensor | None,
        matrices: Matrices,
        gate_NBI: Tensor | None,
    ) -> Tensor:
        """Return g' W + g W', (N, B, R, I)."""
        ...

    def collect(self, sums: Sums, weight_NROI: Tensor, bias_NRO: Tensor | None) -> None:
        """Write the sums."""
        ...


@dataclass(frozen=True, slots=True)
class _Matrices:
    """W' as (N, R O, I), and as (N, O, R I) for all but a first layer."""

    forward: Tensor
    backward: Tensor | None
    count: int


@dataclass(slots=True)
class _Sums:
    """From g', (N, R O, I); from x', (N, O, R I), `None` for first layers and Gauss-Newton products; of b."""

    weight: Tensor | None = None
    mixed: Tensor | None = None
    bias: Tensor | None = None


class LibraryProducts:
    """Batched products of torch: as few and as large ones as there can be."""

    def outputs(self, inputs_NBI: Tensor, weight_NOI: Tensor, bias_NO: Tensor | None) -> Tensor:
        """See `DenseProducts`."""
        if bias_NO is None:
            return torch.bmm(inputs_NBI, weight_NOI.mT)
        return torch.baddbmm(bias_NO.unsqueeze(1), inputs_NBI, weight_NOI.mT)

    def gradient(self, grad_NBO: Tensor, inputs_NBI: Tensor, into_NOI: Tensor) -> None:
        """See `DenseProducts`."""
        if into_NOI.device.type == "cpu":
            # Of its own: on a CPU the bits of a product may depend on where its result begins.
            into_NOI.copy_(torch.bmm(grad_NBO.mT, inputs_NBI))
        else:
            torch.bmm(grad_NBO.mT, inputs_NBI, out=into_NOI)

    def stack(self, directions_NROI: Tensor, *, need_input: bool) -> Matrices:
        """Lay the directions out as matrices, once beside the outputs and once beside the inputs."""
        lanes, count, outputs, inputs = directions_NROI.shape
        across = directions_NROI.transpose(1, 2)
        return _Matrices(
            forward=directions_NROI.reshape(lanes, count * outputs, inputs),
            backward=across.reshape(lanes, outputs, -1) if need_input else None,
            count=count,
        )

    def tangent(
        self,
        inputs_NBI: Tensor,
        matrices: Matrices,
        bias_NRO: Tensor | None,
        tangents_NBRI: Tensor | None,
        weight_NOI: Tensor,
        gate_NBO: Tensor | None,
    ) -> Tensor:
        """See `DenseProducts`."""
        lanes, batch = inputs_NBI.shape[:2]
        outputs, inputs = weight_NOI.shape[1:]
        if bias_NRO is None:
            out = torch.bmm(inputs_NBI, matrices.forward.mT)
        else:
            out = torch.baddbmm(bias_NRO.reshape(lanes, 1, -1), inputs_NBI, matrices.forward.mT)
        out = out.view(lanes, batch * matrices.count, outputs)
        if tangents_NBRI is not None:
            out.baddbmm_(tangents_NBRI.reshape(lanes, batch * matrices.count, inputs), weight_NOI.mT)
        return _gated(out.view(lanes, batch, matrices.count, outputs), gate_NBO)

    def add(
        self,
        sums: Sums,
        grad_tangents_NBRO: Tensor,
        inputs_NBI: Tensor,
        grad_NBO: Tensor | None,
        tangents_NBRI: Tensor | None,
        *,
        bias: bool,
        into: tuple[Tensor, Tensor | None] | None = None,
    ) -> Sums:
        """See `DenseProducts`."""
        added = _Sums() if sums is None else sums
        added.weight = _plus_product(added.weight, grad_tangents_NBRO.flatten(2).mT, inputs_NBI)
        if grad_NBO is not None and tangents_NBRI is not None:
            added.mixed = _plus_product(added.mixed, grad_NBO.mT, tangents_NBRI.flatten(2))
        if bias:
            more = grad_tangents_NBRO.sum(1)
            added.bias = more if added.bias is None else added.bias.add_(more)
        return added

    def backward(
        self,
        grad_tangents_NBRO: Tensor,
        weight_NOI: Tensor,
        grad_NBO: Tensor | None,
        matrices: Matrices,
        gate_NBI: Tensor | None,
    ) -> Tensor:
        """See `DenseProducts`."""
        lanes, batch, count, outputs = grad_tangents_NBRO.shape
        flat = grad_tangents_NBRO.reshape(lanes, batch * count, outputs)
        result = torch.bmm(flat, weight_NOI).view(lanes, batch, -1)
        if grad_NBO is not None:
            result.baddbmm_(grad_NBO, matrices.backward)
        return _gated(result.view(lanes, batch, count, -1), gate_NBI)

    def collect(self, sums: Sums, weight_NROI: Tensor, bias_NRO: Tensor | None) -> None:
        """See `DenseProducts`."""
        _, count, outputs, inputs = weight_NROI.shape
        rows = sums.weight.unflatten(1, (count, outputs))
        if sums.mixed is None:
            weight_NROI.copy_(rows)
        else:
            torch.add(rows, sums.mixed.unflatten(2, (count, inputs)).transpose(1, 2), out=weight_NROI)
        if bias_NRO is not None:
            bias_NRO.copy_(sums.bias)


def _gated(tangents_NBRF: Tensor, gate_NBF: Tensor | None) -> Tensor:
    """Return the tangents times the gate, in their place: new memory costs more."""
    return tangents_NBRF if gate_NBF is None else tangents_NBRF.mul_(gate_NBF.unsqueeze(2))


def _plus_product(total: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
    """Return left right + total, in the place of total."""
    return torch.bmm(left, right) if total is None else total.baddbmm_(left, right)


LIBRARY = LibraryProducts()


def products_for(tensor: Tensor) -> DenseProducts:
    """Return what is fastest for tensors like this one."""
    if not kernels.serve(tensor):
        return LIBRARY
    from trainers.kernels.dense import TENSOR_CORES

    return TENSOR_CORES
