"""How the store names its files; every name carries the attempt that wrote it.

    cells/<cell_id>/attempts/a<attempt>-<token>.json, and a<attempt>.txt where it left a note
    cells/<cell_id>/checkpoints/step-<step>.a<attempt>.safetensors
    cells/<cell_id>/history/part-<start>-<stop>.a<attempt>.parquet
    cells/<cell_id>/manifests/<step>.a<attempt>.json

So a worker that was cut off and comes back cannot overwrite its successor. The files of a commit that ends a
cell say so (`.a<attempt>.end.`): there may be one of the same step and attempt before it, whose files stay
whole until the manifest, which is replaced, names the others. Earlier versions did not tell them apart.
"""

import re

from sweep.errors import StorageError

_CELL_ID = re.compile(r"[A-Za-z0-9_-]+")
_MANIFEST = re.compile(r"(\d{9,})\.a(\d+)\.json")
_CHECKPOINT = re.compile(r"step-(\d{9,})\.a(\d+)(?:\.end)?\.safetensors")
_ATTEMPT = re.compile(r"\.a(\d+)\.")
_RESERVATION = re.compile(r"a(\d+)-[0-9a-f]+\.json")
_END = ".end"


def root_of(cell_id: str) -> str:
    """Return the folder of a cell, relative to the store's root."""
    if not _CELL_ID.fullmatch(cell_id):
        raise StorageError(f"storage: {cell_id!r} is not a cell id (letters, digits, '-' and '_').")
    return f"cells/{cell_id}"


def note_file(cell_id: str, attempt: int) -> str:
    """Return where an attempt leaves its note."""
    return f"{root_of(cell_id)}/attempts/a{attempt}.txt"


def checkpoint_file(cell_id: str, step: int, attempt: int, *, ends: bool) -> str:
    """Return where an attempt puts its state, one that ends the cell or another."""
    return f"{root_of(cell_id)}/checkpoints/step-{step:09d}.a{attempt}{_END if ends else ''}.safetensors"


def part_file(cell_id: str, start: int, stop: int, attempt: int, *, ends: bool) -> str:
    """Return where an attempt puts a part of the history, one with which the cell ends or another."""
    end = _END if ends else ""
    return f"{root_of(cell_id)}/history/part-{start:09d}-{stop:09d}.a{attempt}{end}.parquet"


def manifest_file(cell_id: str, step: int, attempt: int) -> str:
    """Return where a commit's manifest is."""
    return f"{root_of(cell_id)}/manifests/{step:09d}.a{attempt}.json"


def commit_in(name: str) -> tuple[int, int] | None:
    """Return (step, attempt) of a manifest by its name; `None` for another file."""
    return _pair(_MANIFEST.fullmatch(name))


def checkpoint_in(name: str) -> tuple[int, int] | None:
    """Return (step, attempt) of a checkpoint by its name; `None` for another file."""
    return _pair(_CHECKPOINT.fullmatch(name))


def attempt_in(name: str) -> int:
    """Return which attempt wrote a file, by its name; 0 where it does not say."""
    match = _ATTEMPT.search(name)
    return int(match[1]) if match else 0


def reservation_in(name: str) -> int:
    """Return the attempt number that a file reserves, by its name; 0 for another file."""
    match = _RESERVATION.search(name)
    return int(match[1]) if match else 0


def _pair(match: re.Match[str] | None) -> tuple[int, int] | None:
    return (int(match[1]), int(match[2])) if match else None
