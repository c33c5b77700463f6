"""The manifest: what a commit made durable, by name, size and digest. Written last; JSON.

Paths are relative to the store's root, so that a cell forked from another may list the other's parts.
"""

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from sweep.errors import StorageDamagedError
from sweep.storage.layout import manifest_file

SCHEMA_VERSION = 1
_PATH = re.compile(r"cells/[A-Za-z0-9_-]+/(checkpoints|history)/[A-Za-z0-9_-][A-Za-z0-9._-]*")
_NON_FINITE = "non-finite"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file of the store.

    Args:
        file: Path relative to the store's root.
        sha256: Hex digest of its bytes.
        size: Bytes.
    """

    file: str
    sha256: str
    size: int

    @classmethod
    def of(cls, file: str, data: bytes) -> "StoredFile":
        """Describe `data` under the name `file`."""
        return cls(file=file, sha256=hashlib.sha256(data).hexdigest(), size=len(data))

    def matches(self, data: bytes) -> bool:
        """Whether `data` are the bytes that were stored."""
        return len(data) == self.size and hashlib.sha256(data).hexdigest() == self.sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a history: rows with start <= step < stop; the last part of an ended cell includes `stop`."""

    stored: StoredFile
    start: int
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One commit.

    Args:
        cell_id: Whose.
        step: Updates done.
        attempt: Which attempt wrote it.
        checkpoint: The lane's state, or `None` where none was kept.
        parts: The whole history so far, contiguous from its first step.
        outcome: How the cell ended (`status`, `reason`, …), or `None` while it runs.
        summary: Finals so far and further facts of the writer's; JSON values and non-finite floats.
    """

    cell_id: str
    step: int
    attempt: int
    checkpoint: StoredFile | None
    parts: tuple[Part, ...]
    outcome: dict[str, Any] | None = None
    summary: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def file(self) -> str:
        """Where the manifest itself is stored."""
        return manifest_file(self.cell_id, self.step, self.attempt)

    @property
    def files(self) -> list[str]:
        """The files that the commit lists."""
        checkpoint = [] if self.checkpoint is None else [self.checkpoint.file]
        return [*(part.stored.file for part in self.parts), *checkpoint]

    @property
    def points_elsewhere(self) -> bool:
        """Whether its state is a file of another address."""
        return self.checkpoint is not None and self.checkpoint.file.split("/")[1] != self.cell_id


def encode_manifest(manifest: Manifest) -> bytes:
    """Write a manifest with its own digest."""
    facts = {
        "schema": SCHEMA_VERSION,
        "cell_id": manifest.cell_id,
        "step": manifest.step,
        "attempt": manifest.attempt,
        "checkpoint": asdict(manifest.checkpoint) if manifest.checkpoint else None,
        "parts": [{**asdict(part.stored), "start": part.start, "stop": part.stop} for part in manifest.parts],
        "outcome": _to_json(manifest.outcome),
        "summary": _to_json(manifest.summary),
    }
    return json.dumps({**facts, "sha256": _digest(facts)}, sort_keys=True, allow_nan=False).encode()


def decode_manifest(data: bytes, name: str) -> Manifest:
    """Read a manifest.

    Raises:
        StorageDamagedError: It is truncated, altered, of another schema, or names files outside the store.
    """
    try:
        facts = json.loads(data)
        if not isinstance(facts, dict):
            raise TypeError("expected a JSON object")
        digest = facts.pop("sha256")
        if _digest(facts) != digest:
            raise ValueError("its digest does not match its content")
        if facts["schema"] != SCHEMA_VERSION:
            raise ValueError(f"schema {facts['schema']!r}; this version reads {SCHEMA_VERSION}")
        checkpoint = facts["checkpoint"]
        return Manifest(
            cell_id=str(facts["cell_id"]),
            step=int(facts["step"]),
            attempt=int(facts["attempt"]),
            checkpoint=_stored(checkpoint) if checkpoint is not None else None,
            parts=tuple(
                Part(stored=_stored(part), start=int(part["start"]), stop=int(part["stop"]))
                for part in facts["parts"]
            ),
            outcome=_from_json(facts["outcome"]),
            summary=_from_json(facts["summary"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StorageDamagedError(f"storage: manifest {name} is damaged: {error}.") from error


def _stored(facts: dict[str, Any]) -> StoredFile:
    file = facts["file"]
    if not isinstance(file, str) or not _PATH.fullmatch(file):
        raise ValueError(f"{file!r} is not a file of the store")
    return StoredFile(file=file, sha256=str(facts["sha256"]), size=int(facts["size"]))


def _digest(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _to_json(value: Any) -> Any:
    """Replace non-finite floats, which JSON lacks, by a marked text."""
    if isinstance(value, float) and not math.isfinite(value):
        return {_NON_FINITE: repr(value)}
    if isinstance(value, dict):
        return {str(key): _to_json(item) for key, item in cast("dict[Any, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_to_json(item) for item in cast("list[Any]", value)]
    return value


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        mapping = cast("dict[str, Any]", value)
        if set(mapping) == {_NON_FINITE}:
            return float(mapping[_NON_FINITE])
        return {key: _from_json(item) for key, item in mapping.items()}
    if isinstance(value, list):
        return [_from_json(item) for item in cast("list[Any]", value)]
    return value
