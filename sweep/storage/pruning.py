"""Which commits of a cell are kept, and which of its files these make superfluous."""

from collections.abc import Sequence

from sweep.storage.files import TEMPORARY_SUFFIX, Files
from sweep.storage.layout import attempt_in, checkpoint_in, commit_in, manifest_file, root_of
from sweep.storage.manifest import Manifest


def kept_of(readable: Sequence[Manifest], *, keep: int, needed: int | None) -> list[Manifest]:
    """Return the commits that are kept; one may be there twice.

    They are those of the latest steps, and those of the latest attempt and before it: where files of the
    former are damaged, an attempt begins at an earlier step. So is the commit of the step `needed`.

    Args:
        readable: A cell's manifests that can be read, at least one, newest first.
        keep: How many of the newest are kept.
        needed: A step whose commit is kept.
    """
    latest = _latest_of(readable)
    return [
        *readable[:keep],
        *[one for one in readable if one.attempt == latest.attempt][:keep],
        *[one for one in readable if one.step <= latest.step][:keep],
        *[one for one in readable if one.step == needed][:1],
    ]


def _latest_of(readable: Sequence[Manifest]) -> Manifest:
    """Return the newest commit of the latest attempt."""
    return max(readable, key=lambda one: (one.attempt, one.step))


def superfluous(
    files: Files, cell_id: str, readable: Sequence[Manifest], *, keep: int, needed: int | None
) -> dict[str, int]:
    """Return the files that the commits which are kept (`kept_of`) make superfluous, with their sizes.

    Parts that a kept manifest lists stay. Files of a commit that is being written (of a later step, or a
    later attempt than the newest kept one) stay too. Once the cell has ended, parts that nothing lists are
    removed.

    Args:
        files: The store's.
        cell_id: The cell.
        readable: Its manifests that can be read, newest first.
        keep: How many of the newest are kept.
        needed: A step whose commit is kept.
    """
    if not readable:
        return {}
    newest, latest = readable[0], _latest_of(readable)
    kept = kept_of(readable, keep=keep, needed=needed)
    oldest = min(kept, key=lambda one: (one.step, one.attempt))
    ended = newest.outcome is not None
    listed = {file for manifest in kept for file in manifest.files}
    root, doomed = root_of(cell_id), dict[str, int]()
    # Manifests go first: one without its files would be reported as damaged.
    unkept = {one.file for one in readable} - {one.file for one in kept}
    manifests = {commit_in(name): size for name, size in files.names(f"{root}/manifests")}
    for commit in sorted((commit for commit in manifests if commit is not None), reverse=True):
        file = manifest_file(cell_id, *commit)
        if file in unkept or commit < (oldest.step, oldest.attempt):
            doomed[file] = manifests[commit]
    for name, size in files.names(f"{root}/checkpoints"):
        file, commit = f"{root}/checkpoints/{name}", checkpoint_in(name)
        if commit is not None and file not in listed:
            step, attempt = commit
            if ended or step < (latest.step if attempt == latest.attempt else oldest.step):
                doomed[file] = size
    for folder in ("history", "checkpoints", "manifests"):
        for name, size in files.names(f"{root}/{folder}"):
            file = f"{root}/{folder}/{name}"
            stale = ended or attempt_in(name) < latest.attempt
            temporary = name.endswith(TEMPORARY_SUFFIX)
            if stale and (temporary or (ended and folder == "history" and file not in listed)):
                doomed[file] = size
    return doomed
