"""Long trainings on a machine that is lent for minutes: in pieces, from checkpoint to checkpoint.

Each pack's lanes are kept as checkpoints in a folder, with a line for each piece: from which step to which,
in how many seconds of training, on what. A further call goes on where the last one ended.
"""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.timing import finish
from trainers.cell import Cell
from trainers.checkpoint import decode, encode
from trainers.data import Dataset
from trainers.training import Trainer

STEPS_A_LOOK = 100
"""Steps between two looks at the clock."""


def packs_of(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Group cells by shape."""
    packs: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        packs.setdefault(cell.shape, []).append(cell)
    return [*packs.values()]


def train_a_piece(
    cells: Sequence[Cell],
    data: Dataset,
    folder: Path,
    *,
    device: str,
    seconds: float,
    watch: Callable[[Trainer], dict[str, Any]],
) -> dict[str, Any]:
    """Train one pack for about so long, or to its end.

    Args:
        cells: The pack.
        data: Their data set.
        folder: Of this pack's checkpoints.
        device: Torch device.
        seconds: Of training.
        watch: What else to note about a piece.

    Returns:
        `pieces`, so far, and of each lane its outcome, finals and counts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "pieces.json"
    pieces: list[dict[str, Any]] = json.loads(log.read_text()) if log.exists() else []
    trainer = Trainer(cells, data=data, device=device)
    files = [folder / f"{index}.lane" for index in range(len(cells))]
    if pieces:
        trainer.restore([decode(file.read_bytes()) for file in files])
    start = trainer.step
    finish(device)
    begun = time.perf_counter()
    while seconds > 0 and not trainer.finished:
        trainer.advance(trainer.step + STEPS_A_LOOK)
        finish(device)
        if time.perf_counter() - begun >= seconds:
            break
    spent = time.perf_counter() - begun
    if trainer.step > start:
        pieces.append({"start": start, "stop": trainer.step, "seconds": spent} | watch(trainer))
        for index, file in enumerate(files):
            file.write_bytes(encode(trainer.state(index)))
        log.write_text(json.dumps(pieces))
    lanes = [
        {
            "outcome": None if lane.outcome is None else lane.outcome.status,
            "finals": lane.finals,
            "columns": lane.columns,
            "refreshes": lane.refreshes,
            "unconverged": lane.unconverged,
        }
        for lane in trainer.lanes
    ]
    return {
        "lanes": lanes,
        "steps": trainer.step,
        "seconds": sum(piece["seconds"] for piece in pieces),
        "finished": trainer.finished,
        "pieces": pieces,
    }
