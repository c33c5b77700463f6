"""A pack taking steps: its lanes in groups of one base optimiser, prepared once for as long as a stage lasts.

Shape legend: N lanes, P parameters, S steps.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trainers.batches import Batches
from trainers.canonical import Stage
from trainers.instruments import Instruments
from trainers.lane import OPTIMIZER, Lane
from trainers.models.dropout import MaskedLayer
from trainers.optimizers.rules import build_rule
from trainers.optimizers.update import Update
from trainers.options import Choice
from trainers.replay import Arriving
from trainers.stepping import Examples, Steps
from trainers.tracking import dominant_of, subspaces_of

MOST_MOVES = 3
"""Directions that have moved more often in a stage are copied: each time, what is prepared is prepared anew.
They move in the first refreshes, and where lanes are refreshed now with some and now with others."""


@dataclass(slots=True, kw_only=True)
class Losses:
    """The minibatch losses of steps that a GPU may still be at.

    Args:
        start: The first of the steps.
        lanes: N.
        stop: The step after the last.
    """

    start: int
    lanes: int
    stop: int = 0
    _parts: list[tuple[Sequence[int], Arriving]] = field(default_factory=list[tuple[Sequence[int], Arriving]])

    def add(self, rows: Sequence[int], losses_SN: Tensor) -> None:
        """Add those of some lanes, all of the same steps."""
        self.stop = self.start + len(losses_SN)
        self._parts.append((rows, Arriving(losses_SN)))

    def wait(self) -> list[list[float]]:
        """Return the losses of each lane, once they are there."""
        by_lane: list[list[float]] = [[] for _ in range(self.lanes)]
        for rows, losses in self._parts:
            for row, values in zip(rows, losses.get().double().mT.tolist(), strict=True):
                by_lane[row] = values
        return by_lane


@dataclass(slots=True, kw_only=True)
class _Prepared:
    """The steps of some lanes.

    Args:
        stages: Of each lane.
        steps: Theirs.
    """

    stages: list[Stage]
    steps: Steps
    _directions: list[tuple[Tensor | None, int | None]] = field(
        default_factory=list[tuple[Tensor | None, int | None]]
    )

    def note_directions(self, lanes: Sequence[Lane]) -> None:
        """Remember what the steps project with."""
        self._directions = [(lane.block_WC, lane.num_held) for lane in lanes]

    def found_again(self, lanes: Sequence[Lane]) -> bool:
        """Whether the lanes' directions are where they were, and as many."""
        return all(
            lane.block_WC is block and lane.num_held == count
            for lane, (block, count) in zip(lanes, self._directions, strict=True)
        )


class Stepper:
    """Prepares and takes the steps of a pack's lanes.

    Args:
        instruments: Model, loss and data.
        batches: The lanes' minibatches.
        masked: The model's layers of dropout.
    """

    def __init__(self, instruments: Instruments, batches: Batches, masked: Sequence[MaskedLayer]) -> None:
        self._instruments, self._batches, self._masked = instruments, batches, masked
        self._prepared: dict[tuple[int, ...], _Prepared] = {}
        self._moves: Counter[tuple[int, ...]] = Counter()

    def forget(self) -> None:
        """Drop what is prepared: the lanes or their weights are others now."""
        self._prepared.clear()
        self._moves.clear()

    def renew_dominant(self, lanes: Sequence[Lane], step: int) -> None:
        """Let the steps that are prepared, and go on, project with what a refresh has found."""
        for rows, prepared in [*self._prepared.items()]:
            members, dominant = [lanes[row] for row in rows], prepared.steps.update.dominant
            if any(lane.num_steps == step for lane in members):
                # It ends here, and with it what is prepared.
                continue
            if dominant is None or prepared.stages != [lane.stage_at(step) for lane in members]:
                continue
            if dominant.shares and prepared.found_again(members):
                continue
            if dominant.renew(subspaces_of(self._instruments, members, step)):
                prepared.note_directions(members)
            else:
                del self._prepared[rows]
                self._moves[rows] += 1

    def next_update(self, lanes: Sequence[Lane], row: int, params_P: Tensor, step: int) -> Tensor:
        """Return what update number `step` would add to the weights of one lane, (P,)."""
        return self._steps(lanes, [row], params_P.unsqueeze(0), step).next_update(step)[0]

    def take(
        self, lanes: Sequence[Lane], params_NP: Tensor, start: int, stop: int, enough: Callable[[], bool]
    ) -> Losses:
        """Do updates number `start` to `stop - 1` in place; no event lies in between.

        Args:
            lanes: Of the pack.
            params_NP: Their weights; the same tensor each time, until `forget`.
            start: The first update.
            stop: The one after the last.
            enough: Asked after each, whether to end there; of several lanes it may not say so.
        """
        self._prepare(lanes, params_NP, start)
        losses = Losses(start=start, lanes=len(lanes))
        for rows, prepared in self._prepared.items():
            steps = prepared.steps
            losses.add(rows, steps.advance(start, stop, enough))
            if len(self._prepared) > 1:
                params_NP[list(rows)] = steps.params_NP
            for index, row in enumerate(rows):
                state = {name: values[index] for name, values in steps.state.items()}
                lanes[row].remember(OPTIMIZER, state)
        return losses

    def _prepare(self, lanes: Sequence[Lane], params_NP: Tensor, step: int) -> None:
        """Prepare the steps of groups of lanes, and keep those whose lanes are still in the same stages."""
        stages = [lane.stage_at(step) for lane in lanes]
        whole = self._prepared.get(tuple(range(len(lanes))))
        if whole is not None and whole.stages == stages:
            return
        groups: dict[Choice, list[int]] = {}
        for row, stage in enumerate(stages):
            groups.setdefault(stage.optimizer, []).append(row)
        prepared: dict[tuple[int, ...], _Prepared] = {}
        for rows in groups.values():
            own, members = [stages[row] for row in rows], [lanes[row] for row in rows]
            before = self._prepared.pop(tuple(rows), None)
            if before is not None and before.stages != own:
                before = None
                del self._moves[tuple(rows)]
            if before is None:
                params = params_NP if len(groups) == 1 else params_NP[rows]
                before = _Prepared(stages=own, steps=self._steps(lanes, rows, params, step))
                before.note_directions(members)
            prepared[tuple(rows)] = before
        self._prepared = prepared

    def _steps(self, pack: Sequence[Lane], rows: Sequence[int], params_NP: Tensor, step: int) -> Steps:
        """Prepare the next steps of lanes with one base optimiser, whose weights are `params_NP`."""
        lanes = [pack[row] for row in rows]
        stages = [lane.stage_at(step) for lane in lanes]
        options = dict(stages[0].optimizer.options)
        rule = build_rule(stages[0].optimizer.name, options)
        fresh = rule.initial(params_NP)
        kept = [lane.remembered(OPTIMIZER) for lane in lanes]
        state = {
            name: torch.stack([kept[row].get(name, start[row]) for row in range(len(lanes))])
            for name, start in fresh.items()
        }
        pack, batches = list(pack), self._batches
        chosen = None if len(rows) == len(pack) else torch.tensor(rows, device=params_NP.device)

        # Not over `self`, which keeps these steps: on a GPU they are to be gone once they are dropped.
        def batch(step: int) -> Tensor:
            indices = batches.at(step, pack)
            return indices if chosen is None else indices[chosen]

        examples = Examples(
            self._instruments.objective,
            self._instruments.train,
            batch=None if stages[0].full_batch else batch,
            masked=self._masked,
            seeds=[lane.cell.seed for lane in lanes],
        )
        update = Update(
            rule=rule,
            dom_rate_N1=params_NP.new_tensor([[stage.dom_rate] for stage in stages]),
            bulk_rate_N1=params_NP.new_tensor([[stage.bulk_rate] for stage in stages]),
            dominant=dominant_of(
                self._instruments, lanes, step, shares=self._moves[tuple(rows)] <= MOST_MOVES
            ),
            project_gradient=options.get("project") == "gradient",
        )
        return Steps(params_NP=params_NP, state=state, update=update, examples=examples)
