"""A measurement of the user's own, from a Python file.

    # my_probe.py
    def measure(view):
        return {"largest_weight": view.params_P.abs().max()}

and in a space `probes: [{name: file, path: my_probe.py, every: 100}]`, which records `own/largest_weight`.
`view` is a `trainers.probes.view.View`: weights, gradient, next update, products. The function must change
nothing, keep nothing, and return the same for the same view. Leading eigenpairs, `view.leading` and
`view.basis`, are those that the cell's other probes follow: for five of them declare a probe with five or
more, as `{name: curvature, k: 5}`, beside yours. The digest of the file and its path are part of
what a cell records, not of its trajectory. The file must be readable at this path wherever cells are trained.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.errors import ConfigError
from trainers.own_file import digest_of, run_source

if TYPE_CHECKING:
    from trainers.lane import ScheduledProbe
    from trainers.probes.view import View


def source_digest(path: str) -> str:
    """Return the address of the file's content.

    Raises:
        ConfigError: It cannot be read.
    """
    return digest_of(_source(path))


def measure_own(view: "View", probe: "ScheduledProbe") -> dict[str, float]:
    """Call the file's function; its numbers are recorded as `own/NAME`.

    Raises:
        ConfigError: The file is not the one that was planned with, has no such function, or it fails.
    """
    import torch

    path, name = str(probe.options["path"]), str(probe.options["function"])
    function = _function(path, name, str(probe.options["digest"]))
    try:
        values = function(view)
        if not isinstance(values, Mapping):
            raise ConfigError(f"probe: {name} of {path} returned {values!r}; expected names with numbers.")
        return {f"own/{key}": float(value) for key, value in values.items()}
    except (ConfigError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise ConfigError(f"probe: {name} of {path} failed: {error!r}.") from error


def _source(path: str) -> bytes:
    if not path:
        raise ConfigError("probe path: found none; name the Python file that measures.")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"probe path: {path!r} cannot be read: {error.strerror or error}.") from error


@lru_cache(maxsize=16)
def _function(path: str, name: str, digest: str) -> Callable[["View"], Any]:
    # Read once: what is run is what the digest was taken of.
    source = _source(path)
    if digest_of(source) != digest:
        raise ConfigError(f"probe: {path} has changed since the cell was planned; plan it again.")
    try:
        found = vars(run_source(source, path, "own_probe"))
    except Exception as error:
        raise ConfigError(f"probe: {path} failed: {error!r}.") from error
    if name not in found:
        raise ConfigError(f"probe: {path} has no function {name!r}.")
    return found[name]
