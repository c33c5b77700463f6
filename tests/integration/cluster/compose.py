"""docker-compose.yml as plain values: what `docker compose config` would print, as far as it is used here."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
FILE = ROOT / "docker-compose.yml"
_VARIABLE = re.compile(r"\$\{(\w+)(?::\?[^}]*|:-([^}]*))?\}")


@dataclass(frozen=True)
class Service:
    """One service, with every variable filled in.

    Args:
        name: Also its host name.
        image: Pinned.
        command: Words.
        environment: Of its processes.
        files: Contents of its secrets and configs by where it finds them.
        health: The command of its health check.
        needs: Services that must be healthy before it starts.
        published: What it publishes to the machine, as written.
        profiles: Without one of them it is not started; empty is always.
        values: All of it.
    """

    name: str
    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    files: Mapping[str, str]
    health: tuple[str, ...]
    needs: tuple[str, ...]
    published: tuple[str, ...]
    profiles: tuple[str, ...]
    values: Mapping[str, Any]


def document() -> dict[str, Any]:
    """Return the file as it is."""
    return yaml.safe_load(FILE.read_text())


def services(environment: Mapping[str, str]) -> dict[str, Service]:
    """Return the services by name, the ones that others need first.

    Args:
        environment: What stands in `.env`.

    Raises:
        KeyError: The file wants a variable that is not there.
    """
    values = _filled(document(), environment)
    found = {name: _service(name, one, values, environment) for name, one in values["services"].items()}
    ordered: dict[str, Service] = {}
    while len(ordered) < len(found):
        ready = [one for one in found.values() if one.name not in ordered and set(one.needs) <= set(ordered)]
        assert ready, "services wait for each other"
        ordered |= {one.name: one for one in ready}
    return ordered


def _service(name: str, one: Mapping[str, Any], values: Any, environment: Mapping[str, str]) -> Service:
    files = {
        f"/run/secrets/{key}": environment[values["secrets"][key]["environment"]]
        for key in one.get("secrets", ())
    }
    files |= {
        entry["target"]: values["configs"][entry["source"]]["content"] for entry in one.get("configs", ())
    }
    test = one["healthcheck"]["test"]
    assert test[0] == "CMD", "a health check that is a list of words"
    assert all(entry["condition"] == "service_healthy" for entry in one.get("depends_on", {}).values())
    return Service(
        name=name,
        image=one["image"],
        command=tuple(one.get("command", ())),
        environment=dict(one.get("environment", {})),
        files=files,
        health=tuple(test[1:]),
        needs=tuple(one.get("depends_on", {})),
        published=tuple(one.get("ports", ())),
        profiles=tuple(one.get("profiles", ())),
        values=one,
    )


def _value(name: str, otherwise: str | None, environment: Mapping[str, str]) -> str:
    """Return a variable's value; what stands after `:-` is for one that is not there, or empty."""
    return environment[name] if otherwise is None else environment.get(name) or otherwise


def _filled(values: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(values, dict):
        return {key: _filled(value, environment) for key, value in values.items()}
    if isinstance(values, list):
        return [_filled(value, environment) for value in values]
    if isinstance(values, str):
        return _VARIABLE.sub(lambda match: _value(match[1], match[2], environment), values)
    return values
