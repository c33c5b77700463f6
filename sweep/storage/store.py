"""Commits of cells: written by the attempt that trains, read by the next attempt and by the recorder.

    cells/<cell_id>/attempts/a<attempt>-<token>.json, and a<attempt>.txt where it left a note
    cells/<cell_id>/checkpoints/step-<step>.a<attempt>.safetensors
    cells/<cell_id>/history/part-<start>-<stop>.a<attempt>.parquet
    cells/<cell_id>/manifests/<step>.a<attempt>.json

Every name carries the attempt, so a worker that was cut off and comes back cannot overwrite its successor.
"""

import json
import random
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from sweep.errors import StorageError, StorageUnavailableError
from sweep.storage.files import INTACT, TEMPORARY_SUFFIX, Files, below, open_files
from sweep.storage.manifest import (
    Manifest,
    Part,
    StoredFile,
    decode_manifest,
    encode_manifest,
    manifest_file,
)
from sweep.storage.parts import decode_part, encode_part, join_parts
from sweep.storage.stop_marks import StopMarks

FORMAT_FILE = "storage.json"
APART = "apart"
FORMAT = {"format": "sharpflat-storage", "version": 1}
_CELL_ID = re.compile(r"[A-Za-z0-9_-]+")
_MANIFEST = re.compile(r"(\d{9,})\.a(\d+)\.json")
_CHECKPOINT = re.compile(r"step-(\d{9,})\.a(\d+)\.safetensors")
_ATTEMPT = re.compile(r"\.a(\d+)\.")
_RESERVATION = re.compile(r"a(\d+)-[0-9a-f]+\.json")
_RESERVATION_TRIES = 20


class Storage:
    """The checkpoint store of any number of cells. Cheap to open; safe to use from several threads."""

    def __init__(self, files: Files) -> None:
        self._files = files

    @classmethod
    def open(cls, place: str | Path, *, create: bool = True) -> "Storage":
        """Open a folder or URI.

        Args:
            place: A path, a file: URI, or a URI that pyarrow knows (s3://bucket/prefix).
            create: Make the store where there is none, and find out whether it can be written.

        Raises:
            StorageUnavailableError: It cannot be opened or written, or holds another format.
        """
        files = open_files(place)
        try:
            found = files.get(FORMAT_FILE)
            if found is not None and _format_of(found) != FORMAT:
                raise StorageUnavailableError(
                    f"storage {files.place} holds another format ({FORMAT_FILE} is not "
                    f"{json.dumps(FORMAT)}); choose another --storage."
                )
            if create:
                # Written again where it exists, with equal bytes: that is the test of whether one may write.
                files.put(FORMAT_FILE, json.dumps(FORMAT).encode())
        except StorageUnavailableError:
            raise
        except StorageError as error:
            raise StorageUnavailableError(str(error).removesuffix(INTACT)) from error
        return cls(files)

    def apart(self, name: str, *, create: bool = True) -> "Storage":
        """Return a store of its own inside this one, for a sweep that shares nothing."""
        return Storage.open(below(self._files.place, f"{APART}/{name}"), create=create)

    @property
    def place(self) -> str:
        """The root as text: `Storage.open(storage.place)` gives the same store in another process."""
        return self._files.place

    def stops(self, sweep: str) -> StopMarks:
        """Return the requests of a sweep, by its run id, to stop single cells."""
        return StopMarks(self._files, sweep)

    def begin_attempt(self, cell_id: str) -> int:
        """Reserve the next attempt number; no two callers get the same one, on any file system."""
        folder = f"{_root(cell_id)}/attempts"
        for trial in range(_RESERVATION_TRIES):
            attempt, token = self.next_attempt(cell_id), secrets.token_hex(8)
            mine = f"a{attempt}-{token}.json"
            self._files.put(f"{folder}/{mine}", json.dumps({"attempt": attempt}).encode())
            rivals = [name for name, _ in self._files.names(folder) if name.startswith(f"a{attempt}-")]
            if rivals == [mine]:
                return attempt
            # Of two that write at once at least one sees the other; who sees a rival takes a later number.
            time.sleep(random.uniform(0, 0.01 * 2 ** min(trial, 6)))
        raise StorageError(
            f"storage: no attempt number to be had for cell {cell_id}: too many start it at once."
        )

    def leave_note(self, cell_id: str, text: str) -> None:
        """Store how the cell's newest attempt ended, for whoever finds it dead."""
        attempt = self.next_attempt(cell_id) - 1
        self._files.put(_note(cell_id, attempt), text.encode())

    def note(self, cell_id: str) -> str | None:
        """Return the note of the cell's newest attempt, if it left one."""
        data = self._files.get(_note(cell_id, self.next_attempt(cell_id) - 1))
        return None if data is None else data.decode(errors="replace")

    def next_attempt(self, cell_id: str) -> int:
        """Return 1 + the highest attempt number in any file name of the cell; reserves nothing."""
        highest = 0
        for folder in ("checkpoints", "history", "manifests"):
            for name, _ in self._files.names(f"{_root(cell_id)}/{folder}"):
                highest = max(highest, _attempt_of(name))
        for name, _ in self._files.names(f"{_root(cell_id)}/attempts"):
            if match := _RESERVATION.search(name):
                highest = max(highest, int(match[1]))
        return highest + 1

    def commit(
        self,
        cell_id: str,
        *,
        attempt: int,
        step: int,
        checkpoint: bytes | None,
        part: pa.Table | None,
        start: int | None = None,
        previous: Manifest | None,
        outcome: dict[str, Any] | None = None,
        summary: dict[str, Any] | None = None,
    ) -> Manifest:
        """Make a state and the history up to it durable; the manifest is written last.

        Args:
            cell_id: The cell.
            attempt: The writer's number, from `begin_attempt`.
            step: Updates done; also the `stop` of the part.
            checkpoint: The state; `None` keeps that of `previous` where its step is the same, else none.
            part: The history since `previous`, or the whole history where `previous` is `None`.
            start: First step of the part; where `previous` ended (or 0) when left out.
            previous: The commit that this one goes on from; its parts are listed again.
            outcome: How the cell ended (`status`, `reason`), when it did.
            summary: Finals so far and further facts, JSON values.

        Returns:
            The new manifest.

        Raises:
            StorageError: Something could not be written; the previous commit is still the newest.
        """
        root = _root(cell_id)
        parts = previous.parts if previous else ()
        stored = previous.checkpoint if previous and previous.step == step else None
        if checkpoint is not None:
            fresh = StoredFile.of(f"{root}/checkpoints/step-{step:09d}.a{attempt}.safetensors", checkpoint)
            # An equal file is not written again: the earlier manifest names it.
            if fresh != stored:
                self._files.put(fresh.file, checkpoint)
            stored = fresh
        if part is not None:
            end = parts[-1].stop if parts else 0
            start = end if start is None else start
            if start != end and parts:
                raise StorageError(
                    f"storage: cell {cell_id}: the history ends at step {end} and goes on at {start}."
                )
            data = encode_part(part)
            file = f"{root}/history/part-{start:09d}-{step:09d}.a{attempt}.parquet"
            listed = StoredFile.of(file, data)
            self._files.put(file, data)
            parts = (*parts, Part(stored=listed, start=start, stop=step))
        manifest = Manifest(
            cell_id=cell_id,
            step=step,
            attempt=attempt,
            checkpoint=stored,
            parts=parts,
            outcome=outcome,
            summary=summary or {},
        )
        self._files.put(manifest.file, encode_manifest(manifest))
        return manifest

    def latest(self, cell_id: str, *, max_step: int | None = None) -> tuple[Manifest | None, list[str]]:
        """Return the newest commit that is intact (every digest verified), and what was found damaged.

        Args:
            cell_id: The cell.
            max_step: Ignores commits after this step.

        Returns:
            The manifest, or `None`; and one line per damaged commit that was passed over.
        """
        problems: list[str] = []
        for step, attempt in self._commits(cell_id):
            if max_step is not None and step > max_step:
                continue
            try:
                manifest = self.manifest(cell_id, step, attempt)
                self.verify(manifest)
            except StorageError as error:
                problems.append(f"{error} The commit before it is used.")
            else:
                return manifest, problems
        return None, problems

    def manifest(self, cell_id: str, step: int, attempt: int) -> Manifest:
        """Read one manifest; only its own digest is verified.

        Raises:
            StorageError: It is missing or damaged.
        """
        file = manifest_file(cell_id, step, attempt)
        data = self._files.get(file)
        if data is None:
            raise StorageError(f"storage: manifest {file} is missing.")
        manifest = decode_manifest(data, file)
        if manifest.file != file:
            raise StorageError(f"storage: manifest {file} is that of another commit, {manifest.file}.")
        return manifest

    def manifests(self, cell_id: str) -> Iterator[Manifest]:
        """Iterate over the manifests that can be read, newest first; their files are not verified."""
        for step, attempt in self._commits(cell_id):
            try:
                yield self.manifest(cell_id, step, attempt)
            except StorageError:
                # Whoever needs it asks `latest`, which reports it.
                continue

    def verify(self, manifest: Manifest) -> None:
        """Read all files of a commit and compare their digests.

        Raises:
            StorageError: One is missing or altered; the message names it.
        """
        if manifest.checkpoint is not None:
            self._verified(manifest.checkpoint)
        for part in manifest.parts:
            self._verified(part.stored)

    def read_checkpoint(self, manifest: Manifest) -> bytes:
        """Return the committed state, its digest verified."""
        if manifest.checkpoint is None:
            raise StorageError(f"storage: commit {manifest.file} kept no checkpoint.")
        return self._verified(manifest.checkpoint)

    def read_part(self, part: Part) -> bytes:
        """Return a part's bytes (a Parquet file), their digest verified."""
        return self._verified(part.stored)

    def read_parts(self, manifest: Manifest, *, from_step: int = 0) -> pa.Table:
        """Return the committed history, digests verified, without the parts that end before `from_step`."""
        wanted = [part for part in manifest.parts if part.stop >= from_step]
        return join_parts([decode_part(self.read_part(part), part.stored.file) for part in wanted])

    def prune(self, cell_id: str, keep: int = 2, *, needed: int | None = None) -> int:
        """Remove what is `superfluous`; returns the bytes freed."""
        doomed = self.superfluous(cell_id, keep, needed=needed)
        for file in doomed:
            self._files.delete(file)
        return sum(doomed.values())

    def superfluous(self, cell_id: str, keep: int = 2, *, needed: int | None = None) -> dict[str, int]:
        """Return the files that the newest `keep` readable commits make superfluous, with their sizes.

        The newest are those of the latest steps, and those of the latest attempt and before it: where files
        of the former are damaged, an attempt begins at an earlier step. Parts that a kept manifest lists
        stay. Files of a commit that is being written (of a later step, or a later attempt than the newest
        kept one) stay too, and so does the commit of the step `needed`. Once the cell has ended, parts that
        nothing lists are removed.
        """
        commits = self._commits(cell_id)
        readable = list(self.manifests(cell_id))
        if not readable:
            return {}
        newest, latest = readable[0], max(readable, key=lambda one: (one.attempt, one.step))
        kept = [
            *readable[:keep],
            *[one for one in readable if one.attempt == latest.attempt][:keep],
            *[one for one in readable if one.step <= latest.step][:keep],
            *[one for one in readable if one.step == needed][:1],
        ]
        oldest = min(kept, key=lambda one: (one.step, one.attempt))
        ended = newest.outcome is not None
        listed = {file for manifest in kept for file in manifest.files}
        root, doomed = _root(cell_id), dict[str, int]()
        # Manifests go first: one without its files would be reported as damaged.
        sizes = dict(self._files.names(f"{root}/manifests"))
        unkept = {one.file for one in readable} - {one.file for one in kept}
        for step, attempt in commits:
            file = manifest_file(cell_id, step, attempt)
            if file in unkept or (step, attempt) < (oldest.step, oldest.attempt):
                doomed[file] = sizes.get(file.rpartition("/")[2], 0)
        for name, size in self._files.names(f"{root}/checkpoints"):
            file, match = f"{root}/checkpoints/{name}", _CHECKPOINT.fullmatch(name)
            if match and file not in listed:
                step, attempt = int(match[1]), int(match[2])
                if ended or step < (latest.step if attempt == latest.attempt else oldest.step):
                    doomed[file] = size
        for folder in ("history", "checkpoints", "manifests"):
            for name, size in self._files.names(f"{root}/{folder}"):
                file = f"{root}/{folder}/{name}"
                stale = ended or _attempt_of(name) < latest.attempt
                temporary = name.endswith(TEMPORARY_SUFFIX)
                if stale and (temporary or (ended and folder == "history" and file not in listed)):
                    doomed[file] = size
        return doomed

    def forget(self, cell_id: str, step: int) -> int:
        """Remove the commits of a cell at one step, with the files that no other commit of it lists.

        A commit that points to another cell's state stays: a longer run finds that cell's end by it.

        Returns:
            The bytes freed.
        """
        manifests = list(self.manifests(cell_id))
        own = f"{_root(cell_id)}/"
        gone = [manifest for manifest in manifests if manifest.step == step and not manifest.points_elsewhere]
        kept = {file for manifest in manifests if manifest not in gone for file in manifest.files}
        files = {file for manifest in gone for file in manifest.files if file.startswith(own)}
        sizes = dict(self._files.sizes(_root(cell_id)))
        # Manifests go first: one without its files would be reported as damaged.
        doomed = [*(manifest.file for manifest in gone), *sorted(files - kept)]
        for file in doomed:
            self._files.delete(file)
        return sum(sizes.get(file, 0) for file in doomed)

    def delete(self, cell_id: str) -> int:
        """Remove all that is stored of a cell; returns the bytes freed."""
        freed = self.usage(cell_id)
        # Manifests go first: one without its files would be reported as damaged.
        self._files.delete_folder(f"{_root(cell_id)}/manifests")
        self._files.delete_folder(_root(cell_id))
        return freed

    def clear(self) -> None:
        """Remove all that is stored, of every cell."""
        self._files.delete_folder("cells")

    def usage(self, cell_id: str | None = None) -> int:
        """Return the bytes stored for a cell, or for all."""
        return sum(size for _, size in self._files.sizes("cells" if cell_id is None else _root(cell_id)))

    def inventory(self) -> dict[str, int]:
        """Return every address that something is stored under, with its bytes."""
        found: dict[str, int] = {}
        for path, size in self._files.sizes("cells"):
            address = path.split("/")[1]
            found[address] = found.get(address, 0) + size
        return found

    def _commits(self, cell_id: str) -> list[tuple[int, int]]:
        """Return (step, attempt) of every manifest, newest first."""
        names = (name for name, _ in self._files.names(f"{_root(cell_id)}/manifests"))
        matches = (_MANIFEST.fullmatch(name) for name in names)
        return sorted(((int(match[1]), int(match[2])) for match in matches if match), reverse=True)

    def _verified(self, stored: StoredFile) -> bytes:
        data = self._files.get(stored.file)
        if data is None:
            raise StorageError(f"storage: {stored.file} is missing.")
        if not stored.matches(data):
            raise StorageError(
                f"storage: {stored.file} is damaged: {len(data)} bytes whose digest is not the one committed "
                f"({stored.size} bytes)."
            )
        return data


def _note(cell_id: str, attempt: int) -> str:
    return f"{_root(cell_id)}/attempts/a{attempt}.txt"


def _root(cell_id: str) -> str:
    if not _CELL_ID.fullmatch(cell_id):
        raise StorageError(f"storage: {cell_id!r} is not a cell id (letters, digits, '-' and '_').")
    return f"cells/{cell_id}"


def _attempt_of(name: str) -> int:
    match = _ATTEMPT.search(name)
    return int(match[1]) if match else 0


def _format_of(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None
