"""How many cells a trial trains together: a number, or what the GPU at hand has room for.

On a CPU the cells of these models fill a core by themselves, so `auto` is one a trial there.
"""

import os
from collections.abc import Callable, Iterable

from trainers.cell import Cell
from trainers.errors import ConfigError

AUTO = 0
"""Stands for `--lanes auto` where numbers are passed on."""


def parse_lanes(text: str | int) -> int:
    """Read the value of `--lanes`.

    Raises:
        ValueError: It is neither a whole number of at least 1 nor `auto`.
    """
    if text in ("auto", AUTO):
        return AUTO
    if not str(text).isdecimal() or int(text) < 1:
        raise ValueError(f"expected a whole number of at least 1, or auto; found {text!r}.")
    return int(text)


def lanes_text(lanes: int) -> str:
    """Return the value of `--lanes` as it is typed."""
    return "auto" if lanes == AUTO else str(lanes)


def lanes_at_hand(
    lanes: int,
    cells: Iterable[Cell],
    *,
    gpus_per_trial: float,
    like: Cell | None = None,
    look: Callable[[], int | None] | None = None,
) -> int:
    """Return how many cells a trial trains together.

    Args:
        lanes: A number, which is returned as it is, or `AUTO`.
        cells: What is to be trained.
        gpus_per_trial: GPUs of a trial; a fraction shares the memory of one.
        like: What any number of further cells is like that are still to be asked for; `None` without such.
        look: Returns the free memory of the GPU that a trial gets; that of this machine when left out.

    Raises:
        ConfigError: `AUTO`, with GPUs asked for, where there is none to look at.
    """
    wanted = [*cells] if like is None else [*cells, like]
    if lanes != AUTO or gpus_per_trial == 0 or not wanted:
        return max(lanes, 1)
    free = (look or free_gpu_bytes)()
    if free is None:
        raise _nothing_to_look_at("of the node that a trial gets" if look else "of this machine")
    from trainers.memory import lanes_for

    found = lanes_for(wanted, int(free * min(gpus_per_trial, 1.0)))
    return found if like is not None else min(len(wanted), found)


def require_gpu_to_look_at(lanes: int, *, gpus_per_trial: float) -> None:
    """See that `AUTO` has a GPU to look at on this machine, before anything is begun.

    Raises:
        ConfigError: It has none.
    """
    if lanes == AUTO and gpus_per_trial and free_gpu_bytes() is None:
        raise _nothing_to_look_at("of this machine")


def _nothing_to_look_at(whose: str) -> ConfigError:
    return ConfigError(
        f"--lanes: auto looks at the GPU {whose}, and there is none that torch can use. Give a number; "
        "`sweep plan SPACE --lanes auto` tells it where the GPU is."
    )


def gpus_to_plan(lanes: int, gpus_per_trial: float | None) -> float:
    """Return the GPUs of a trial that is planned: what is given, else one where `AUTO` finds one here."""
    if gpus_per_trial is not None:
        return gpus_per_trial
    return 1.0 if lanes == AUTO and free_gpu_bytes() is not None else 0.0


def trials_at_a_time(gpus_per_trial: float) -> int:
    """Return how many trials this machine has room for: by its GPUs where they take any, else by its CPUs."""
    if gpus_per_trial == 0:
        return os.cpu_count() or 1
    import torch

    # Of a GPU's fractions only whole numbers fit, and a trial of several has them to itself.
    gpus = torch.cuda.device_count()
    return max(1, gpus * int(1 / gpus_per_trial) if gpus_per_trial <= 1 else int(gpus / gpus_per_trial))


def free_gpu_bytes() -> int | None:
    """Return the free memory of the first GPU; `None` without one."""
    import torch

    return torch.cuda.mem_get_info(0)[0] if torch.cuda.is_available() else None
