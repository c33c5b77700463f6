"""Row 6: the whole of `zs25-table1`, 39 cells x 20,000 steps, on one device, in pieces.

    python -m benchmarks.table1_whole --device cuda --seconds 500 [--data FOLDER] [--folder FOLDER]

Run it again until it says that all is done; what counts is the sum of the seconds of training, evaluations
every 200 steps included. CIFAR10-5k is read from `--data` where it is given, and is otherwise replaced by
data of its shape. Beside the time stand the flops of the products and steps over it, as a share of the
matrix rate.
"""

import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.command import begin, parser_of, save
from benchmarks.floors import flops_a_column, flops_a_step
from benchmarks.pieces import packs_of, train_a_piece
from benchmarks.synthetic import cifar_shaped
from benchmarks.timing import matrix_product, seconds_of
from trainers.cell import Cell, Phase
from trainers.data import DATASETS, Dataset
from trainers.models import MODELS
from trainers.options import Choice

RATES, HOLDOUTS, DIRECTIONS = (0.01, 0.05, 0.1), (200, 500, 5000), (1, 5, 10, 20)
STEPS = 20_000


def table1_cells(steps: int = STEPS) -> list[Cell]:
    """Return the cells of the search space; a test holds them against its plan."""
    model, dataset = Choice.of("mlp"), Choice.of("cifar10-5k")
    common: dict[str, Any] = {"model": model, "dataset": dataset, "evaluate_every": 200}
    cells = [
        Cell(phases=(Phase(lr=lr, alpha_dom=math.inf, k=k, until=steps),), holdout_size=size, **common)
        for lr in RATES
        for size in HOLDOUTS
        for k in DIRECTIONS
    ]
    return cells + [Cell(phases=(Phase(lr=lr, until=steps),), **common) for lr in RATES]


def matrix_rate(device: str) -> float:
    """Return flops per second of a large float32 product."""
    product, flops = matrix_product(device)
    product()
    return flops / statistics.median(seconds_of(product, device) for _ in range(5))


def flops_of(cells: Sequence[Cell], found: dict[str, Any], data: Dataset) -> float:
    """Return the floor of what a pack has done so far."""
    cell = cells[0]
    entry = MODELS[cell.model.name]
    shape = tuple(data.train_inputs.shape[1:])
    module = entry.build(shape, data.num_outputs, cell.model.resolve("model", entry.options))
    column = flops_a_column(module, cell.holdout_size or len(data.train_inputs))
    steps = found["steps"] * len(cells) * flops_a_step(module, cell.batch_size)
    return steps + column * sum(lane["columns"] for lane in found["lanes"])


def train_packs(
    packs: Sequence[Sequence[Cell]], data: Dataset, folder: Path, *, device: str, seconds: float
) -> list[dict[str, Any]]:
    """Train packs one after the other for about so long in all; return what each has come to."""
    rate, begun, rows = matrix_rate(device), time.perf_counter(), []
    for number, cells in enumerate(packs):
        left = seconds - (time.perf_counter() - begun)
        found = train_a_piece(
            cells,
            data,
            folder / f"{number}-of-{len(cells)}",
            device=device,
            seconds=left,
            watch=lambda _: {"matrix_rate": rate},
        )
        flops = flops_of(cells, found, data)
        # Pieces may be of different devices.
        could = sum(piece["seconds"] * piece["matrix_rate"] for piece in found["pieces"])
        share = flops / could if could else None
        rows.append(found | {"cells": len(cells), "flops": flops, "share_of_matrix_rate": share})
        print(
            f"pack {number}: {len(cells)} cells at step {found['steps']}, {found['seconds']:.1f} s, "
            + ("" if share is None else f"{share:.1%} of the matrix rate")
        )
    return rows


def main() -> None:
    parser = parser_of(__doc__, repeats=1)
    parser.add_argument("--seconds", type=float, default=500.0, help="of training in this piece")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--data", type=Path, help="where CIFAR-10 is kept")
    parser.add_argument("--folder", type=Path, default=Path("results/table1_whole"))
    arguments = begin(parser)
    data = cifar_shaped() if arguments.data is None else DATASETS["cifar10-5k"].load(arguments.data, {})
    rows = train_packs(
        packs_of(table1_cells(arguments.steps)),
        data,
        arguments.folder,
        device=arguments.device,
        seconds=arguments.seconds,
    )
    done = all(row["finished"] for row in rows)
    total = sum(row["seconds"] for row in rows)
    print(f"{'all is done' if done else 'not all is done'}: {total:.1f} s of training so far")
    values = {"data": "cifar-shaped" if arguments.data is None else "cifar10-5k", "steps": arguments.steps}
    save("table1_whole", arguments, values | {"finished": done, "seconds": total, "packs": rows})


if __name__ == "__main__":
    main()
