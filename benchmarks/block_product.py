"""Row 2: a block of Hessian products per column, against a floor of matrix products.

    python -m benchmarks.block_product [--repeats 15] [--threads 2] [--device cuda] [--filter TEXT]

The floor of a column is 4 l P flops for the first dense layer's P parameters and 8 l P for those of others
(their inputs and gradients have tangents too), at the matrix rate that is measured in the same run. It counts
two thirds of what those others take (`benchmarks.floors`). A product is measured as the tracker makes it (in
the holdout's coordinates, where inputs that no example uses have no columns) and over all parameters; both
are held against the floor of all parameters. Linearising, which is done once for all blocks of a refresh, is
shown beside it.
"""

import statistics
from typing import Any

import torch

from benchmarks.command import begin, parser_of, save
from benchmarks.floors import flops_a_column
from benchmarks.problems import WARM_UP, Problem, Row
from benchmarks.timing import in_turns, matrix_product, median_ratio

NETWORKS = (
    ("mnist-5k", "mlp100-relu", 500),
    ("mnist-5k", "mlp100-relu", 5000),
    ("mnist-5k", "mlp200-tanh", 500),
    ("cifar-shaped", "mlp100-relu", 200),
)
WIDTHS = (1, 4, 12, 24)
"""The tracker's blocks are 12 wide for k = 1 and 10, and 24 for k = 20."""


def measure(data: str, model: str, holdout_size: int, repeats: int, device: str) -> dict[str, Any]:
    problem = Problem(
        Row(data=data, model=model, holdout_size=holdout_size, k=10, period=10, optimizer="sgd"), device
    )
    problem.advance(WARM_UP, None)
    coordinates = problem.objective.coordinates(problem.holdout[0])
    assert coordinates is not None
    inside, whole = problem.curvature(coordinates), problem.curvature()
    floor = flops_a_column(problem.module, holdout_size)
    rows: dict[str, Any] = {}
    for width in WIDTHS:
        small = torch.randn(1, width, coordinates.size, device=device)
        large = torch.randn(1, width, problem.num_params, device=device)
        matrices, flops = matrix_product(device)
        runs = {
            "matrices": matrices,
            "coordinates": lambda small=small: inside(small),
            "all parameters": lambda large=large: whole(large),
            "linearising and one block": lambda small=small: problem.curvature(coordinates)(small),
        }
        seconds = in_turns(runs, repeats, device, warm_up=2)
        share = width * floor / flops
        rows[str(width)] = {
            "gflops_of_the_matrix_rate": flops / statistics.median(seconds["matrices"]) / 1e9,
            "floor_milliseconds": 1e3 * share * statistics.median(seconds["matrices"]),
        } | {
            name: {
                "milliseconds": 1e3 * statistics.median(seconds[name]),
                "times_the_floor": median_ratio(seconds[name], [share * s for s in seconds["matrices"]]),
            }
            for name in runs
            if name != "matrices"
        }
    return {"parameters": problem.num_params, "coordinates": coordinates.size, "widths": rows}


def main() -> None:
    arguments = begin(parser_of(__doc__, repeats=15))
    found: dict[str, Any] = {}
    print(
        f"{'network':44}{'width':>6}{'floor ms':>10}{'coord.':>8}{'all':>8}{'+ lin.':>8}  (times the floor)"
    )
    for data, model, size in NETWORKS:
        key = f"{data}/{model}/l={size}"
        if arguments.filter not in key:
            continue
        found[key] = measure(data, model, size, arguments.repeats, arguments.device)
        for width, row in found[key]["widths"].items():
            ratios = [
                row[name]["times_the_floor"]
                for name in ("coordinates", "all parameters", "linearising and one block")
            ]
            print(
                f"{key:44}{width:>6}{row['floor_milliseconds']:10.2f}" + "".join(f"{r:8.2f}" for r in ratios)
            )
    save("block_product", arguments, {"networks": found})


if __name__ == "__main__":
    main()
