"""Divergence: when a run has left for good. An outcome, not an error.

The papers show diverged cells without defining them. This rule belongs to the trajectory, because it ends it:

- the minibatch loss or the full training loss is not finite, at once;
- the full training loss, measured every `divergence_every` steps, exceeds `divergence_factor` times its value
  at step 0 (of a loss that begins below 0, as one's own may, by `divergence_factor` - 1 times its magnitude;
  of one that begins at 0 there is no multiple);
- at the end, the full training loss is above its value at step 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a lane ended.

    Args:
        status: "completed", "diverged", or "stopped" where somebody asked for it.
        reason: Empty for a completed lane.
        step: The step at which it ended.
    """

    status: str
    reason: str
    step: int


@dataclass(slots=True, kw_only=True)
class DivergenceDetector:
    """The rule with its memory: the initial loss, and how far the loss has been above it.

    Args:
        factor: Multiple of the initial loss above which a run has diverged.
        initial_loss: Full training loss at step 0; `None` before it is known.
        peak: The largest finite loss that was judged before the last step, in initial losses.
    """

    factor: float
    initial_loss: float | None = None
    peak: float = 1.0

    def judge_batches(self, losses: Sequence[float], start: int) -> Outcome | None:
        """Judge the minibatch losses of consecutive steps."""
        for step, loss in enumerate(losses, start):
            if not math.isfinite(loss):
                return Outcome(status="diverged", reason="the minibatch loss is not finite", step=step)
        return None

    def judge_loss(self, loss: float, step: int, *, last: bool) -> Outcome | None:
        """Judge a full training loss; the first one is remembered."""
        if not math.isfinite(loss):
            return Outcome(status="diverged", reason="the training loss is not finite", step=step)
        if self.initial_loss is None:
            self.initial_loss = loss
            return None
        if self.initial_loss > 0 and not last:
            # A longer run need not be judged where this one ends.
            self.peak = max(self.peak, loss / self.initial_loss)
        if self.initial_loss != 0 and loss > self._limit(self.initial_loss):
            reason = f"the training loss exceeds {self.factor:g} times its initial value"
            return Outcome(status="diverged", reason=reason, step=step)
        if last and loss > self.initial_loss:
            return Outcome(
                status="diverged", reason="the final training loss is above its initial value", step=step
            )
        return None

    def _limit(self, initial: float) -> float:
        return self.factor * initial if initial > 0 else initial + (self.factor - 1) * -initial
