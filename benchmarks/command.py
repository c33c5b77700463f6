"""The options that the benchmarks have in common, and how their numbers are kept."""

import argparse
from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.environment import describe, write_results


def parser_of(doc: str | None, *, repeats: int) -> argparse.ArgumentParser:
    """Return a parser for `--repeats`, `--threads`, `--device` and `--filter`."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--filter", default="", help="only rows whose name contains this")
    return parser


def begin(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Return the options, with torch set to them."""
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return arguments


def surroundings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return where a measurement is made."""
    found = describe() | {"threads": arguments.threads, "device": arguments.device}
    if arguments.device != "cpu":
        found["gpu"] = torch.cuda.get_device_name(arguments.device)
    return found


def results_name(name: str, arguments: argparse.Namespace) -> str:
    """Return the name of the file of a benchmark on a device."""
    return name if arguments.device == "cpu" else f"{name}_{arguments.device.partition(':')[0]}"


def save(name: str, arguments: argparse.Namespace, values: Mapping[str, Any]) -> None:
    """Write a benchmark's numbers beside the environment, unless only some were measured."""
    if arguments.filter:
        print("not kept: with --filter these are not all")
        return
    write_results(results_name(name, arguments), {"environment": surroundings(arguments), **values})
