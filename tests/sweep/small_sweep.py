"""A space, a cell and a plan small enough to be written down, and a ledger in a folder."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import sqlalchemy

from sweep.grid_table import grid_table
from sweep.ledger import Ledger, Sweep
from sweep.names import PARAM_LEASE_PREFIX
from trainers.canonical import cell_id
from trainers.cell import Cell, Phase
from trainers.options import Choice


@dataclass(frozen=True)
class FakeSpace:
    name: str = "little"
    description: str = "A *little* space."
    text: str = "name: little\n"
    recorded_sha256: str = ""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def make_cell(lr: float = 0.1, *, seed: int = 0, alpha_dom: float = math.inf) -> Cell:
    return Cell(
        model=Choice("mlp"),
        dataset=Choice("mnist-5k"),
        seed=seed,
        phases=(Phase(lr=lr, until=20), Phase(lr=lr, alpha_dom=alpha_dom, k=3, until=100)),
    )


def make_plan(*lrs: float) -> pa.Table:
    return grid_table(["grid"] * len(lrs), [{"lr": lr} for lr in lrs], [cell_id(make_cell(lr)) for lr in lrs])


def open_ledger(folder: Path) -> Ledger:
    return Ledger.open(f"sqlite:///{folder / 'mlflow.db'}", artifacts_root=folder / "artifacts")


def take_over(ledger: Ledger, sweep: Sweep, epoch: int, holder: str = "another") -> None:
    """Write the lease of an epoch as another process would, past this one's fence."""
    key, uri = f"{PARAM_LEASE_PREFIX}{epoch}", ledger.client.tracking_uri
    if uri.startswith("http"):
        ledger.client.log_param(sweep.run_id, key, holder)
        return
    # A connection of its own: MLflow's clients of one database share theirs.
    engine = sqlalchemy.create_engine(uri)
    with engine.begin() as connection:
        insert = "insert into params (key, value, run_uuid) values (:key, :holder, :run_id)"
        connection.execute(sqlalchemy.text(insert), {"key": key, "holder": holder, "run_id": sweep.run_id})
    engine.dispose()


def history(start: int, stop: int, *, last: bool = False, every: int = 10) -> pa.Table:
    steps = list(range(start, stop + (1 if last else 0)))
    evaluated = [step % every == 0 for step in steps]
    return pa.table(
        {
            "step": steps,
            "timestamp_ms": [
                1_000_000 + 7 * step if at else None for step, at in zip(steps, evaluated, strict=True)
            ],
            "train/batch_loss": [1.0 / (1 + step) for step in steps],
            "train/loss": [
                2.0 / (1 + step) if at else None for step, at in zip(steps, evaluated, strict=True)
            ],
            "curvature/chi": [
                math.nan if step == 20 else 0.5 if at else None
                for step, at in zip(steps, evaluated, strict=True)
            ],
        }
    )
