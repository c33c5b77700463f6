"""Row 4: a step of Bulk-SGD (k = 10, T = 10) against a step of plain SGD, one lane each.

    python -m benchmarks.bulk_step [--repeats 11] [--threads 2] [--device cuda]

Both are trained by the trainer, in turns of 100 steps that follow 100 steps of SGD, so that every turn holds
ten refreshes; nothing is evaluated.
"""

import statistics
from typing import Any

from benchmarks.command import begin, parser_of, save
from benchmarks.problems import load
from benchmarks.steps import WARM_UP, stepping_cell
from benchmarks.timing import in_turns, median_ratio
from trainers.training import Trainer

NETWORKS = (
    ("mnist-5k", "mlp100-relu", 500),
    ("mnist-5k", "mlp200-tanh", 500),
    ("cifar-shaped", "mlp100-relu", 200),
    ("mnist-5k", "cnn", 500),
)
"""Data, model and holdout size; the first is the one that the target names."""

STEPS, K = 100, 10


def measure(data_name: str, model: str, holdout_size: int, repeats: int, device: str) -> dict[str, float]:
    data = load(data_name)
    plain = Trainer([stepping_cell(model)], data=data, device=device)
    bulk = Trainer([stepping_cell(model, bulk_k=K, holdout_size=holdout_size)], data=data, device=device)
    plain.advance(WARM_UP)
    bulk.advance(WARM_UP)
    seconds = in_turns(
        {
            "bulk": lambda: bulk.advance(bulk.step + STEPS),
            "plain": lambda: plain.advance(plain.step + STEPS),
        },
        repeats,
        device,
    )
    lane = bulk.lanes[0]
    return {
        "bulk_milliseconds": 1e3 * statistics.median(seconds["bulk"]) / STEPS,
        "plain_milliseconds": 1e3 * statistics.median(seconds["plain"]) / STEPS,
        "times_a_plain_step": median_ratio(seconds["bulk"], seconds["plain"]),
        "columns_a_refresh": lane.columns / lane.refreshes,
        "unconverged_share": lane.unconverged / lane.refreshes,
    }


def main() -> None:
    arguments = begin(parser_of(__doc__, repeats=11))
    found: dict[str, Any] = {}
    print(f"{'network':34}{'bulk ms':>10}{'plain ms':>10}{'ratio':>8}{'columns':>9}{'unconv.':>9}")
    for data, model, size in NETWORKS:
        key = f"{data}/{model}/l={size}"
        if arguments.filter in key:
            row = found[key] = measure(data, model, size, arguments.repeats, arguments.device)
            print(
                f"{key:34}{row['bulk_milliseconds']:10.3f}{row['plain_milliseconds']:10.3f}"
                f"{row['times_a_plain_step']:8.2f}{row['columns_a_refresh']:9.1f}"
                f"{row['unconverged_share']:9.1%}"
            )
    save("bulk_step", arguments, {"networks": found})


if __name__ == "__main__":
    main()
