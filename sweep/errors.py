"""Errors of the sweep that are meant for the user; the base and the exit codes are `trainers.errors`'."""

from trainers.errors import SharpflatError


class StorageError(SharpflatError):
    """The checkpoint store cannot be read or written; what was committed before is untouched."""

    transient = True
    """Whether trying again later can help."""

    mends_itself = True
    """Whether that may be so without anybody's doing: the store does not answer."""


class StorageRefusedError(StorageError):
    """The store takes or gives no file until somebody has seen to it: no space is left, no right is given."""

    mends_itself = False


class StorageDamagedError(StorageError):
    """A file that was committed is missing or altered; the commits before it may be whole."""

    transient = mends_itself = False


class StorageUnseenError(StorageError):
    """A commit that another node has made is not to be seen here yet; the store answers."""


class StorageUnavailableError(StorageError):
    """The place named as the checkpoint store cannot be used at all.

    Args:
        message: What was found.
        transient: Whether trying again later can help.
        mends_itself: Whether that may be so without anybody's doing; default: as `transient`.
    """

    exit_code = 2

    def __init__(self, message: str, *, transient: bool = True, mends_itself: bool | None = None) -> None:
        super().__init__(message)
        self.transient = transient
        self.mends_itself = transient if mends_itself is None else mends_itself


class OtherStorageError(StorageError):
    """A sweep's checkpoints are in another store than the one that is named."""

    exit_code = 2
    transient = mends_itself = False


class LedgerError(SharpflatError):
    """MLflow refused or did not answer while a sweep was running.

    Args:
        message: What failed and why.
        transient: Whether trying again later can help.
    """

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class LedgerUnavailableError(LedgerError):
    """The MLflow named as the record cannot be used at all."""

    exit_code = 2


class SweepExistsError(SharpflatError):
    """The sweep's name is taken by a plan with cells that the new one lacks."""

    exit_code = 2


class LeaseHeldError(SharpflatError):
    """Another process is running the sweep."""

    exit_code = 2
    transient = True


class LeaseLostError(SharpflatError):
    """Another process has taken the sweep over; this one must write nothing more."""


class NotConfirmedError(SharpflatError):
    """Something would have been removed, and nobody said yes."""

    exit_code = 2


class ClusterError(SharpflatError):
    """There is no Ray cluster, or it cannot run a trial.

    Args:
        message: What was found.
        transient: Whether trying again later can help.
    """

    exit_code = 2

    def __init__(self, message: str, *, transient: bool = True) -> None:
        super().__init__(message)
        self.transient = transient


class NoRoomError(ClusterError):
    """No node has room for a trial; where nodes may still come they have been waited for."""


class StoppedAtOnceError(SharpflatError):
    """Somebody has pressed Ctrl-C, and nothing was ended in order; the message says how to go on."""

    exit_code = 130
