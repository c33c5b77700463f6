"""One lane at one step, as its probes see it: what is expensive is computed once, and only when asked for.

Probes of a lane that look at the same holdout with the same tolerance share one tracked eigenspace, as wide
as the widest of them asks for; each is judged by the eigenpairs that it looks at itself. A function of the
user's own (`trainers.probes.user`) declares none: it looks at those of the probes beside it.

Shape legend: P parameters, K leading directions.
"""

from collections.abc import Callable, Mapping, MutableMapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from trainers.canonical import Stage
from trainers.cell import ORDERS, deciding_seed
from trainers.errors import ConfigError
from trainers.instruments import Instruments, Leading, start_block
from trainers.lane import Lane, ScheduledProbe

SpaceKey = tuple[int, int, float, str]
"""Holdout seed, holdout size, tolerance, order."""


def space_key(options: Mapping[str, Any]) -> SpaceKey | None:
    """Return which tracked eigenspace a probe looks at; `None` for one that needs none."""
    if "tolerance" not in options or not options.get("k"):
        return None
    return options["holdout_seed"], options["holdout_size"], options["tolerance"], order_of(options)


def order_of(options: Mapping[str, Any]) -> str:
    """Return which eigenvalues lead for a probe; a canonical form leaves the default out."""
    return options.get("order", ORDERS[0])


class View:
    """A lane at a step.

    Args:
        instruments: What measures.
        lane: Whose.
        step: When.
        params_P: Its weights.
        gradient_P: The gradient of the full training loss.
        next_update: Computes theta_{t+1} - theta_t without taking the step.
        batch: Returns the examples of the next step's minibatch.

    Attributes:
        converged: Whether all eigenpairs that a probe has looked at had converged; `None` before the first.
    """

    def __init__(
        self,
        instruments: Instruments,
        lane: Lane,
        *,
        step: int,
        params_P: Tensor,
        gradient_P: Tensor,
        next_update: Callable[[], Tensor],
        batch: Callable[[], Tensor],
    ) -> None:
        self.instruments, self.lane, self.step = instruments, lane, step
        self.params_P, self.gradient_P = params_P, gradient_P
        self._next_update, self._batch = next_update, batch
        self._spaces: dict[SpaceKey, Leading] = {}
        self.converged: bool | None = None

    @property
    def at_end(self) -> bool:
        """Whether no further update follows."""
        return self.step == self.lane.num_steps

    @property
    def stage(self) -> Stage:
        """The stage that does the next update; at the end, the one that has done the last."""
        return self.lane.stage_at(self.step - 1 if self.at_end else self.step)

    @cached_property
    def update_P(self) -> Tensor | None:
        """theta_{t+1} - theta_t; `None` at the end."""
        return None if self.at_end else self._next_update()

    @cached_property
    def batch_gradient_P(self) -> Tensor | None:
        """The gradient of the next step's minibatch; `None` at the end."""
        return None if self.at_end else self.instruments.gradient(self.params_P, self._batch())

    def leading(self, options: Mapping[str, Any]) -> Leading:
        """Return the leading `options["k"]` eigenpairs of the probe's holdout.

        Args:
            options: `k`, `holdout_size`, `holdout_seed`, `tolerance` and `order`, of a probe of the cell or
                with a smaller `k`.

        Raises:
            ConfigError: No probe of the cell is declared with these and as large a `k`.
        """
        if "holdout_size" in options:
            seed, size = options["holdout_seed"], options["holdout_size"]
            options = {**options, "holdout_seed": deciding_seed(seed, size, len(self.instruments.train))}
        key = space_key(options)
        users = [probe for probe in self.lane.probes if key and space_key(probe.options) == key]
        width = max((probe.options["k"] for probe in users), default=0)
        if key is None or options["k"] > width:
            asked = ", ".join(f"{name}: {value}" for name, value in options.items())
            raise ConfigError(
                f"eigenpairs of {{{asked}}}: the cell's probes follow {width or 'none'} of this holdout, "
                "tolerance and order. Declare a probe that follows as many beside yours, as "
                "{name: curvature, k: …}, and ask with its holdout_size, holdout_seed and tolerance."
            )
        if key not in self._spaces:
            name = f"{users[0].key}space/"
            memory: MutableMapping[str, Tensor] = self.lane.remembered(name)
            self._spaces[key] = self.instruments.leading(
                self.params_P,
                self.holdout(options),
                k=width,
                tolerance=options["tolerance"],
                memory=memory,
                draw=start_block(self.lane.cell.seed, name, self.step),
                order=order_of(options),
            )
            self.remember(name, memory)
        return self.seen(self._spaces[key].first(options["k"]))

    def seen(self, space: Leading) -> Leading:
        """Take note of eigenpairs that a probe looks at."""
        self.converged = space.converged and self.converged is not False
        return space

    def basis(self, options: Mapping[str, Any]) -> Tensor:
        """Return the leading `options["k"]` eigenvectors of the probe's holdout, (K, P); as `leading`."""
        return self.leading(options).basis_KP

    def holdout(self, options: Mapping[str, Any]) -> Tensor:
        """Return the examples of the probe's holdout."""
        return self.instruments.holdout(options["holdout_seed"], options["holdout_size"])

    def remember(self, name: str, memory: Mapping[str, Tensor]) -> None:
        """Keep memory for the next measurement; after the last step nothing is kept.

        The last state stays as it was before its measurement: a longer run goes on from it bitwise.
        """
        if not self.at_end:
            self.lane.remember(name, {key: value.clone() for key, value in memory.items()})

    def generator(self, probe: ScheduledProbe, purpose: str) -> torch.Generator:
        """Return a generator of a probe's own, a function of seed, probe, purpose and step."""
        return start_block(self.lane.cell.seed, f"{probe.key}{purpose}", self.step)
