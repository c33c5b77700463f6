"""Errors of the sweep that are meant for the user; the base and the exit codes are `trainers.errors`'."""

from trainers.errors import SharpflatError


class StorageError(SharpflatError):
    """The checkpoint store cannot be read or written; what was committed before is untouched."""


class StorageUnavailableError(StorageError):
    """The place named as the checkpoint store cannot be used at all."""

    exit_code = 2


class LedgerError(SharpflatError):
    """MLflow refused or did not answer while a sweep was running."""


class LedgerUnavailableError(LedgerError):
    """The MLflow named as the record cannot be used at all."""

    exit_code = 2


class SweepExistsError(SharpflatError):
    """The sweep's name is taken by a plan with cells that the new one lacks."""

    exit_code = 2


class LeaseHeldError(SharpflatError):
    """Another process is running the sweep."""

    exit_code = 2


class LeaseLostError(SharpflatError):
    """Another process has taken the sweep over; this one must write nothing more."""
