"""Where spaces are: the files of the package by name, and any YAML file by its path."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from search_spaces.yaml_text import read_yaml
from trainers.errors import ConfigError, unknown_name

SUFFIXES = (".yaml", ".yml")


def list_spaces() -> list[tuple[str, str]]:
    """Return name and description of the spaces of the package, in alphabetical order."""
    found = {name: read_space(path) for name, path in _package_files().items()}
    return [(name, str(found[name].get("description", ""))) for name in sorted(found)]


def space_file(reference: str | Path) -> Path | None:
    """Return the file that a reference to a space means; `None` for one of `list_spaces`.

    Args:
        reference: A name, which comes first, or the path of a file.

    Raises:
        ConfigError: It is neither.
    """
    if isinstance(reference, str):
        named = _package_files()
        if reference in named:
            return None
        if not reference.endswith(SUFFIXES) and "/" not in reference:
            error = unknown_name("search space", reference, named)
            raise ConfigError(f"{error} A file is given by a path that ends in .yaml.")
    return Path(reference).expanduser()


def read_space(reference: str | Path) -> Any:
    """Return the plain data of a space, by name or from a YAML file.

    Raises:
        ConfigError: It does not exist, or is no YAML.
    """
    path = space_file(reference) or _package_files()[str(reference)]
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start}); a space is a YAML file.") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}.") from error
    return read_yaml(text, str(path))


def _package_files() -> dict[str, Path]:
    entries = (Path(str(entry)) for entry in files("search_spaces").iterdir())
    return {path.stem: path for path in entries if path.name.endswith(SUFFIXES)}
