"""Small problems in float64 with their dense Hessians, for every test that needs an exact reference."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from trainers.losses import LOSSES, Loss


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A small network, a loss and data for two lanes."""

    module: nn.Module
    loss: Loss
    params_NP: Tensor
    inputs_NBX: Tensor
    targets_NBC: Tensor

    @property
    def input_shape(self) -> torch.Size:
        return self.inputs_NBX.shape[2:]

    def mean_loss(self, params_P: Tensor, lane: int) -> Tensor:
        """The loss written the plain way, independent of the project's objectives."""
        named: dict[str, Tensor] = {}
        offset = 0
        for name, parameter in self.module.named_parameters():
            named[name] = params_P[offset : offset + parameter.numel()].view(parameter.shape)
            offset += parameter.numel()
        outputs = functional_call(self.module, named, (self.inputs_NBX[lane],))
        targets = self.targets_NBC[lane]
        if self.loss == LOSSES["mse"].build({"scale": "half_sum"}):
            return 0.5 * ((outputs - targets) ** 2).sum() / outputs.shape[0]
        return torch.nn.functional.cross_entropy(outputs, targets.argmax(-1))

    def gradient(self, lane: int) -> Tensor:
        return torch.func.grad(self.mean_loss)(self.params_NP[lane], lane)

    def hessian(self, lane: int) -> Tensor:
        return torch.func.hessian(self.mean_loss)(self.params_NP[lane], lane)


MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp-relu": (
        lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)
        ),
        (2, 3),
    ),
    "mlp-tanh": (
        lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)),
        (6,),
    ),
    "mlp-gelu": (lambda: nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 3)), (6,)),
    "mlp-softplus": (
        lambda: nn.Sequential(nn.Linear(6, 5, bias=False), nn.Softplus(), nn.Linear(5, 3)),
        (6,),
    ),
    "softmax": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 3)), (6,)),
    "cnn-relu": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(3, 2, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2, 3),
        ),
        (2, 5, 5),
    ),
    "cnn-tanh": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 2, 3),
            nn.Tanh(),
            nn.Conv2d(2, 2, 3, padding=1, bias=False),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(8, 3),
        ),
        (1, 4, 4),
    ),
    "cnn-softplus": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, 3, bias=False),
            nn.Softplus(),
            nn.MaxPool2d(2),
            nn.Conv2d(3, 2, 1),
            nn.Tanh(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2, 3),
        ),
        (2, 6, 7),
    ),
    "cnn-gelu-large-patches": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 2, 3, padding=1), nn.GELU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3)
        ),
        (4, 4, 4),
    ),
    "cnn-pooled-first": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Tanh(), nn.Flatten(), nn.ReLU(), nn.Linear(2, 3)
        ),
        (1, 4, 4),
    ),
    "cnn-activated-after-pooling": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 2, 3),
            nn.Tanh(),
            nn.MaxPool2d(2),
            nn.Softplus(),
            nn.Conv2d(2, 2, 1),
            nn.Softplus(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Tanh(),
            nn.Linear(2, 3),
        ),
        (1, 6, 6),
    ),
    "activations-in-a-row": (
        lambda: nn.Sequential(
            nn.Linear(6, 5), nn.Tanh(), nn.Softplus(), nn.Flatten(), nn.ReLU(), nn.GELU(), nn.Linear(5, 3)
        ),
        (6,),
    ),
}


def build_problem(module: str, loss: str, *, lanes: int = 2, batch: int = 7) -> Problem:
    """Build a problem with fixed random data; parameters are large enough for all terms to matter."""
    build, shape = MODULES[module]
    generator = torch.Generator().manual_seed(5)
    network = build().double()
    size = sum(parameter.numel() for parameter in network.parameters())
    labels = torch.randint(0, 3, (lanes, batch), generator=generator)
    options = {"scale": "half_sum"} if loss == "mse" else {}
    return Problem(
        module=network,
        loss=LOSSES[loss].build(options),
        params_NP=torch.randn(lanes, size, generator=generator, dtype=torch.float64) * 0.6,
        inputs_NBX=torch.randn(lanes, batch, *shape, generator=generator, dtype=torch.float64),
        targets_NBC=torch.nn.functional.one_hot(labels, 3).double(),
    )
