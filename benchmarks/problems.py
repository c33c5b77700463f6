"""The problems of the eigenspace benchmark: a network on a trajectory, its holdout, and the exact answer.

Every solver sees the same weights, examples and loss. The float64 side is for references only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse.linalg as sparse
import torch
from torch import Tensor, nn

from benchmarks.synthetic import cifar_shaped
from trainers.coordinates import Coordinates
from trainers.data import DATASETS, Dataset
from trainers.losses import LOSSES
from trainers.models import MODELS
from trainers.objective import CurvatureProduct, build_objective, initial_parameters
from trainers.options import Choice
from trainers.randomness import epoch_order, holdout_indices

BATCH, WARM_UP, LR = 50, 100, 0.05
REFERENCE_TOLERANCE = 1e-9

MODEL_CHOICES = {
    "mlp100-relu": Choice.of("mlp", widths=(100, 100), activation="relu"),
    "mlp200-tanh": Choice.of("mlp", widths=(200, 200), activation="tanh"),
    "cnn": Choice.of("cnn"),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One configuration of the benchmark."""

    model: str
    data: str
    holdout_size: int
    k: int
    period: int
    optimizer: str

    @property
    def key(self) -> str:
        return f"{self.data}/{self.model}/l={self.holdout_size}/k={self.k}/T={self.period}/{self.optimizer}"


def all_rows() -> list[Row]:
    """The whole matrix, the row that the targets name first."""
    rows = [
        Row(model=model, data="mnist-5k", holdout_size=size, k=k, period=period, optimizer=optimizer)
        for size in (500, 5000)
        for model in MODEL_CHOICES
        for k in (10, 1, 20)
        for period in (10, 1)
        for optimizer in ("sgd", "bulk")
    ]
    cifar = [
        Row(
            model="mlp100-relu",
            data="cifar-shaped",
            holdout_size=200,
            k=k,
            period=period,
            optimizer=optimizer,
        )
        for k in (10, 1, 20)
        for period in (10, 1)
        for optimizer in ("sgd", "bulk")
    ]
    small = [row for row in rows if row.holdout_size == 500]
    return [*small[:12], *cifar, *small[12:], *rows[len(small) :]]


def load(name: str) -> Dataset:
    if name == "cifar-shaped":
        return cifar_shaped()
    return DATASETS[name].load(Path("data"), {"normalize": "scale"})


class Problem:
    """A row's network, data and trajectory."""

    def __init__(self, row: Row, device: str) -> None:
        data = load(row.data)
        choice = MODEL_CHOICES[row.model]
        entry = MODELS[choice.name]
        options = choice.resolve("model", entry.options)
        shape = tuple(data.train_inputs.shape[1:])

        def build() -> nn.Module:
            return entry.build(shape, data.num_outputs, options)

        loss = LOSSES["mse"].build({"scale": "half_sum"})
        self.row, self.device = row, device
        self.inputs = data.train_inputs.to(device)
        self.targets = nn.functional.one_hot(data.train_labels, data.num_outputs).float().to(device)
        self.module = build().to(device)
        self.objective = build_objective(build().to(device), loss, shape)
        self._exact = build_objective(build().to(device).double(), loss, shape)
        self.params = initial_parameters(build, init="pytorch", seed=0).unsqueeze(0).to(device)
        chosen = holdout_indices(0, row.holdout_size, len(self.inputs)).to(device)
        self.holdout = self.inputs[chosen], self.targets[chosen]
        self.coordinates = self.objective.coordinates(self.holdout[0])
        self.step = 0

    @property
    def num_params(self) -> int:
        return self.params.shape[1]

    def curvature(
        self, coordinates: Coordinates | None = None, params: Tensor | None = None
    ) -> CurvatureProduct:
        """The project's own product, at the current weights unless others are given."""
        inputs, targets = self.holdout
        return self.objective.curvature(
            self.params if params is None else params,
            inputs.unsqueeze(0),
            targets.unsqueeze(0),
            coordinates=coordinates,
        )

    def gradient(self) -> Tensor:
        """The minibatch gradient of the coming step, (P,)."""
        epoch, number = divmod(self.step, len(self.inputs) // BATCH)
        batch = epoch_order(0, epoch, len(self.inputs))[number * BATCH : (number + 1) * BATCH].to(self.device)
        inputs, targets = self.inputs[batch].unsqueeze(0), self.targets[batch].unsqueeze(0)
        return self.objective.loss_and_gradient(self.params, inputs, targets)[1][0]

    def advance(self, steps: int, basis_KP: Tensor | None) -> None:
        """Take steps of SGD, or of Bulk-SGD with this Dominant basis."""
        for _ in range(steps):
            gradient = self.gradient()
            if basis_KP is not None:
                gradient = gradient - basis_KP.T @ (basis_KP @ gradient)
            self.params = self.params - LR * gradient
            self.step += 1

    def set_module(self) -> None:
        """Put the current weights into the plain module, for peers that want one."""
        with torch.no_grad():
            nn.utils.vector_to_parameters(self.params[0].clone(), self.module.parameters())

    def reference(self, start_P: Tensor) -> Tensor:
        """The exact basis (K, P), float64 ARPACK from any start vector."""
        inputs, targets = self.holdout
        product = self._exact.curvature(
            self.params.double(), inputs.double().unsqueeze(0), targets.double().unsqueeze(0)
        )

        def multiply(vector: np.ndarray) -> np.ndarray:
            column = torch.tensor(vector.reshape(1, 1, -1), dtype=torch.float64, device=self.device)
            return product(column).view(-1).cpu().numpy()

        operator = sparse.LinearOperator(
            (self.num_params, self.num_params), matvec=multiply, dtype=np.float64
        )
        vectors = sparse.eigsh(
            operator,
            k=self.row.k,
            which="LA",
            tol=REFERENCE_TOLERANCE,
            ncv=max(3 * self.row.k, 40),
            v0=start_P.double().cpu().numpy(),
        )[1]
        return torch.from_numpy(vectors.copy()).T


@dataclass(frozen=True, kw_only=True)
class Error:
    """How far a basis is from the exact one.

    Args:
        projected: Norm of the projected gradient's error, relative to the projected gradient. Where a
            gradient has next to nothing in the subspace this is large for any basis.
        whole: The same, relative to the whole gradient: what it makes of a step. At most `angle`.
        angle: Sine of the largest principal angle.
    """

    projected: float
    whole: float
    angle: float


def error_of(basis_KP: Tensor, exact_KP: Tensor, gradient_P: Tensor) -> Error:
    gradient = gradient_P.double().cpu()
    basis = torch.linalg.qr(basis_KP.double().cpu().T)[0]
    wanted = exact_KP.T @ (exact_KP @ gradient)
    wrong = (basis @ (basis.T @ gradient) - wanted).norm()
    outside = exact_KP.T - basis @ (basis.T @ exact_KP.T)
    return Error(
        projected=float(wrong / wanted.norm()),
        whole=float(wrong / gradient.norm()),
        angle=float(torch.linalg.matrix_norm(outside, 2)),
    )


def floor_product(row: Row, width: int, device: str) -> Callable[[], None] | None:
    """The matrix products that `benchmarks.floors.flops_a_column` counts, on random numbers.

    Forward along R directions and back: one product each with the first layer's inputs, two each for the
    others, which take four back. `None` for a network that is no MLP.
    """
    if not row.model.startswith("mlp"):
        return None
    inputs = 784 if row.data == "mnist-5k" else 3072
    hidden = 200 if "200" in row.model else 100
    sizes = [inputs, hidden, hidden, 10]
    size = row.holdout_size
    pairs: list[tuple[Tensor, Tensor]] = []
    for index, (fan_in, fan_out) in enumerate(zip(sizes, sizes[1:], strict=False)):
        along = torch.randn(size, fan_in, device=device), torch.randn(fan_in, width * fan_out, device=device)
        back = (
            torch.randn(width * fan_out, size, device=device),
            torch.randn(size, fan_in, device=device),
        )
        pairs += [along, back] if index == 0 else [along, back, along, back]

    places = [left @ right for left, right in pairs]

    def run() -> None:
        for (left, right), place in zip(pairs, places, strict=True):
            torch.matmul(left, right, out=place)

    return run
