"""Every error that the project raises for its user, under one base.

The message of a `SharpflatError` says what was expected, what came and what to do; the command line prints
it without a traceback and exits with `exit_code`: 2 for bad input, 1 for failures at run time.
"""

import difflib
from collections.abc import Iterable


class SharpflatError(Exception):
    """Base of all errors that are meant for the user.

    Attributes:
        exit_code: Of a command that it ends.
        transient: Whether trying again later can help.
    """

    exit_code = 1
    transient: bool = False


class ConfigError(SharpflatError):
    """What the user asked for is not valid: an unknown name, a wrong type or a value out of range."""

    exit_code = 2


class DataError(SharpflatError):
    """A data set is missing, damaged or cannot be downloaded."""

    exit_code = 2


class DownloadError(DataError):
    """A data set could not be downloaded; the network or its server may be back later."""

    transient = True


class CheckpointError(SharpflatError):
    """A stored state is damaged or was written by something else; it has not been used."""


def unknown_name(what: str, name: object, valid: Iterable[str]) -> ConfigError:
    """Build the error for a name that is in no table, with the nearest valid name.

    Args:
        what: The kind of thing, in the singular ("model", "option of mlp").
        name: What was found.
        valid: The names that would have been accepted.
    """
    names = sorted(set(valid))
    nearest = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return ConfigError(f"unknown {what} {name!r}.{hint} Valid: {', '.join(names) if names else 'none'}.")
