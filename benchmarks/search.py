"""TPE and CMA-ES against random search, at equal budget, over several seeds, on MNIST-5k.

What is searched is the question that users have: which learning rate, which divisors along sharp and flat
directions and which k give the lowest training loss after a fixed number of steps, without diverging. Every
configuration is a cell, asked for and told as `sweep search` does it (`sweep.search.asking`), and trained in
this process, so that only the samplers differ. A diverged cell counts as infeasible and never as a best one.

    python -m benchmarks.search --seeds 5 --cells 30

How each cell ended is kept in `results/benchmark-search.jsonl`: a run that was broken off (`--minutes`, a
kill) goes on where it was, since equal answers lead to equal questions.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.environment import describe, write_results
from search_spaces.space import load_space_text
from sweep.names import FINAL_TEST_ACCURACY, FINAL_TRAIN_LOSS, Status
from sweep.search.asking import Asking, Ended
from sweep.search.events import Asked
from trainers.canonical import cell_id
from trainers.cell import Cell
from trainers.history import TEST_ACCURACY, TRAIN_LOSS
from trainers.training import Trainer

SPACE = """
name: benchmark
base:
  model: mlp
  dataset: mnist-5k
  holdout_size: 200
  evaluate_every: 50
  divergence_every: 10
  phases: [{lr: 0.1, until: 100}]
search:
  axes:
    lr: {low: 0.003, high: 3, log: true}
    alpha_dom: {low: 0.3, high: 100, log: true}
    beta_bulk: {low: 0.03, high: 10, log: true}
    k: {low: 1, high: 20}
  objectives: [final/train_loss]
  startup: 10
"""
SAMPLERS = ("random", "tpe", "cmaes")
DATA = Path("results/data")
KEPT = Path("results/benchmark-search.jsonl")

End = Callable[[Cell], Ended]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cells", type=int, default=30)
    parser.add_argument("--minutes", type=float, default=math.inf, help="break off after so long")
    options = parser.parse_args()
    torch.set_num_threads(1)
    end = trainer_of_cells(time.monotonic() + 60 * options.minutes)
    studies = [
        run(sampler, seed, options.cells, end) for seed in range(options.seeds) for sampler in SAMPLERS
    ]
    write(studies, options.cells)


def trainer_of_cells(deadline: float) -> End:
    """Return what trains a cell, or remembers how it ended; leaves the process after the deadline."""
    ends: dict[str, Ended] = {}
    for line in KEPT.read_text().splitlines() if KEPT.exists() else ():
        address, values = json.loads(line)
        ends[address] = Ended(status=Status(values.pop("status")), **values)

    def end(cell: Cell) -> Ended:
        address = cell_id(cell)
        if address not in ends:
            if time.monotonic() > deadline:
                sys.exit(f"broken off after {len(ends)} cells; the same command goes on")
            ends[address] = train(cell)
            KEPT.parent.mkdir(exist_ok=True)
            with KEPT.open("a") as file:
                file.write(json.dumps([address, asdict(ends[address])]) + "\n")
        return ends[address]

    return end


def write(studies: list[dict[str, Any]], cells: int) -> None:
    """Write the studies so far, with what they come to."""
    rows = [summarise(sampler, studies) for sampler in SAMPLERS]
    random = {study["seed"]: study for study in studies if study["sampler"] == "random"}
    for row in rows:
        mine = [study for study in studies if study["sampler"] == row["sampler"]]
        row["seeds_better_than_random"] = sum(s["best"] < random[s["seed"]]["best"] for s in mine)
        print(row)
    found = {"environment": describe(), "space": SPACE, "cells": cells, "samplers": rows, "studies": studies}
    write_results("search", found)


def run(sampler: str, seed: int, cells: int, end: End) -> dict[str, Any]:
    """Return one study: the best loss after each cell, and how many diverged."""
    space = load_space_text(SPACE).for_search({"sampler": sampler, "sampler_seed": seed, "cells": cells})
    asking = Asking(space.search, [])
    best, curve, diverged = math.inf, [], 0
    while not asking.is_over(0.0):
        number, configuration = asking.ask()
        [point] = space.sampled(configuration)
        address = cell_id(point.cell)
        ended = end(point.cell)
        asking.put(Asked(number=number, configuration=configuration, cells=(address,), new=1))
        asking.ended(address, ended)
        asking.tell()
        diverged += ended.status is Status.DIVERGED
        if ended.status is Status.COMPLETED:
            best = min(best, ended.metrics[FINAL_TRAIN_LOSS])
        curve.append(best)
    print(f"seed {seed} {sampler:7s} best {best:.5f}, {diverged} of {cells} diverged", flush=True)
    return {"sampler": sampler, "seed": seed, "best": best, "diverged": diverged, "best_so_far": curve}


def train(cell: Cell) -> Ended:
    """Train one cell in this process."""
    trainer = Trainer([cell], data_folder=DATA)
    trainer.advance(cell.num_steps)
    lane = trainer.lanes[0]
    assert lane.outcome is not None, "trained to its end"
    metrics = {FINAL_TRAIN_LOSS: lane.finals[TRAIN_LOSS], FINAL_TEST_ACCURACY: lane.finals[TEST_ACCURACY]}
    return Ended(
        status=Status(lane.outcome.status), metrics=metrics, steps=lane.outcome.step, num_steps=cell.num_steps
    )


def summarise(sampler: str, studies: list[dict[str, Any]]) -> dict[str, Any]:
    """Return median and range over the seeds, and the cells that random search's final median takes."""
    mine = [study for study in studies if study["sampler"] == sampler]
    bar = statistics.median(study["best"] for study in studies if study["sampler"] == "random")
    reached = [next((i + 1 for i, v in enumerate(s["best_so_far"]) if v <= bar), None) for s in mine]
    finals = sorted(study["best"] for study in mine)
    return {
        "sampler": sampler,
        "best_median": statistics.median(finals),
        "best_range": [finals[0], finals[-1]],
        "diverged_median": statistics.median(study["diverged"] for study in mine),
        "cells_to_random_median": reached,
    }


if __name__ == "__main__":
    main()
