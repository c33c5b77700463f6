"""One refresh of the Dominant subspace along a real trajectory: the tracker against ARPACK, at equal error.

    python -m benchmarks.eigenspace_refresh [--refreshes 20] [--threads 2]

MNIST-5k, MLP 100-100 ReLU, SGD or Bulk-SGD at lr 0.05, T = 10. At every refresh all solvers see the same
weights, one after the other in one process; their error is that of the projected minibatch gradient against
float64 ARPACK. Each peer's tolerance is the loosest at which its median error over the first refreshes is not
above the tracker's.
Prints a table (medians) and writes JSON with the environment to `benchmarks/results/`.
"""

import argparse
import json
import math
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import scipy
import scipy.sparse.linalg as sparse
import torch
from torch import Tensor

from trainers.data import DATASETS
from trainers.eigenspace import Warm, block_width, refresh
from trainers.losses import LOSSES
from trainers.models import MODELS
from trainers.objective import Objective, build_objective, initial_parameters
from trainers.randomness import epoch_order, holdout_indices

LR, PERIOD, BATCH, WARM_UP = 0.05, 10, 50, 100
TRACKER_TOLERANCE = 5e-2
PEER_TOLERANCES = (3e-1, 1e-1, 3e-2, 1e-2, 3e-3, 1e-3)
TUNING_REFRESHES = 4
RESULTS = Path(__file__).parent / "results"


@dataclass
class Measured:
    """What one solver did, a value per refresh."""

    seconds: list[float] = field(default_factory=list[float])
    products: list[int] = field(default_factory=list[int])
    errors: list[float] = field(default_factory=list[float])

    def summary(self) -> dict[str, float]:
        return {
            "milliseconds": 1e3 * statistics.median(self.seconds),
            "products": statistics.median(self.products),
            "error_median": statistics.median(self.errors),
            "error_p90": float(np.quantile(self.errors, 0.9)),
        }


class Setting:
    """The problem: data, model, holdout, in float32 and float64."""

    def __init__(self, holdout_size: int) -> None:
        entry = DATASETS["mnist-5k"]
        data = entry.load(Path("data"), {"normalize": "scale"})
        self.inputs, labels = data.train_inputs, data.train_labels
        self.targets = torch.nn.functional.one_hot(labels, 10).float()
        options = {"widths": (100, 100), "activation": "relu"}

        def build() -> torch.nn.Module:
            return MODELS["mlp"].build((1, 28, 28), 10, options)

        loss = LOSSES["mse"].build({"scale": "half_sum"})
        self.module = build()
        self.objective: Objective = build_objective(build(), loss)
        self.exact: Objective = build_objective(build().double(), loss)
        self.start = initial_parameters(build, init="pytorch", seed=0).unsqueeze(0)
        chosen = holdout_indices(0, holdout_size, len(self.inputs))
        self.holdout = self.inputs[chosen].unsqueeze(0), self.targets[chosen].unsqueeze(0)

    def gradient(self, params: Tensor, step: int) -> Tensor:
        epoch, number = divmod(step, len(self.inputs) // BATCH)
        batch = epoch_order(0, epoch, len(self.inputs))[number * BATCH : (number + 1) * BATCH]
        return self.objective.loss_and_gradient(
            params, self.inputs[batch].unsqueeze(0), self.targets[batch].unsqueeze(0)
        )[1]

    def reference(self, params: Tensor, k: int) -> Tensor:
        """The exact basis (K, P), float64 ARPACK to 1e-10."""
        inputs, targets = self.holdout
        product = self.exact.curvature(params.double(), inputs.double(), targets.double())
        return arpack(lambda v: product(v.view(1, 1, -1)).view(-1), params.shape[1], k, 1e-10, np.float64)[0]

    def autograd_product(self, params: Tensor) -> Callable[[Tensor], Tensor]:
        """Hessian-vector products through a retained gradient graph, as the published codes do."""
        inputs, targets = self.holdout
        leaves, offset = {}, 0
        for name, parameter in self.module.named_parameters():
            part = params[0, offset : offset + parameter.numel()].view(parameter.shape)
            leaves[name] = part.clone().requires_grad_()
            offset += parameter.numel()
        outputs = torch.func.functional_call(self.module, leaves, (inputs[0],))
        loss = 0.5 * (outputs - targets[0]).square().sum() / len(outputs)
        flat = torch.cat(
            [g.reshape(-1) for g in torch.autograd.grad(loss, [*leaves.values()], create_graph=True)]
        )

        def product(vector: Tensor) -> Tensor:
            parts = torch.autograd.grad(flat, [*leaves.values()], vector, retain_graph=True)
            return torch.cat([part.reshape(-1) for part in parts])

        return product


def arpack(
    product: Callable[[Tensor], Tensor], size: int, k: int, tolerance: float, dtype: type = np.float32
) -> tuple[Tensor, int]:
    """Leading eigenvectors (K, P) by SciPy's Lanczos, and the number of products."""
    count = 0

    def multiply(vector: np.ndarray) -> np.ndarray:
        nonlocal count
        count += 1
        return product(torch.from_numpy(np.ascontiguousarray(vector, dtype=dtype).reshape(-1))).numpy()

    operator = sparse.LinearOperator((size, size), matvec=multiply, dtype=dtype)
    start = np.random.default_rng(0).standard_normal(size).astype(dtype)
    vectors = sparse.eigsh(operator, k=k, which="LA", tol=tolerance, v0=start)[1]
    return torch.from_numpy(vectors.copy()).T, count


def projected_error(basis: Tensor, exact: Tensor, gradient: Tensor) -> float:
    vector = gradient.view(-1).double()
    basis = torch.linalg.qr(basis.double().T)[0]
    difference = basis @ (basis.T @ vector) - exact.T @ (exact @ vector)
    return float(difference.norm() / (exact @ vector).norm())


def run(optimizer: str, k: int, holdout_size: int, refreshes: int) -> dict[str, dict[str, float]]:
    setting = Setting(holdout_size)
    params = setting.start
    size = params.shape[1]
    width = block_width(k, 10, 4, size)
    warm: Warm | None = None
    tracker = Measured()
    peers = {
        name: {tol: Measured() for tol in PEER_TOLERANCES}
        for name in ("ARPACK, own product", "ARPACK, autograd")
    }
    chosen: dict[str, float] = {}
    for step in range(WARM_UP + refreshes * PERIOD):
        gradient = setting.gradient(params, step)
        if step % PERIOD == 0:
            begun = time.perf_counter()
            space = refresh(
                setting.objective.curvature(params, *setting.holdout),
                warm,
                lambda: torch.randn(1, width, size, generator=torch.Generator().manual_seed(0)),
                k=k,
                tolerance=TRACKER_TOLERANCE,
                max_products=6,
                max_cold_products=40,
            )
            seconds = time.perf_counter() - begun
            warm = Warm(block_NWP=space.basis_NWP, floor_N=space.floor_N)
        basis = warm.block_NWP[0, :k] if warm is not None else torch.zeros(0)
        if step % PERIOD == 0 and step >= WARM_UP:
            number = (step - WARM_UP) // PERIOD
            exact = setting.reference(params, k)
            tracker.seconds.append(seconds)
            tracker.products.append(int(space.products_N[0]))
            tracker.errors.append(projected_error(basis, exact, gradient))
            for name, by_tolerance in peers.items():
                if name not in chosen and number == TUNING_REFRESHES:
                    bound = statistics.median(tracker.errors)
                    good = [t for t, m in by_tolerance.items() if statistics.median(m.errors) <= bound]
                    chosen[name] = max(good, default=min(PEER_TOLERANCES))
                for tolerance in [chosen[name]] if name in chosen else PEER_TOLERANCES:
                    measure_peer(
                        setting, params, name, k, tolerance, by_tolerance[tolerance], exact, gradient
                    )
        if optimizer == "bulk":
            vector = gradient[0]
            gradient = (vector - basis.T @ (basis @ vector)).unsqueeze(0)
        params = params - LR * gradient
    rows = {"tracker": tracker.summary()}
    for name, by_tolerance in peers.items():
        rows[name] = by_tolerance[chosen[name]].summary() | {"tolerance": chosen[name]}
    fastest = min(row["milliseconds"] for name, row in rows.items() if name != "tracker")
    rows["tracker"]["times_faster_than_the_fastest_peer"] = fastest / rows["tracker"]["milliseconds"]
    return rows


def measure_peer(
    setting: Setting,
    params: Tensor,
    name: str,
    k: int,
    tolerance: float,
    into: Measured,
    exact: Tensor,
    gradient: Tensor,
) -> None:
    begun = time.perf_counter()
    if name == "ARPACK, autograd":
        product = setting.autograd_product(params)
    else:
        block = setting.objective.curvature(params, *setting.holdout)

        def product(vector: Tensor) -> Tensor:
            return block(vector.view(1, 1, -1)).view(-1)

    basis, count = arpack(product, params.shape[1], k, tolerance)
    into.seconds.append(time.perf_counter() - begun)
    into.products.append(count)
    into.errors.append(projected_error(basis, exact, gradient))


def environment(threads: int) -> dict[str, object]:
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "commit": commit,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "scipy": scipy.__version__,
        "processor": model[0].partition(":")[2].strip() if model else platform.processor(),
        "threads": threads,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--refreshes", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--k", type=int, nargs="+", default=[1, 10, 20])
    parser.add_argument("--holdout-size", type=int, default=500)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = []
    print(f"{'':14}{'solver':22}{'ms':>8}{'products':>10}{'error':>10}{'p90':>10}{'tolerance':>11}")
    for optimizer in ("sgd", "bulk"):
        for k in arguments.k:
            rows = run(optimizer, k, arguments.holdout_size, arguments.refreshes)
            for name, row in rows.items():
                tolerance = row.get("tolerance", TRACKER_TOLERANCE)
                print(
                    f"{optimizer:6}k={k:<6}{name:22}{row['milliseconds']:8.1f}{row['products']:10.0f}"
                    f"{row['error_median']:10.1e}{row['error_p90']:10.1e}{tolerance:11.0e}",
                    flush=True,
                )
            ratio = rows["tracker"]["times_faster_than_the_fastest_peer"]
            print(f"{'':14}{ratio:.1f} times faster than the fastest peer", flush=True)
            assert math.isfinite(ratio)
            results.append(
                {"optimizer": optimizer, "k": k, "holdout_size": arguments.holdout_size, "rows": rows}
            )
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "eigenspace_refresh.json"
    path.write_text(
        json.dumps({"environment": environment(arguments.threads), "results": results}, indent=1) + "\n"
    )
    print(path)


if __name__ == "__main__":
    main()
