"""Row 5: cell-steps per second of N lanes on one device, plain SGD and Bulk-SGD (k = 10, l = 500, T = 10).

    python -m benchmarks.lanes_throughput --device cuda [--lanes 1 4 16 64 256 512] [--filter plain]

Beside them the hand-written loop, which trains one cell; the share of the fp32 matrix rate that is measured
in the same run; and on a GPU the peak memory against the model that `--lanes auto` plans with.
"""

import statistics
from typing import Any

import torch

from benchmarks.command import begin, parser_of, save
from benchmarks.floors import flops_a_column, flops_a_step
from benchmarks.problems import load
from benchmarks.steps import BATCH, WARM_UP, hand_written_loop, stepping_cell
from benchmarks.timing import in_turns, matrix_product
from trainers.data import Dataset
from trainers.memory import footprint
from trainers.models import MODELS
from trainers.training import Trainer

MODEL, HOLDOUT, K = "mlp100-relu", 500, 10


def measure(data: Dataset, lanes: int, bulk: bool, steps: int, repeats: int, device: str) -> dict[str, Any]:
    cells = [stepping_cell(MODEL, bulk_k=K if bulk else None, seed=seed) for seed in range(lanes)]
    if device != "cpu":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    before = (0, 0) if device == "cpu" else (torch.cuda.memory_allocated(), torch.cuda.memory_reserved())
    trainer = Trainer(cells, data=data, device=device)
    trainer.advance(WARM_UP + steps)
    most = (0, 0)
    if device != "cpu":
        # What graphs keep to be replayed is reserved, and allocated only while it is recorded.
        most = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    matrices, flops = matrix_product(device)
    loop = hand_written_loop(MODEL, data, device)
    runs = {
        "lanes": lambda: trainer.advance(trainer.step + steps),
        "loop": lambda: loop(steps),
        "matrices": matrices,
    }
    columns = sum(lane.columns for lane in trainer.lanes)
    begun = trainer.step
    seconds = in_turns(runs, repeats, device)
    columns = sum(lane.columns for lane in trainer.lanes) - columns
    taken = lanes * (trainer.step - begun)
    entry = MODELS[cells[0].model.name]
    module = entry.build(
        tuple(data.train_inputs.shape[1:]),
        data.num_outputs,
        cells[0].model.resolve("model", entry.options),
    )
    a_cell_step = flops_a_step(module, BATCH) + columns / taken * flops_a_column(module, HOLDOUT)
    rate = flops / statistics.median(seconds["matrices"])
    found: dict[str, Any] = {
        "cell_steps_per_second": lanes * steps / statistics.median(seconds["lanes"]),
        "loop_steps_per_second": steps / statistics.median(seconds["loop"]),
        "matrix_tflops": rate / 1e12,
    }
    found["times_the_loop"] = found["cell_steps_per_second"] / found["loop_steps_per_second"]
    found["share_of_matrix_rate"] = found["cell_steps_per_second"] * a_cell_step / rate
    if device != "cpu":
        found["peak_bytes"], found["reserved_bytes"] = most[0] - before[0], most[1] - before[1]
        found["planned_bytes"] = footprint(cells[0]).peak_bytes(lanes)
    return found


def main() -> None:
    parser = parser_of(__doc__, repeats=7)
    parser.add_argument("--lanes", type=int, nargs="+", default=[1, 4, 16, 64, 256, 512])
    parser.add_argument("--steps", type=int, default=50, help="of a turn")
    arguments = begin(parser)
    data, found = load("mnist-5k"), {}
    print(f"{'':12}{'N':>5}{'cell-steps/s':>14}{'x the loop':>12}{'of the matrix rate':>20}")
    for name in ("plain", "bulk"):
        for lanes in arguments.lanes:
            if arguments.filter not in name:
                continue
            row = measure(data, lanes, name == "bulk", arguments.steps, arguments.repeats, arguments.device)
            found[f"{name}/N={lanes}"] = row
            print(
                f"{name:12}{lanes:5}{row['cell_steps_per_second']:14.0f}{row['times_the_loop']:12.2f}"
                f"{row['share_of_matrix_rate']:20.1%}"
            )
    save("lanes_throughput", arguments, {"rows": found})


if __name__ == "__main__":
    main()
