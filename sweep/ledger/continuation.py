"""Whether a plan goes on with what a sweep has: what must not be lost, and why it would be."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from mlflow.entities import Run

from sweep import names
from sweep.errors import SweepExistsError
from sweep.invocation import REMOVES, hint
from sweep.names import Status
from trainers.canonical import NUMERICS_VERSION
from trainers.data import DATASETS
from trainers.errors import ConfigError
from trainers.models.user import source_digest
from trainers.probes.user import source_digest as probe_digest

POINTS_SHOWN = 3


class SpaceLike(Protocol):
    """What the ledger needs of a search space."""

    @property
    def name(self) -> str:
        """The sweep's name."""
        ...

    @property
    def description(self) -> str:
        """Markdown."""
        ...

    @property
    def text(self) -> str:
        """YAML that loads to an equal space."""
        ...

    @property
    def sha256(self) -> str:
        """Digest of `text`."""
        ...

    @property
    def recorded_sha256(self) -> str:
        """Digest of the text that a sweep had stored, where it was read from that; empty elsewhere."""
        ...


def has_result(run: Run) -> bool:
    """Whether a cell's run has something that must not be lost: an end, or a history to be gone on with.

    What has failed has neither: its cause may be in what was changed since.
    """
    told = run.data.tags.get(names.TAG_STATUS)
    ended = any(status.ended for status in Status if status.value == told)
    return ended or (told != Status.FAILED.value and run.data.tags.get(names.TAG_RECORDED_UNTIL, "0") != "0")


def refusal(
    sweep: str,
    points: Sequence[str],
    changed: Sequence[str],
    given: Mapping[str, str],
    *,
    is_same_space: bool = False,
) -> SweepExistsError:
    """Say which results a plan lacks, and what to do.

    Args:
        sweep: The sweep's name.
        points: Its grid points, one line each.
        changed: Files of the user's own that are others since then.
        given: The options about places of this command.
        is_same_space: Whether the plan is of the space that the sweep has.
    """
    shown = "".join(f"\n  {line}" for line in points[:POINTS_SHOWN])
    more = f"\n  and {len(points) - POINTS_SHOWN} more" if len(points) > POINTS_SHOWN else ""
    if changed:
        why = f"Changed since then, which makes other cells of them: {', '.join(changed)}."
    elif is_same_space:
        why = (
            "This version of sharpflat has other addresses for these cells, or refuses them. With "
            "--accept-version they are run anew, as far as they are cells (the old runs stay in MLflow)."
        )
    else:
        why = "To keep them, keep the old axis values."
    return SweepExistsError(
        f"sweep {sweep!r} exists and has {len(points)} grid points with results that the new plan lacks:"
        f"{shown}{more}\n{why} Nothing was changed. Choose another name (sweep run SPACE --name NAME), or "
        f"give these results up: {hint('delete', sweep, given=given, options=REMOVES)}"
    )


def other_version(sweep: str, begun: str) -> SweepExistsError:
    """Say that a sweep was begun under another version of the trainer's numerics, and what to do.

    Args:
        sweep: The sweep's name.
        begun: That version.
    """
    return SweepExistsError(
        f"sweep {sweep!r} was begun under version {begun} of the trainer's numerics; this is version "
        f"{NUMERICS_VERSION}, which gives other numbers. With --accept-version all its cells are run again "
        "under this one (the old runs stay in MLflow); or choose another name with --name. Nothing was "
        "changed."
    )


def changed_files(document: bytes | None) -> list[str]:
    """Return the paths of the user's own files that are not what they were when a cell was run.

    Args:
        document: Its `cell.json`, if there is one.
    """
    found: list[str] = []
    for path, then, now in [] if document is None else _files(json.loads(document)):
        try:
            if now(path) != then:
                found.append(path)
        except ConfigError:
            found.append(f"{path} (it cannot be read)")
    return list(dict.fromkeys(found))


def _files(document: dict[str, Any]) -> Iterator[tuple[str, str, Callable[[str], str]]]:
    """Yield path and recorded digest of each file of the user's own, and what gives its digest now."""
    canonical, stated = document["canonical"], document["stated"]
    if "source_digest" in canonical:
        yield stated["model"]["path"], canonical["source_digest"], _model_digest
    if stated["dataset"]["name"] == "file":
        yield stated["dataset"]["path"], canonical["data_digest"], _data_digest
    for probe in canonical["record"]["probes"]:
        if "path" in probe:
            yield probe["path"], probe["digest"], probe_digest


def _model_digest(path: str) -> str:
    return source_digest({"path": path})


def _data_digest(path: str) -> str:
    sizes = DATASETS["file"].sizes
    assert sizes is not None, "data of the user's own are known by their file"
    return sizes({"path": path})["digest"]
