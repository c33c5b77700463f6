"""Row 3: a step of plain SGD in the trainer with one lane, against a hand-written PyTorch loop.

    python -m benchmarks.plain_step [--repeats 11] [--threads 2] [--device cuda]

Both draw batches of 50 from data on the device, in turns of some hundred steps; nothing is evaluated. The
trainer records each step's minibatch loss besides, which the loop does not.
"""

import statistics
from typing import Any

from benchmarks.command import begin, parser_of, save
from benchmarks.problems import load
from benchmarks.steps import WARM_UP, hand_written_loop, stepping_cell
from benchmarks.timing import in_turns, median_ratio
from trainers.training import Trainer

NETWORKS = (
    ("mnist-5k", "mlp100-relu", 500),
    ("mnist-5k", "mlp200-tanh", 500),
    ("cifar-shaped", "mlp100-relu", 300),
    ("mnist-5k", "cnn", 10),
)
"""Data, model, and the steps of one turn."""


def measure(data_name: str, model: str, steps: int, repeats: int, device: str) -> dict[str, float]:
    data = load(data_name)
    trainer = Trainer([stepping_cell(model)], data=data, device=device)
    trainer.advance(WARM_UP)
    loop = hand_written_loop(model, data, device)
    loop(WARM_UP)
    seconds = in_turns(
        {"trainer": lambda: trainer.advance(trainer.step + steps), "loop": lambda: loop(steps)},
        repeats,
        device,
    )
    return {
        "trainer_milliseconds": 1e3 * statistics.median(seconds["trainer"]) / steps,
        "loop_milliseconds": 1e3 * statistics.median(seconds["loop"]) / steps,
        "times_the_loop": median_ratio(seconds["trainer"], seconds["loop"]),
    }


def main() -> None:
    arguments = begin(parser_of(__doc__, repeats=11))
    found: dict[str, Any] = {}
    print(f"{'network':28}{'trainer ms':>12}{'loop ms':>10}{'ratio':>8}")
    for data, model, steps in NETWORKS:
        key = f"{data}/{model}"
        if arguments.filter in key:
            row = found[key] = measure(data, model, steps, arguments.repeats, arguments.device)
            print(
                f"{key:28}{row['trainer_milliseconds']:12.3f}{row['loop_milliseconds']:10.3f}"
                f"{row['times_the_loop']:8.2f}"
            )
    save("plain_step", arguments, {"networks": found})


if __name__ == "__main__":
    main()
