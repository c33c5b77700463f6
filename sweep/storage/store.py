"""Commits of cells: written by the attempt that trains, read by the next attempt and by the recorder."""

import json
import random
import secrets
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from sweep.errors import StorageDamagedError, StorageError, StorageUnavailableError
from sweep.storage.files import INTACT, Files, below, open_files, public_place
from sweep.storage.joining import num_to_join
from sweep.storage.layout import (
    attempt_in,
    checkpoint_file,
    commit_in,
    manifest_file,
    note_file,
    part_file,
    reservation_in,
    root_of,
)
from sweep.storage.manifest import Manifest, Part, StoredFile, decode_manifest, encode_manifest
from sweep.storage.parts import decode_part, encode_part, join_parts, normalised
from sweep.storage.pruning import superfluous
from sweep.storage.stop_marks import StopMarks

FORMAT_FILE = "storage.json"
APART = "apart"
FORMAT = {"format": "sharpflat-storage", "version": 1}
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
                    f"storage {public_place(files.place)} holds another format ({FORMAT_FILE} is not "
                    f"{json.dumps(FORMAT)}); choose another --storage.",
                    transient=False,
                )
            if create:
                # Written again where it exists, with equal bytes: that is the test of whether one may write.
                files.put(FORMAT_FILE, json.dumps(FORMAT).encode())
        except StorageUnavailableError:
            raise
        except StorageError as error:
            raise StorageUnavailableError(
                str(error).removesuffix(INTACT), mends_itself=error.mends_itself
            ) from error
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
        folder = f"{root_of(cell_id)}/attempts"
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
        self._files.put(note_file(cell_id, attempt), text.encode())

    def note(self, cell_id: str) -> str | None:
        """Return the note of the cell's newest attempt, if it left one."""
        data = self._files.get(note_file(cell_id, self.next_attempt(cell_id) - 1))
        return None if data is None else data.decode(errors="replace")

    def next_attempt(self, cell_id: str) -> int:
        """Return 1 + the highest attempt number in any file name of the cell; reserves nothing."""
        highest = 0
        for folder in ("checkpoints", "history", "manifests"):
            for name, _ in self._files.names(f"{root_of(cell_id)}/{folder}"):
                highest = max(highest, attempt_in(name))
        return max(highest, self._last_reserved(cell_id)) + 1

    def _last_reserved(self, cell_id: str) -> int:
        """Return the highest attempt number that was reserved, 0 for none."""
        names = self._files.names(f"{root_of(cell_id)}/attempts")
        return max((reservation_in(name) for name, _ in names), default=0)

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
            previous: The commit that this one goes on from; its parts are listed again. Those at
                the end that have become many and short are written again, as one with `part` (`joining`).
            outcome: How the cell ended (`status`, `reason`), when it did.
            summary: Finals so far and further facts, JSON values.

        Returns:
            The new manifest.

        Raises:
            StorageError: Something could not be written; the previous commit is still the newest.
            StorageDamagedError: A part that was to be written again is missing or altered.
        """
        parts = previous.parts if previous else ()
        stored = previous.checkpoint if previous and previous.step == step else None
        if checkpoint is not None:
            fresh = StoredFile.of(
                checkpoint_file(cell_id, step, attempt, ends=outcome is not None), checkpoint
            )
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
            if parts and (joined := num_to_join(parts, step)):
                earlier, parts = parts[-joined:], parts[:-joined]
                start, part = earlier[0].start, join_parts([*self._tables(earlier), normalised(part)])
            data = encode_part(part)
            file = part_file(cell_id, start, step, attempt, ends=outcome is not None)
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

    def steps(self, cell_id: str) -> list[int]:
        """Return the steps of all commits, the last one first, by the names of their manifests alone."""
        return [step for step, _ in self._commits(cell_id)]

    def latest(self, cell_id: str, *, max_step: int | None = None) -> tuple[Manifest | None, list[str]]:
        """Return the newest commit that is intact (every digest verified), and what was found damaged.

        Args:
            cell_id: The cell.
            max_step: Ignores commits after this step.

        Returns:
            The manifest, or `None`; and one line per damaged commit that was passed over.

        Raises:
            StorageError: The store does not answer, which says nothing about a commit.
        """
        problems: list[str] = []
        for step, attempt in self._commits(cell_id):
            if max_step is not None and step > max_step:
                continue
            try:
                manifest = self.manifest(cell_id, step, attempt)
                self.verify(manifest)
            except StorageDamagedError as error:
                problems.append(f"{error} The commit before it is used.")
            else:
                return manifest, problems
        return None, problems

    def manifest(self, cell_id: str, step: int, attempt: int) -> Manifest:
        """Read one manifest; only its own digest is verified.

        Raises:
            StorageDamagedError: It is missing or damaged.
        """
        file = manifest_file(cell_id, step, attempt)
        data = self._files.get(file)
        if data is None:
            raise StorageDamagedError(f"storage: manifest {file} is missing.")
        manifest = decode_manifest(data, file)
        if manifest.file != file:
            raise StorageDamagedError(f"storage: manifest {file} is that of another commit, {manifest.file}.")
        return manifest

    def manifests(self, cell_id: str) -> Iterator[Manifest]:
        """Iterate over the manifests that are intact, newest first; their files are not verified.

        Raises:
            StorageError: The store does not answer.
        """
        for step, attempt in self._commits(cell_id):
            try:
                yield self.manifest(cell_id, step, attempt)
            except StorageDamagedError:
                # Whoever needs it asks `latest`, which reports it.
                continue

    def verify(self, manifest: Manifest) -> None:
        """Read all files of a commit and compare their digests.

        Raises:
            StorageDamagedError: One is missing or altered; the message names it.
        """
        if manifest.checkpoint is not None:
            self._verified(manifest.checkpoint)
        for part in manifest.parts:
            self._verified(part.stored)

    def read_checkpoint(self, manifest: Manifest) -> bytes:
        """Return the committed state, its digest verified."""
        if manifest.checkpoint is None:
            raise StorageDamagedError(f"storage: commit {manifest.file} kept no checkpoint.")
        return self._verified(manifest.checkpoint)

    def read_part(self, part: Part) -> bytes:
        """Return a part's bytes (a Parquet file), their digest verified."""
        return self._verified(part.stored)

    def read_parts(self, manifest: Manifest, *, from_step: int = 0) -> pa.Table:
        """Return the committed history, digests verified, without parts that are all before `from_step`."""
        # A row at the step where a part stops is in the next one, if there is one.
        last = manifest.parts[-1:]
        wanted = [part for part in manifest.parts if part.stop > from_step or part in last]
        return join_parts(self._tables(wanted))

    def _tables(self, parts: Sequence[Part]) -> list[pa.Table]:
        return [decode_part(self.read_part(part), part.stored.file) for part in parts]

    def prune(self, cell_id: str, keep: int = 2, *, needed: int | None = None) -> int:
        """Remove what is `superfluous`; returns the bytes freed."""
        doomed = self.superfluous(cell_id, keep, needed=needed)
        for file in doomed:
            self._files.delete(file)
        return sum(doomed.values())

    def superfluous(self, cell_id: str, keep: int = 2, *, needed: int | None = None) -> dict[str, int]:
        """Return the files that `pruning.superfluous` names, with their sizes."""
        return superfluous(self._files, cell_id, list(self.manifests(cell_id)), keep=keep, needed=needed)

    def forget(self, cell_id: str, step: int) -> int:
        """Remove the commits of a cell at one step, with the files that no other commit of it lists.

        A commit that points to another cell's state stays: a longer run finds that cell's end by it.

        Returns:
            The bytes freed.
        """
        manifests = list(self.manifests(cell_id))
        gone = [manifest for manifest in manifests if manifest.step == step and not manifest.points_elsewhere]
        sizes = dict(self._files.sizes(root_of(cell_id)))
        doomed = _only_in(gone, [manifest for manifest in manifests if manifest not in gone])
        for file in doomed:
            self._files.delete(file)
        return sum(sizes.get(file, 0) for file in doomed)

    def remove(self, gone: Collection[Manifest], kept: Collection[Manifest]) -> None:
        """Remove commits of a cell, with the files that none of those that are kept lists.

        The caller knows both, so nothing is listed or read for it, unless parts are to go that have become
        one (`joining`). These stay where a later attempt has begun: it may go on from a commit that lists
        them, if the caller is a worker that was cut off. They go when the cell ends.

        Args:
            gone: The commits, all of one cell.
            kept: Those that stay, at least the newest.
        """
        doomed = _only_in(gone, kept)
        parts = {part.stored.file for manifest in gone for part in manifest.parts}
        if not parts.isdisjoint(doomed):
            newest = max(kept, key=lambda one: one.attempt)
            if self._last_reserved(newest.cell_id) > newest.attempt:
                doomed = [file for file in doomed if file not in parts]
        for file in doomed:
            self._files.delete(file)

    def delete(self, cell_id: str) -> int:
        """Remove all that is stored of a cell; returns the bytes freed."""
        freed = self.usage(cell_id)
        # Manifests go first: one without its files would be reported as damaged.
        self._files.delete_folder(f"{root_of(cell_id)}/manifests")
        self._files.delete_folder(root_of(cell_id))
        return freed

    def usage(self, cell_id: str | None = None) -> int:
        """Return the bytes stored for a cell, or for all."""
        return sum(size for _, size in self._files.sizes("cells" if cell_id is None else root_of(cell_id)))

    def inventory(self) -> dict[str, int]:
        """Return every address that something is stored under, with its bytes."""
        found: dict[str, int] = {}
        for path, size in self._files.sizes("cells"):
            address = path.split("/")[1]
            found[address] = found.get(address, 0) + size
        return found

    def _commits(self, cell_id: str) -> list[tuple[int, int]]:
        """Return (step, attempt) of every manifest, newest first."""
        found = [commit_in(name) for name, _ in self._files.names(f"{root_of(cell_id)}/manifests")]
        return sorted((commit for commit in found if commit is not None), reverse=True)

    def _verified(self, stored: StoredFile) -> bytes:
        data = self._files.get(stored.file)
        if data is None:
            raise StorageDamagedError(f"storage: {stored.file} is missing.")
        if not stored.matches(data):
            raise StorageDamagedError(
                f"storage: {stored.file} is damaged: {len(data)} bytes whose digest is not the one committed "
                f"({stored.size} bytes)."
            )
        return data


def _only_in(gone: Collection[Manifest], kept: Collection[Manifest]) -> list[str]:
    """Return the files of a cell's commits that go, without what others list that stay, or of other cells."""
    listed = {file for manifest in kept for file in manifest.files}
    own = [file for one in gone for file in one.files if file.startswith(f"{root_of(one.cell_id)}/")]
    # Manifests go first: one without its files would be reported as damaged.
    return [*(one.file for one in gone), *sorted({*own} - listed)]


def _format_of(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None
