"""Where the weights are: distances within a run, sketches for distances between runs, small models whole."""

import torch
from torch import Tensor

from trainers.errors import ConfigError
from trainers.lane import STAGE_START, ScheduledProbe
from trainers.probes.view import View
from trainers.randomness import generator

MOST_WEIGHTS = 100
"""Parameters up to which a model's weights are recorded one by one."""

WEIGHTS = "weights"


def measure_distance(view: View, probe: ScheduledProbe) -> dict[str, float]:
    """Return ||theta - theta_s|| with s the start of the stage, or the first measurement from `since` on."""
    since = probe.options["since"]
    if since is None:
        # At the very step of a switch the stage before has just ended, and the distance is 0.
        start = view.lane.remembered(STAGE_START)[WEIGHTS]
        return {"distance/from_switch": _distance(view.params_P, start)}
    if view.step < since:
        return {}
    name = f"{probe.key}since/"
    kept = view.lane.remembered(name) or {WEIGHTS: view.params_P}
    view.remember(name, kept)
    return {f"distance/since_{since}": _distance(view.params_P, kept[WEIGHTS])}


def _distance(left_P: Tensor, right_P: Tensor) -> float:
    return float(torch.linalg.vector_norm((left_P - right_P).double()))


def measure_sketch(view: View, probe: ScheduledProbe) -> dict[str, float]:
    """Return the products of the weights with `size` fixed Gaussian rows of variance 1 / size.

    Runs with the same model, `size` and `seed` are multiplied by the same rows, so the distance between their
    sketches is that between their weights, to a relative standard deviation of 1 / sqrt(2 size) (Johnson &
    Lindenstrauss 1984).
    """
    size = probe.options["size"]
    values: dict[str, float] = {}
    weights = view.params_P.double().cpu()
    for row in range(size):
        draw = generator(probe.options["seed"], "sketch", row)
        gaussian = torch.randn(len(weights), generator=draw, dtype=torch.float64)
        values[f"sketch/{row + 1}"] = float(gaussian @ weights) / size**0.5
    return values


def measure_weights(view: View, probe: ScheduledProbe) -> dict[str, float]:
    """Return every weight.

    Raises:
        ConfigError: There are too many to be looked at.
    """
    if view.params_P.numel() > MOST_WEIGHTS:
        raise ConfigError(
            f"probe 'weights': the model has {view.params_P.numel()} parameters; at most {MOST_WEIGHTS} "
            "are recorded one by one. Use the probe 'sketch' for larger models."
        )
    return {f"weights/{i + 1}": float(weight) for i, weight in enumerate(view.params_P)}
