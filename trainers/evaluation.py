"""Full-data measurements: training loss and gradient, test accuracy. Chunked over examples.

Shape legend: N lanes, P parameters, B examples of a chunk, C outputs.
"""

import torch
from torch import Tensor

from trainers.losses import Loss
from trainers.models.dropout import DrawMasks
from trainers.models.normalization import NORMALIZED_EXAMPLES
from trainers.objective import Objective

ACTIVATION_ELEMENTS = 2**24
"""Bound on the elements of a chunk's inputs times 32, a stand-in for its activations."""


def chunk_size(num_examples: int, num_inputs: int) -> int:
    """Return how many examples are measured at a time, which may be more than there are.

    Args:
        num_examples: Of the split.
        num_inputs: Elements of one example.
    """
    size = min(num_examples, ACTIVATION_ELEMENTS // (32 * num_inputs))
    # Batch normalisation cuts a pass into pieces; chunks must not cut it elsewhere.
    return max(size - size % NORMALIZED_EXAMPLES, NORMALIZED_EXAMPLES)


class Split:
    """One split of a data set on the device, shared by all lanes.

    Args:
        inputs: (n, *X).
        labels: (n,) int64 classes, or (n, C) regression targets.
        num_outputs: C.
        dtype: Floating point type of the computation.
        device: Where it lives.
    """

    def __init__(
        self, inputs: Tensor, labels: Tensor, num_outputs: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.inputs = inputs.to(device=device, dtype=dtype)
        self.labels = labels.to(device)
        self.classifies = labels.dim() == 1
        targets = torch.nn.functional.one_hot(labels, num_outputs) if labels.dim() == 1 else labels
        self.targets = targets.to(device=device, dtype=dtype)

    def __len__(self) -> int:
        return len(self.inputs)

    def chunks(self) -> list[slice]:
        """Return slices of the examples whose activations fit the budget: a function of shapes alone."""
        size = chunk_size(len(self), self.inputs[0].numel())
        return [slice(start, min(start + size, len(self))) for start in range(0, len(self), size)]

    def lanes(self, chunk: slice, lanes: int) -> tuple[Tensor, Tensor]:
        """Return a chunk's inputs (N, B, *X) and targets (N, B, C), the same for every lane, uncopied."""
        inputs, targets = self.inputs[chunk], self.targets[chunk]
        return inputs.expand(lanes, *inputs.shape), targets.expand(lanes, *targets.shape)

    def select(self, indices_NB: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inputs (N, B, *X) and targets (N, B, C) of each lane's examples."""
        return self.inputs[indices_NB], self.targets[indices_NB]


def loss_and_gradient(
    objective: Objective, params_NP: Tensor, split: Split, draw_masks: DrawMasks | None = None
) -> tuple[Tensor, Tensor]:
    """Return the mean loss (N,) and its gradient (N, P) over a whole split; with masks for a step."""
    lanes = params_NP.shape[0]
    loss = params_NP.new_zeros(lanes, dtype=torch.float64)
    gradient = torch.zeros_like(params_NP)
    for chunk in split.chunks():
        inputs, targets = split.lanes(chunk, lanes)
        masks = draw_masks(inputs.shape[1]) if draw_masks is not None else None
        value, part = objective.loss_and_gradient(params_NP, inputs, targets, masks)
        share = (chunk.stop - chunk.start) / len(split)
        loss += value.double() * share
        gradient.add_(part, alpha=share)
    return loss, gradient


def mean_loss(objective: Objective, params_NP: Tensor, split: Split, loss: Loss) -> Tensor:
    """Return the mean loss of each lane over a whole split, (N,) float64, without the gradient."""
    lanes = params_NP.shape[0]
    total = params_NP.new_zeros(lanes, dtype=torch.float64)
    for chunk in split.chunks():
        inputs, targets = split.lanes(chunk, lanes)
        share = (chunk.stop - chunk.start) / len(split)
        total += loss.value(objective.outputs(params_NP, inputs), targets).double() * share
    return total


def accuracy(objective: Objective, params_NP: Tensor, split: Split) -> Tensor:
    """Return the share of right answers of each lane, (N,) float64; NaN where an output is not finite.

    For a split that classifies.
    """
    lanes = params_NP.shape[0]
    right = params_NP.new_zeros(lanes, dtype=torch.float64)
    for chunk in split.chunks():
        inputs, _ = split.lanes(chunk, lanes)
        outputs = objective.outputs(params_NP, inputs)
        hits = (outputs.argmax(-1) == split.labels[chunk]).sum(-1).double()
        right += torch.where(outputs.isfinite().all(-1).all(-1), hits, torch.nan)
    return right / len(split)
