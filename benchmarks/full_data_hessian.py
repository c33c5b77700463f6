"""Row 7: T = 1 with the Hessian of all of MNIST-5k, k = 10, 20,000 steps; one cell, and 32 at once.

    python -m benchmarks.full_data_hessian --device cuda --seconds 280 [--cells 1 32] [--folder FOLDER]

Run it again until it says that all is done. The share of the measured fp32 matrix rate counts the
arithmetic of `benchmarks.floors`, over all parameters.
"""

import math
from pathlib import Path

from benchmarks.command import begin, parser_of, save
from benchmarks.problems import load
from benchmarks.table1_whole import STEPS, train_packs
from trainers.cell import Cell, Phase
from trainers.options import Choice

EVALUATE_EVERY = 200

LR = 0.01
"""At 0.05 the cell of seed 0 diverges at step 2,243."""


def cells_of(count: int, steps: int) -> list[Cell]:
    """Return Bulk-SGD cells that differ in their seeds."""
    return [
        Cell(
            model=Choice.of("mlp"),
            dataset=Choice.of("mnist-5k"),
            phases=(Phase(lr=LR, alpha_dom=math.inf, k=10, until=steps),),
            holdout_size=None,
            refresh_every=1,
            evaluate_every=EVALUATE_EVERY,
            seed=seed,
        )
        for seed in range(count)
    ]


def main() -> None:
    parser = parser_of(__doc__, repeats=1)
    parser.add_argument("--seconds", type=float, default=280.0, help="of training in this piece")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--cells", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--folder", type=Path, default=Path("results/full_data_hessian"))
    arguments = begin(parser)
    packs = [cells_of(count, arguments.steps) for count in arguments.cells]
    rows = train_packs(
        packs, load("mnist-5k"), arguments.folder, device=arguments.device, seconds=arguments.seconds
    )
    done = all(row["finished"] for row in rows)
    print("all is done" if done else "not all is done")
    save("full_data_hessian", arguments, {"steps": arguments.steps, "finished": done, "packs": rows})


if __name__ == "__main__":
    main()
