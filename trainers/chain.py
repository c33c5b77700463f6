"""A sequential model as a chain of laned layers, and its objective.

Its parameters lie in the order of `module.named_parameters()`, so both objectives read one flat vector.

The Hessian product follows Pearlmutter (1994): differentiate the forward and the backward pass along the
directions. With f the outputs, g the loss gradient in them and A its Hessian in them,

    f' = J v,   g' = A f',   H v = J^T g' + (terms with second derivatives of the layers and g).

Leaving out the latter gives the Gauss-Newton product J^T A J v, and g' = 0 the functional one.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import cast

import torch
from torch import Tensor

from trainers.coordinates import Coordinates, coordinates_of
from trainers.layers import Layer, Saved, Stacked, Sums
from trainers.layers.activation import Activation
from trainers.layers.dense import Dense, Flatten
from trainers.layers.pooled_convolution import PooledConvolution
from trainers.layers.pooling import ActivatedPool, Maxima
from trainers.losses import Loss
from trainers.models.dropout import Masks
from trainers.objective import CurvatureProduct, Part, unheard

TANGENT_BYTES = {"cpu": 40 * 2**20, "cuda": 192 * 2**20}
"""Budget for one lane's tangents of one chunk of examples: what a processor's cache holds much of, and what
fills a GPU. Chunks are a function of one lane's shapes, so that sums do not depend on its neighbours."""

DIRECTIONS = {"cpu": 16, "cuda": 64}
"""Most directions of one pass; more are taken in equal parts. 24 of a wide network at a time are slower on a
processor than 12 and 12, whose tangents a cache holds while all examples share each matrix product."""

SAVED_BYTES = 2 * 2**30
"""Budget for keeping the linearised forward pass of all chunks; beyond it, each product computes it again.
A gradient that would keep more than this is taken in pieces (`trainers.instruments`)."""


@dataclass(frozen=True, slots=True)
class _Linearised:
    """A forward and a backward pass over one chunk, which is a share of all examples, for later products.

    Args:
        saved: By the layers.
        grads: In the layers' outputs.
        gates: Of the activations that the dense layers before and after them apply; `None` for all other
            layers, and one more for where there is none.
        outputs: The network's.
        share: Of all examples.
    """

    saved: list[Saved]
    grads: list[Tensor]
    gates: list[Tensor | None]
    outputs: Tensor
    share: float


@dataclass(frozen=True, slots=True)
class ExampleSizes:
    """Bytes that one example takes in one lane.

    Args:
        tangent_bytes: Of one direction's tangents, forward and back.
        kept_bytes: Of what a linearised pass keeps.
    """

    tangent_bytes: int
    kept_bytes: int

    @property
    def at_once(self) -> int:
        """How many examples one gradient is of at most."""
        return max(1, SAVED_BYTES // self.kept_bytes)

    def chunk(self, examples: int, directions: int, device_type: str) -> int:
        """Return of how many examples at a time a product with so many directions at once is."""
        tangents = examples * directions * self.tangent_bytes
        return -(-examples // -(-tangents // TANGENT_BYTES[device_type]))

    def are_kept(self, examples: int, lanes: int) -> bool:
        """Return whether products keep a linearised pass over so many examples of so many lanes."""
        return self.kept_bytes * examples * lanes <= SAVED_BYTES


class ChainObjective:
    """`Objective` of a chain of laned layers. One pass at a time; not for concurrent use by threads."""

    replayable = True

    def __init__(self, layers: tuple[Layer, ...], loss: Loss, beat: Callable[[], None] = unheard) -> None:
        self.beat = beat
        self._layers = _after_flatten(layers)
        self._flatten_first = len(self._layers) < len(layers)
        self._loss = loss
        self._spans = _spans(self._layers)
        self._reactivated = _reactivated(self._layers)
        self.num_params = self._spans[-1].stop
        self._sizes: dict[torch.Size, ExampleSizes] = {}

    def coordinates(self, inputs_BX: Tensor) -> Coordinates | None:
        """Return coordinates for products on these examples; `None` where they would not be cheaper."""
        first = self._layers[0]
        if not isinstance(first, Dense):
            return None
        return coordinates_of(inputs_BX.flatten(1), num_outputs=first.num_outputs, num_params=self.num_params)

    def _forward(self, params_NP: Tensor, inputs_NBX: Tensor) -> tuple[Tensor, list[Saved]]:
        self.beat()
        values = inputs_NBX.flatten(2) if self._flatten_first else inputs_NBX
        saved: list[Saved] = []
        for layer, span in zip(self._layers, self._spans, strict=True):
            values, kept = layer.forward(params_NP[:, span], values)
            saved.append(kept)
        return values, saved

    @torch.no_grad()
    def outputs(self, params_NP: Tensor, inputs_NBX: Tensor) -> Tensor:
        """Return the model's outputs, (N, B, C)."""
        return self._forward(params_NP, inputs_NBX)[0]

    @torch.no_grad()
    def loss_and_gradient(
        self, params_NP: Tensor, inputs_NBX: Tensor, targets_NBC: Tensor, masks: Masks | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the mean loss of each lane (N,) and its gradient (N, P)."""
        assert not masks, "no layer of a chain is one of dropout"
        values, saved = self._forward(params_NP, inputs_NBX)
        grad, whole = self._loss.gradient(values, targets_NBC), torch.empty_like(params_NP)
        for index in reversed(range(len(self._layers))):
            span = self._spans[index]
            at = params_NP[:, span], saved[index], grad
            self._layers[index].gradient(*at, whole[:, span])
            if index > 0:
                grad = self._layers[index].backward(*at)
        return self._loss.value(values, targets_NBC), whole

    def examples_at_once(self, params_NP: Tensor, inputs_NBX: Tensor) -> int:
        """Return how many examples like these one gradient may be of: as many as `SAVED_BYTES` hold."""
        return self._example_sizes(params_NP, inputs_NBX).at_once

    def _linearise(
        self, params_NP: Tensor, inputs_NBX: Tensor, targets_NBC: Tensor, share: float
    ) -> _Linearised:
        """Return a pass over one chunk, its gradients times the chunk's share of the examples."""
        outputs, saved = self._forward(params_NP, inputs_NBX)
        grad = self._loss.gradient(outputs, targets_NBC)
        if share != 1:
            grad.mul_(share)
        grads = [grad]
        for index in reversed(range(1, len(self._layers))):
            grad = self._layers[index].backward(params_NP[:, self._spans[index]], saved[index], grad)
            grads.append(grad)
        return _Linearised(
            saved=saved, grads=grads[::-1], gates=self._gates(saved), outputs=outputs, share=share
        )

    def _gates(self, saved: list[Saved]) -> list[Tensor | None]:
        """Return what the tangents of an activation between two dense layers are multiplied by."""
        gates: list[Tensor | None] = [None] * (len(self._layers) + 1)
        for index, layer in enumerate(self._layers[1:-1], 1):
            around = self._layers[index - 1], self._layers[index + 1]
            if isinstance(layer, Activation) and all(isinstance(one, Dense) for one in around):
                gates[index] = layer.gate(saved[index])
        return gates

    def _product(
        self,
        layers: Sequence[Layer],
        params_NP: Tensor,
        point: _Linearised,
        stacked: Sequence[Stacked],
        part: Part,
        sums: Sequence[Sums],
        into: Sequence[Tensor],
    ) -> list[Sums]:
        """Return each layer's `sums` with this chunk's product, times its share of the examples."""
        self.beat()
        tangents: Tensor | None = None
        kept: list[Saved] = []
        for index, (layer, span) in enumerate(zip(layers, self._spans, strict=True)):
            if tangents is not None and self._reactivated[index]:
                tangents = tangents.clone()
            at = params_NP[:, span], point.saved[index], stacked[index], tangents
            if point.gates[index] is not None:
                kept.append(None)
                continue
            if isinstance(layer, Dense):
                tangents, tangent_saved = layer.tangent(*at, gate=point.gates[index + 1])
            else:
                tangents, tangent_saved = layer.tangent(*at)
            kept.append(tangent_saved)
        assert tangents is not None
        if part == "functional":
            back: Tensor | None = torch.zeros_like(tangents)
        else:
            outward = self._loss.output_hessian(point.outputs, tangents.transpose(1, 2))
            back = outward.transpose(1, 2).contiguous()
            if point.share != 1:
                back.mul_(point.share)
        added: list[Sums] = []
        for index in reversed(range(len(layers))):
            layer = layers[index]
            if point.gates[index] is not None:
                added.append(None)
                continue
            assert back is not None
            at = (
                params_NP[:, self._spans[index]],
                point.saved[index],
                stacked[index],
                kept[index],
                None if part == "gauss_newton" else point.grads[index],
                back,
                sums[index],
            )
            if isinstance(layer, Dense):
                gate = point.gates[index - 1] if index else None
                total, back = layer.backward_tangent(
                    *at, need_input=index > 0, gate=gate, into_NRQ=into[index]
                )
            else:
                total, back = layer.backward_tangent(*at, need_input=index > 0)
            added.append(total)
        return added[::-1]

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
        """Linearise at `params_NP` once and return the product with the Hessian of the mean loss.

        Args:
            params_NP: Weights.
            inputs_NBX: Examples.
            targets_NBC: Their targets.
            part: Which part of the Hessian.
            coordinates: What `coordinates` has returned for these examples, the same for all lanes;
                directions and products are then in them.
        """
        params_NP = params_NP.clone()
        lanes, total = inputs_NBX.shape[:2]
        sizes = self._example_sizes(params_NP, inputs_NBX)
        keep = sizes.are_kept(total, lanes)
        layers = self._layers
        if coordinates is not None:
            first = cast(Dense, layers[0])
            layers = (Dense(coordinates.inputs_BS.shape[1], first.num_outputs, first.bias), *layers[1:])
        spans = _spans(layers)
        points: dict[int, _Linearised] = {}

        def linearised(chunk: slice) -> _Linearised:
            size = chunk.stop - chunk.start
            point = points.get(chunk.start)
            if point is not None and point.outputs.shape[1] == size:
                return point
            point = self._linearise(params_NP, inputs_NBX[:, chunk], targets_NBC[:, chunk], size / total)
            if coordinates is not None:
                point.saved[0] = coordinates.inputs_BS[chunk].expand(lanes, -1, -1)
            if keep:
                points[chunk.start] = point
            return point

        @torch.no_grad()
        def product(directions_NRD: Tensor, /, into_NRP: Tensor | None = None) -> Tensor:
            device, total_directions = params_NP.device.type, directions_NRD.shape[1]
            num_directions = directions_at_once(total_directions, device)
            size = sizes.chunk(total, num_directions, device)
            result = torch.empty_like(directions_NRD) if into_NRP is None else into_NRP
            for first in range(0, total_directions, num_directions):
                rows = slice(first, first + num_directions)
                stacked = [
                    layer.stack(directions_NRD[:, rows, span], need_input=index > 0)
                    for index, (layer, span) in enumerate(zip(layers, spans, strict=True))
                ]
                into = [result[:, rows, span] for span in spans]
                sums: list[Sums] = [None] * len(layers)
                for start in range(0, total, size):
                    chunk = slice(start, min(total, start + size))
                    sums = self._product(layers, params_NP, linearised(chunk), stacked, part, sums, into)
                for layer, of_layer, where in zip(layers, sums, into, strict=True):
                    layer.collect(of_layer, where)
            return result

        return product

    def _example_sizes(self, params_NP: Tensor, inputs_NBX: Tensor) -> ExampleSizes:
        shape = inputs_NBX.shape[2:]
        if shape not in self._sizes:
            self._sizes[shape] = example_sizes(self._layers, params_NP[:1], inputs_NBX[:1, :1])
        return self._sizes[shape]


@torch.no_grad()
def example_sizes(layers: Sequence[Layer], params_1P: Tensor, inputs_11X: Tensor) -> ExampleSizes:
    """Return what one example of one lane takes, with or without a leading `Flatten`."""
    values = inputs_11X.flatten(2) if isinstance(layers[0], (Flatten, Dense)) else inputs_11X
    layers = _after_flatten(layers)
    tangents, kept = 0, list[Tensor]()
    for layer, span in zip(layers, _spans(layers), strict=True):
        values, saved = layer.forward(params_1P[:, span], values)
        tangents += 2 * values.nbytes
        kept += _tensors_in(saved)
    # Layers share what they save: all of it is there now, and nothing has taken another's place in memory.
    sizes = {tensor.untyped_storage().data_ptr(): tensor.nbytes for tensor in kept}
    # A gradient of each output besides, which is half of the tangents.
    return ExampleSizes(tangent_bytes=tangents, kept_bytes=sum(sizes.values()) + tangents // 2)


def _tensors_in(saved: Saved) -> Iterator[Tensor]:
    match saved:
        case Tensor():
            yield saved
        case Maxima():
            yield saved.indices
        case tuple():
            for part in cast("tuple[Saved, ...]", saved):
                yield from _tensors_in(part)
        case _:
            return


def _reactivated(layers: Sequence[Layer]) -> list[bool]:
    """Return which layers are activations of one, pooled or not, whose tangents they would overwrite."""
    activations = (Activation, ActivatedPool, PooledConvolution)
    found: list[bool] = []
    before: Layer | None = None
    for layer in layers:
        found.append(isinstance(layer, Activation) and isinstance(before, activations))
        before = before if isinstance(layer, Flatten) else layer
    return found


def directions_at_once(total: int, device_type: str) -> int:
    """Return how many of some directions one pass takes: equal parts of at most `DIRECTIONS`."""
    return -(-total // -(-total // DIRECTIONS[device_type]))


def _after_flatten(layers: Sequence[Layer]) -> Sequence[Layer]:
    """Return the layers without a leading `Flatten`, which has nothing to do for inputs that are flat."""
    return layers[1:] if isinstance(layers[0], Flatten) else layers


def _spans(layers: Sequence[Layer]) -> list[slice]:
    """Return where each layer's parameters lie in the flat vector."""
    stops = list(accumulate(layer.num_params for layer in layers))
    return [slice(stop - layer.num_params, stop) for layer, stop in zip(layers, stops, strict=True)]
