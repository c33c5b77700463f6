"""A module of the user's own, from a Python file.

    # my_model.py
    import math

    from torch import nn

    def build(input_shape, num_outputs):
        hidden = nn.Linear(math.prod(input_shape), 32)
        return nn.Sequential(nn.Flatten(), hidden, nn.SiLU(), nn.Linear(32, num_outputs))

and in a space `model: {name: file, path: my_model.py}`. The digest of the file is part of the cell's
address, its path is not: a moved file is the same model, a changed one is another. The file must be
readable at this path wherever cells are trained. `build` must draw its random numbers from torch's global
generator, as layers do, and not seed it: initial weights then follow a cell's seed, and buffers are the same
for all cells. What a module has to be besides is in `trainers.models.demands`, and what planning tries with
it and its data in `trainers.models.acceptance`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from trainers.errors import ConfigError
from trainers.options import OptionValue
from trainers.own_file import digest_of, run_source

if TYPE_CHECKING:
    from torch import nn


def source_digest(options: Mapping[str, OptionValue]) -> str:
    """Return the address of the file's content.

    Raises:
        ConfigError: It cannot be read.
    """
    return digest_of(_source(options))


def _source(options: Mapping[str, OptionValue]) -> bytes:
    path = str(options["path"])
    if not path:
        raise ConfigError("model.path: found none; name the Python file that builds the model.")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"model.path: {path!r} cannot be read: {error.strerror or error}.") from error


def build(input_shape: tuple[int, ...], num_outputs: int, options: Mapping[str, OptionValue]) -> "nn.Module":
    """Run the file and call its function.

    Args:
        input_shape: Shape of one example.
        num_outputs: Outputs of the model.
        options: `path` and `function`; and `digest` where the file must be the one that has it.

    Raises:
        ConfigError: The file is not the one that was planned with, has no such function, it fails, or what it
            returns cannot be trained here.
    """
    from torch import nn

    from trainers.models.demands import require_sound

    path, name = str(options["path"]), str(options["function"])
    # Read once: what is run is what the digest was taken of.
    source = _source(options)
    digest = digest_of(source)
    if options.get("digest", digest) != digest:
        raise ConfigError(
            f"model: {path} has changed since the cell was planned; plan it again, in a new process: this "
            "one goes by what the file was."
        )
    try:
        found = vars(run_source(source, path, "user_model"))
    except Exception as error:
        raise ConfigError(f"model: {path} failed: {error!r}.") from error
    if name not in found:
        raise ConfigError(f"model.function: {path} has no {name!r}.")
    try:
        built = found[name](input_shape, num_outputs)
    except Exception as error:
        raise ConfigError(f"model: {name} of {path} failed: {error!r}.") from error
    if not isinstance(built, nn.Module):
        raise ConfigError(
            f"model: {name} of {path} returned {type(built).__name__}; expected a torch.nn.Module."
        )
    try:
        require_sound(built, input_shape, num_outputs)
    except ConfigError as error:
        raise ConfigError(f"model: what {path} builds cannot be trained here: {error}") from error
    return built
