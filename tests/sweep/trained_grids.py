"""Small grids that share cells, trained in this process into a real store and a real record."""

from pathlib import Path

from search_spaces import load_space_text
from sweep.cell_records import CellRecords
from sweep.forks import plan_sharing
from sweep.grid_table import grid_table
from sweep.lease import Lease
from sweep.ledger import Ledger, Sweep
from sweep.names import Status
from sweep.pack import Pack
from sweep.places import Places
from sweep.plan import Plan, make_plan
from sweep.recorder import Recorder
from sweep.storage import Storage

TEXT = """
name: NAME
description: A trunk and its branches.
base:
  model: {name: mlp, widths: [4]}
  dataset: mnist-5k
  holdout_size: 50
  evaluate_every: 20
  divergence_every: 20
  phases: [{lr: 0.05, until: SWITCH}, {lr: 0.05, alpha_dom: .inf, until: 40}]
axes:
  k: [2]
  seed: SEEDS
reports:
  - {kind: curves, name: curves, lines: [k]}
"""


def space(name: str, seeds: str = "[0, 1]", switch: int = 20) -> str:
    return TEXT.replace("NAME", name).replace("SEEDS", seeds).replace("SWITCH", str(switch))


class Store:
    """An MLflow and a checkpoint store, and grids that are trained in this process."""

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self.places = Places(
            home=folder,
            tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
            storage=str(folder / "storage"),
            data_folder=folder / "data",
        )
        self.ledger = ledger
        self.storage = Storage.open(self.places.storage)

    def run(self, text: str, *, cells: int | None = None) -> tuple[Sweep, Plan]:
        """Train and record a space, or its first cells."""
        loaded = load_space_text(text)
        plan = make_plan(loaded)
        table = grid_table(plan.grids, plan.axes, plan.cell_ids)
        sweep = self.ledger.open_sweep(loaded, table)
        sharing = plan_sharing(plan.cells)
        with Lease.acquire(self.ledger, sweep) as lease:
            self.ledger.write_plan(sweep, loaded, table)
            recorder = Recorder(
                CellRecords(
                    self.ledger,
                    self.storage,
                    sweep,
                    lease,
                    describe=lambda cell_id: (plan.cells[cell_id], plan.axes_of(cell_id)),
                    runs=self.ledger.lookup(list(plan.cells), sweep),
                )
            )
            done = recorder.reconcile(list(plan.cells))
            recorder.start()
            for cell_id in list(plan.cells)[:cells]:
                if cell_id in done:
                    continue
                leaves = [fork.step for fork in sharing[cell_id].leaves]
                pack = Pack(
                    [plan.cells[cell_id]],
                    self.storage,
                    data_folder=self.places.data_folder,
                    leaves=[leaves],
                )
                pack.train(60.0)
                (committed,) = pack.commit()
                recorder.submit(cell_id, step=committed.step, attempt=committed.attempt)
            assert recorder.drain(60.0) == []
            recorder.close()
        return sweep, plan

    def statuses(self, plan: Plan) -> list[Status]:
        return [run.status for run in self.ledger.lookup(list(plan.cells)).values()]
