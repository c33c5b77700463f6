"""TPE and CMA-ES against random search, at equal budget, over several seeds, on MNIST-5k.

What is searched is the question that users have: which learning rate, which divisors along sharp and flat
directions and which k give the lowest training loss after a fixed number of steps, without diverging. Every
configuration is a cell, asked for and told as `sweep search` does it (`sweep.search.asking`), and trained in
this process, so that only the samplers differ. A diverged cell counts as infeasible and never as a best one.

    python -m benchmarks.search --seeds 5 --cells 30
"""

import argparse
import math
import statistics
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cells", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(1)
    trained: dict[str, Ended] = {}
    studies: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        studies += [run(sampler, seed, options.cells, trained) for sampler in SAMPLERS]
        # After every seed, so that a run that is broken off leaves what it has measured.
        write(studies, options.cells)


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


def run(sampler: str, seed: int, cells: int, trained: dict[str, Ended]) -> dict[str, Any]:
    """Return one study: the best loss after each cell, and how many diverged."""
    space = load_space_text(SPACE).for_search({"sampler": sampler, "sampler_seed": seed, "cells": cells})
    asking = Asking(space.search, [])
    best, curve, diverged = math.inf, [], 0
    while not asking.is_over(0.0):
        number, configuration = asking.ask()
        [point] = space.sampled(configuration)
        address = cell_id(point.cell)
        if address not in trained:
            trained[address] = train(point.cell)
        asking.put(Asked(number=number, configuration=configuration, cells=(address,), new=1))
        asking.ended(address, trained[address])
        asking.tell()
        ended = trained[address]
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
