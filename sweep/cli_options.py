"""The options that several commands share, each with one meaning and one wording."""

from typing import Annotated

import typer

from sweep.completion import complete_space, complete_sweep, one_of
from sweep.lanes import parse_lanes
from trainers.errors import ConfigError

SpaceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SPACE", help="A name from `sweep list`, or a YAML file.", autocompletion=complete_space
    ),
]
NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The sweep's name.", autocompletion=complete_sweep)
]
SmokeOption = Annotated[bool, typer.Option("--smoke", help="The small variant, named SPACE-smoke.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="PATH=VALUE", help="Override a field or an axis; a YAML value. Repeatable."
    ),
]
SweepNameOption = Annotated[
    str | None, typer.Option("--name", help="Name of the sweep; default: the space's.")
]
TrackingOption = Annotated[
    str | None, typer.Option("--tracking-uri", help="MLflow; default: a database under results/.")
]
StorageOption = Annotated[
    str | None,
    typer.Option("--storage", help="Checkpoint store: a folder or s3://…; default: results/storage."),
]
DataOption = Annotated[
    str | None, typer.Option("--data", help="Folder of the data sets; default: results/data.")
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="A Ray cluster's control store (GCS), HOST:6379, or auto; default: Ray on this machine only.",
    ),
]
CpusOption = Annotated[
    int | None, typer.Option("--cpus", min=1, help="CPUs of a Ray started here; default: all.")
]
GpusOption = Annotated[
    float | None,
    typer.Option(
        "--gpus-per-trial",
        min=0.0,
        help="GPUs of one trial, fractions allowed; default: as the sweep had it, at first none.",
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--cpus-per-trial",
        min=1,
        help="CPUs and threads of one trial; default: as the sweep had it, at first 1.",
    ),
]
CommitOption = Annotated[
    float,
    typer.Option(
        "--commit-every",
        min=0.05,
        help="Seconds of training between two checkpoints; more where the store is slow.",
    ),
]
FailuresOption = Annotated[
    int,
    typer.Option("--max-failures", min=0, help="Retries of a trial that fails without progress in between."),
]
LanesOption = Annotated[
    int,
    typer.Option(
        "--lanes",
        parser=parse_lanes,
        metavar="NUMBER|auto",
        help="Cells that a trial trains together; auto: what the GPU has room for. On CPUs the last bits may "
        "depend on it.",
    ),
]
TrialLanesOption = Annotated[
    int | None,
    typer.Option(
        "--lanes",
        parser=parse_lanes,
        metavar="NUMBER|auto",
        help="Cells that a trial trains together; auto: what the GPU has room for; default: as the sweep had "
        "it, at first 1. On CPUs the last bits may depend on it.",
    ),
]
HangOption = Annotated[
    float, typer.Option("--hang-after", min=1.0, help="Seconds without progress that end a trial.")
]
VersionOption = Annotated[
    bool,
    typer.Option(
        "--accept-version", help="Go on with a sweep of another version; cells that are others now run again."
    ),
]
OtherStorageOption = Annotated[
    bool,
    typer.Option(
        "--accept-storage",
        help="Go on though the sweep has its checkpoints in another store.",
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
StopperOption = Annotated[
    str | None,
    typer.Option(
        "--stopper",
        help="Stop cells that fall behind: asha or median; `stopper` in the space says more.",
        autocompletion=one_of("asha", "median"),
    ),
]

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds_of(text: str | None) -> float | None:
    """Read a duration: seconds, or a number with s, m, h or d; `None` where there is none.

    Raises:
        ConfigError: It is no duration.
    """
    if text is None:
        return None
    number, unit = (text[:-1], _UNITS[text[-1]]) if text[-1:] in _UNITS else (text, 1.0)
    try:
        seconds = float(number) * unit
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"--time-limit: found {text!r}; expected seconds, or 45m, 2h, 1d.")
    return seconds
