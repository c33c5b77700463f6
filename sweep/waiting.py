"""Waiting for cells that other sweeps run, without holding anything that they may be waiting for."""

from collections.abc import Callable, Collection

from sweep.claims import Claims
from sweep.errors import LeaseLostError, LedgerError
from sweep.lease import Lease
from sweep.ledger import Ledger, Sweep
from sweep.plan import Plan
from sweep.progress import count_of
from sweep.spending import Spending
from sweep.stopping import AS_ASKED, Stop

SECONDS_BETWEEN_LOOKS = 3.0
"""How often a driver that waits for cells of another sweep looks how they stand."""


class Waiting:
    """Waits while this driver has nothing to train.

    Args:
        plan: All cells of the sweep.
        sweep: The sweep.
        ledger: Its record, looked at for requests to stop.
        lease: Its lease.
        claims: Whose cells are; `None` for a sweep that shares nothing, and waits for nobody.
        spending: What the command has taken; this time counts too.
        stop: Ends the waiting.
        say: Prints a line.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        sweep: Sweep,
        ledger: Ledger,
        lease: Lease,
        claims: Claims | None,
        spending: Spending,
        stop: Stop,
        say: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._sweep = sweep
        self._ledger = ledger
        self._lease = lease
        self._claims = claims
        self._spending = spending
        self._stop = stop
        self._say = say

    def pause(self) -> None:
        """Let some time pass, unless somebody asks to stop."""
        self._stop.wait(SECONDS_BETWEEN_LOOKS)

    def wait_for(self, cells: Collection[str]) -> None:
        """Wait until all of these cells, which other sweeps were running, have ended, or one is free."""
        assert self._claims is not None, "only a sweep that shares waits for others"
        left, is_behind = set(cells), False
        while not self._stop.asked():
            try:
                self._lease.check()
                if self._ledger.requests(self._sweep).stop:
                    self._stop.ask(AS_ASKED)
                self._spending.keep()
                held = self._claims.others(left)
                left -= {
                    cell for cell, run in self._ledger.lookup(left, self._sweep).items() if run.status.ended
                }
                if not left or not left <= held.keys():
                    return
                if not is_behind:
                    # Whoever waits holds nothing, not even what has failed here: others may wait for that.
                    self._claims.queue(list(self._plan.cells))
                    is_behind = True
                    who = ", ".join(repr(name) for name in sorted({held[cell] for cell in left}))
                    many = count_of(len(left), "cell")
                    self._say(f"waiting for {many} that sweep {who} is running; Ctrl-C stops the waiting")
            except LedgerError as error:
                if not error.transient:
                    raise
                # MLflow is away; the others wait for it too.
            except LeaseLostError:
                self._stop.ask("because another process has taken over")
            self.pause()
