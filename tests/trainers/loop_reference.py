"""A cell's loss, gradient and dense Hessian for training loops that are written out by hand."""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tests.trainers.small_cells import SIDE
from trainers.cell import Cell
from trainers.data import Dataset
from trainers.models import MODELS
from trainers.objective import initial_parameters
from trainers.randomness import epoch_order, holdout_indices


class Reference:
    """A cell's loss, gradient and dense Hessian by plain autograd, in float64."""

    def __init__(self, cell: Cell, data: Dataset) -> None:
        entry = MODELS[cell.model.name]
        options = cell.model.resolve("model", entry.options)

        def build() -> nn.Module:
            return entry.build((1, SIDE, SIDE), 10, options)

        self.module = build().double()
        self.params = initial_parameters(build, init=cell.init, seed=cell.seed).double()
        self.data, self.cell = data, cell

    def loss(self, params: Tensor, indices: Tensor) -> Tensor:
        named, offset = {}, 0
        for name, parameter in self.module.named_parameters():
            named[name] = params[offset : offset + parameter.numel()].view(parameter.shape)
            offset += parameter.numel()
        outputs = functional_call(self.module, named, (self.data.train_inputs[indices],))
        targets = nn.functional.one_hot(self.data.train_labels[indices], 10).double()
        return 0.5 * (outputs - targets).square().sum() / len(indices)

    def batch(self, step: int) -> Tensor:
        per_epoch = 5000 // self.cell.batch_size
        epoch, number = divmod(step, per_epoch)
        order = epoch_order(self.cell.seed, epoch, 5000)
        return order[number * self.cell.batch_size : (number + 1) * self.cell.batch_size]

    def projector(self, k: int) -> Tensor:
        holdout = holdout_indices(self.cell.holdout_seed, self.cell.holdout_size or 5000, 5000)
        basis = torch.linalg.eigh(self.hessian(holdout))[1][:, -k:]
        return basis @ basis.T

    def hessian(self, indices: Tensor) -> Tensor:
        """The dense Hessian of the mean loss over some examples, at the present weights."""
        return torch.func.hessian(self.loss)(self.params, indices)

    def gauss_newton(self, indices: Tensor) -> Tensor:
        """J^T J / n: the outer-product Hessian of half the squared error."""

        def outputs(params: Tensor) -> Tensor:
            named, offset = {}, 0
            for name, parameter in self.module.named_parameters():
                named[name] = params[offset : offset + parameter.numel()].view(parameter.shape)
                offset += parameter.numel()
            return functional_call(self.module, named, (self.data.train_inputs[indices],)).flatten()

        jacobian = torch.func.jacrev(outputs)(self.params)
        return jacobian.T @ jacobian / len(indices)

    def gradient(self, step: int | None) -> Tensor:
        """The gradient of the minibatch of a step, or of the whole training set."""
        indices = torch.arange(5000) if step is None else self.batch(step)
        return torch.func.grad(self.loss)(self.params, indices)
