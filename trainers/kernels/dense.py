"""The matrix products of a dense layer, of its gradients and of their tangents on tensor cores.

Each result is written once: a second product, a bias and a gate are part of it before it is.

Shape legend: N lanes, B examples, R directions, O outputs, I inputs.
"""

from dataclasses import dataclass

from torch import Tensor

from trainers.kernels.products import fills, halves, multiply, place_sums, sums_over
from trainers.layers.dense_products import LIBRARY, Matrices, Sums


@dataclass(frozen=True, slots=True)
class _Matrices:
    """Halves of W', (2, N, R, O, I), and of its transpose, (2, N, R, I, O), for all but a first layer."""

    forward: Tensor
    backward: Tensor | None


@dataclass(slots=True)
class _Sums:
    """From g', (N, R O, I) and with a bias its sum in column I; from x', (N, R I, O).

    The former is `None` where it lies in its place, and what is here is to be added to what lies there.
    """

    weight: Tensor | None
    mixed: Tensor | None
    placed: bool


class TensorCoreProducts:
    """See `trainers.layers.dense_products.DenseProducts`."""

    def outputs(self, inputs_NBI: Tensor, weight_NOI: Tensor, bias_NO: Tensor | None) -> Tensor:
        """See `DenseProducts`; of few lanes the library's, which cuts sums into parts."""
        lanes, batch = inputs_NBI.shape[:2]
        if not fills(lanes, batch, weight_NOI.shape[1], weight_NOI.device):
            return LIBRARY.outputs(inputs_NBI, weight_NOI, bias_NO)
        out = inputs_NBI.new_empty(lanes, batch, weight_NOI.shape[1])
        pair = inputs_NBI.unsqueeze(1), weight_NOI.unsqueeze(1)
        bias = None if bias_NO is None else bias_NO.unsqueeze(1)
        multiply(out.unsqueeze(1), pair, bias_NRJ=bias)
        return out

    def gradient(self, grad_NBO: Tensor, inputs_NBI: Tensor, into_NOI: Tensor) -> None:
        """See `DenseProducts`; of few lanes the library's."""
        lanes, outputs, inputs = into_NOI.shape
        if not fills(lanes, outputs, inputs, into_NOI.device):
            LIBRARY.gradient(grad_NBO, inputs_NBI, into_NOI)
            return
        multiply(into_NOI.unsqueeze(1), (grad_NBO.contiguous().mT.unsqueeze(1), inputs_NBI.mT.unsqueeze(1)))

    def stack(self, directions_NROI: Tensor, *, need_input: bool) -> Matrices:
        """See `DenseProducts`."""
        backward = halves(directions_NROI.mT) if need_input else None
        return _Matrices(forward=halves(directions_NROI), backward=backward)

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
        forward = matrices.forward
        count, outputs = forward.shape[2:4]
        out = inputs_NBI.new_empty(lanes, batch, count, outputs)
        bias = None if bias_NRO is None else bias_NRO.contiguous()
        if tangents_NBRI is None:
            # One product for all directions.
            pair = inputs_NBI.unsqueeze(1), forward.flatten(2, 3).unsqueeze(2)
            bias = None if bias is None else bias.flatten(1).unsqueeze(1)
            multiply(out.flatten(2).unsqueeze(1), pair, bias_NRJ=bias, scale_NMS=gate_NBO)
            return out
        weight = halves(weight_NOI).unsqueeze(2).expand_as(forward)
        multiply(
            out.transpose(1, 2),
            (inputs_NBI.unsqueeze(1).expand(-1, count, -1, -1), forward),
            (tangents_NBRI.transpose(1, 2), weight),
            bias_NRJ=bias,
            scale_NMS=gate_NBO,
        )
        return out

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
        both = grad_tangents_NBRO.flatten(2), inputs_NBI
        weight = mixed = None
        if sums is not None or into is None or not place_sums(*both, *into):
            weight = sums_over(*both, plain_too=bias)
        if grad_NBO is not None and tangents_NBRI is not None:
            mixed = sums_over(tangents_NBRI.flatten(2), grad_NBO)
        if sums is None:
            return _Sums(weight=weight, mixed=mixed, placed=weight is None)
        assert weight is not None, "only the first chunk is put in its place"
        sums.weight = weight if sums.weight is None else sums.weight.add_(weight)
        if mixed is not None:
            sums.mixed.add_(mixed)
        return sums

    def backward(
        self,
        grad_tangents_NBRO: Tensor,
        weight_NOI: Tensor,
        grad_NBO: Tensor | None,
        matrices: Matrices,
        gate_NBI: Tensor | None,
    ) -> Tensor:
        """See `DenseProducts`."""
        lanes, batch, count = grad_tangents_NBRO.shape[:3]
        out = grad_tangents_NBRO.new_empty(lanes, batch, count, weight_NOI.shape[2])
        weight = halves(weight_NOI.mT).unsqueeze(2).expand(-1, -1, count, -1, -1)
        second = None
        if grad_NBO is not None:
            grads = grad_NBO.contiguous().unsqueeze(1).expand(-1, count, -1, -1)
            second = grads, matrices.backward
        pair = grad_tangents_NBRO.transpose(1, 2), weight
        multiply(out.transpose(1, 2), pair, second, scale_NMS=gate_NBI)
        return out

    def collect(self, sums: Sums, weight_NROI: Tensor, bias_NRO: Tensor | None) -> None:
        """See `DenseProducts`."""
        _, count, outputs, inputs = weight_NROI.shape
        put = Tensor.add_ if sums.placed else Tensor.copy_
        if sums.weight is not None:
            both = sums.weight.unflatten(1, (count, outputs))
            put(weight_NROI, both[..., :inputs])
            if bias_NRO is not None:
                put(bias_NRO, both[..., inputs])
        if sums.mixed is not None:
            weight_NROI.add_(sums.mixed.unflatten(1, (count, inputs)).mT)


TENSOR_CORES = TensorCoreProducts()
