"""The commands that `cluster` adds to `sweep`: `submit`, `logs`, `doctor`, `cluster init`, `cluster render`.

`sweep resume` gets a second meaning: with the address of a dashboard its driver is a job there.
`sweep.cli` finds them through the entry points `sweep.commands`; what they do is done elsewhere.
"""

import functools
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer
from typer.models import OptionInfo

from cluster.secrets import require_no_keys
from sweep.cli_options import (
    NameArgument,
    SetOption,
    SmokeOption,
    SpaceArgument,
    SweepNameOption,
)
from sweep.cli_running import resume as resume_here
from sweep.cli_running import run as run_here
from sweep.cli_running import search as search_here
from sweep.console import output
from sweep.invocation import hint
from sweep.lanes import lanes_text, parse_lanes
from trainers.errors import ConfigError

if TYPE_CHECKING:
    from cluster.submission import Submission
    from search_spaces import Space

RayOption = Annotated[
    str | None,
    typer.Option("--address", help="The cluster's dashboard; default: $RAY_API_SERVER_ADDRESS, then .env."),
]
TrackingOption = Annotated[
    str | None, typer.Option("--tracking-uri", help="MLflow as the nodes reach it; default: the nodes' own.")
]
StorageOption = Annotated[
    str | None, typer.Option("--storage", help="Checkpoint store of all nodes; default: the nodes' own.")
]
ImageCodeOption = Annotated[
    bool, typer.Option("--image-code", help="Run the code that the nodes have, not this machine's.")
]
SearchOption = Annotated[
    bool, typer.Option("--search", help="Search the space, as `sweep search` does, and run no grid of it.")
]
SpecOption = Annotated[
    Path | None,
    typer.Option("--spec", help="YAML with the fields of cluster/spec.py; default: its defaults."),
]

cluster_app = typer.Typer(no_args_is_help=True, help="Files for clusters: Compose, KubeRay, SLURM, ray up.")


class Kind(StrEnum):
    """What `sweep cluster render` can write."""

    RAY_CLUSTER = "raycluster"
    RAY_JOB = "rayjob"
    SLURM = "slurm"
    CLOUD = "ray-up-cloud"
    ON_PREMISE = "ray-up-on-premise"


def register(app: typer.Typer) -> None:
    """Add the commands to the command line; the entry point."""
    others = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(context_settings=others)(submit)
    app.command()(resume)
    app.command()(logs)
    app.command()(doctor)
    app.add_typer(cluster_app, name="cluster")


def submit(
    context: typer.Context,
    space: SpaceArgument,
    smoke: SmokeOption = False,
    overrides: SetOption = None,
    name: SweepNameOption = None,
    address: RayOption = None,
    image_code: ImageCodeOption = False,
    search: SearchOption = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="SPACE is the name of a sweep; go on with its stored space.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Do not follow the log.")] = False,
) -> None:
    """Run a space on a Ray cluster, or what is missing of it; the same again joins it.

    Every other option is `sweep run`'s (`sweep search`'s with --search), with --tracking-uri, --storage and
    --data as the nodes see them; the nodes' own count without.
    """
    from search_spaces import load_space

    if space.startswith("--"):
        raise ConfigError(f"SPACE: found {space!r}; it comes first: sweep submit SPACE {space} ...")
    if resume and (smoke or overrides or name or search):
        raise ConfigError(
            "--resume takes the sweep as it is stored; found --smoke, --set, --name or --search with it."
        )
    loaded = None if resume else load_space(space, smoke=smoke, overrides=overrides or ())
    given = _check_words(context.args, resume_here if resume else search_here if search else run_here)
    if loaded is not None:
        name = name or (f"{loaded.name}-search" if search else loaded.name)
        loaded = _to_run(loaded, given, search=search, how=hint("submit", space, "--search"))
    # Ray takes seconds to import; a mistake in the space is said before.
    from cluster.submission import Submission

    submission = Submission(
        name=space if name is None else name,
        space=loaded,
        search=search,
        options=context.args,
        with_code=not image_code,
        unattended=detach,
    )
    _submit(submission, address)


@functools.wraps(resume_here)
def resume(**options: Any) -> None:
    """Make what is missing of a sweep, from the space that it was begun with.

    With the dashboard of a cluster as --address it is a job there, as with `sweep submit NAME --resume`.
    """
    address: str | None = options["address"]
    if not (address or "").startswith(("http://", "https://")):
        resume_here(**options)
        return
    from cluster.submission import Submission

    words = _in_words({**options, "address": None}, resume_here)
    _check_words(words, resume_here)
    _submit(Submission(name=options["name"], space=None, options=words), address)


def logs(name: NameArgument, address: RayOption = None) -> None:
    """Show the log of a sweep's driver on a cluster, and follow it while it runs."""
    from cluster.secrets import log_in

    place = log_in(address)
    from cluster.jobs import Jobs
    from cluster.submission import follow

    try:
        raise typer.Exit(follow(Jobs(place), name, write=_write, say=_say))
    except KeyboardInterrupt:
        _say(f"\nrejoin with: {_rejoin(name, address)}")
        raise typer.Exit(0) from None


def doctor(
    address: Annotated[
        str | None,
        typer.Option("--address", help="A cluster's dashboard; default: this machine, without Ray."),
    ] = None,
    tracking_uri: TrackingOption = None,
    storage: StorageOption = None,
    image_code: ImageCodeOption = False,
) -> None:
    """Find out what is wrong with a cluster, or with this machine, and what to do about it."""
    from cluster.doctor.checkup import examine_cluster, judge, report

    if address is None:
        from cluster.doctor.survey import ask_this_machine
        from sweep.places import Places

        places = Places.resolve(tracking_uri=tracking_uri, storage=storage)
        nodes = ask_this_machine(tracking_uri=places.tracking_uri, storage=places.storage)
        raise typer.Exit(report(judge(nodes), print))
    require_no_keys(tracking_uri, storage)
    from cluster.jobs import Jobs
    from cluster.secrets import log_in

    code = examine_cluster(
        Jobs(log_in(address)),
        tracking_uri=tracking_uri,
        storage=storage,
        write=_write,
        with_code=not image_code,
    )
    raise typer.Exit(code)


@cluster_app.command()
def init(
    gpu: Annotated[bool, typer.Option("--gpu", help="Workers with GPUs (Compose's profile gpu).")] = False,
    folder: Annotated[Path, typer.Option("--folder", help="Beside docker-compose.yml.")] = Path("."),
) -> None:
    """Write the secrets of docker-compose.yml to .env, once."""
    from cluster.secrets import fresh_environment, write_environment

    path = write_environment(folder, fresh_environment(profile="gpu" if gpu else "cpu"))
    submit = "sweep submit demo" + " --gpus-per-trial 1 --lanes auto" * gpu
    _say(f"wrote {path}; next: docker compose up --detach --wait, then: {submit}")


@cluster_app.command(context_settings={"allow_extra_args": True})
def render(
    context: typer.Context,
    kind: Annotated[Kind, typer.Argument(help="What for.")],
    space: Annotated[str | None, typer.Option("--space", help="For rayjob and slurm: what to run.")] = None,
    smoke: SmokeOption = False,
    overrides: SetOption = None,
    name: SweepNameOption = None,
    search: SearchOption = False,
    spec: SpecOption = None,
) -> None:
    """Print the file for one kind of cluster.

    Options of `sweep run` (of `sweep search` with --search) for rayjob and slurm come last, after a `--`.
    """
    from cluster.kuberay import ray_cluster, ray_job
    from cluster.ray_up import on_cloud, on_premise
    from cluster.slurm import batch_script
    from cluster.spec import load_spec
    from search_spaces import load_space, space_file

    found = load_spec(spec)
    changes = ["--smoke"] * smoke + [word for one in overrides or () for word in ("--set", one)]
    if kind not in (Kind.RAY_JOB, Kind.SLURM):
        if words := ["--search"] * search + changes + context.args:
            raise ConfigError(f"{kind} runs no space: found {shlex.join(words)}.")
        writers = {Kind.RAY_CLUSTER: ray_cluster, Kind.CLOUD: on_cloud, Kind.ON_PREMISE: on_premise}
        sys.stdout.write(writers[kind](found))
        return
    if space is None:
        raise ConfigError(
            f"--space: found none; {kind} runs one space: a name from `sweep list`, or a YAML file."
        )
    given = _check_words(context.args, search_here if search else run_here, "sweep cluster render")
    if given["address"] is not None:
        raise ConfigError("--address is the cluster's own.")
    for option, parameter in (("--name", "name"), ("--smoke", "smoke"), ("--set", "overrides")):
        if given[parameter] not in (None, False, ()):
            raise ConfigError(f"{option} comes before the `--`.")
    loaded = load_space(space, smoke=smoke, overrides=overrides or ())
    name = name or (f"{loaded.name}-search" if search else loaded.name)
    loaded = _to_run(loaded, given, search=search, how="add --search")
    file = space_file(space)
    if kind is Kind.SLURM:
        where = space if file is None else os.path.abspath(file)
        write = functools.partial(batch_script, space=where)
    else:
        _require_no_files(loaded)
        write = functools.partial(ray_job, space=space, space_text=None if file is None else loaded.text)
        # A text that travels is changed already.
        changes = changes if file is None else []
    options = [*changes, *context.args]
    sys.stdout.write(write(found, name=name, search=search, options=options))


def _require_no_files(space: "Space") -> None:
    """See that a RayJob, which takes a space along and nothing else, will have all that the space names.

    Raises:
        ConfigError: It names files that would not be there.
    """
    from cluster.shipping import own_files

    for path, where in own_files(space).items():
        raise ConfigError(
            f"{where}: found {path!r}, which does not travel with a RayJob; use a cluster that stays "
            "(raycluster) and `sweep submit`."
        )


def _to_run(space: "Space", given: Mapping[str, Any], *, search: bool, how: str) -> "Space":
    """Return what a cluster is to run of a space with these options: its grid, or its search.

    Raises:
        ConfigError: It has no grid, and no search was asked for; or it cannot be searched, or has no budget.
    """
    from search_spaces.search import BUDGET

    if search:
        chosen = {name: given[name] for name in BUDGET if given[name] is not None}
        space.for_search(chosen).search.require_budget()
        return space.for_search({})
    if space.is_search:
        raise ConfigError(f"space {space.name!r} has no grid; to search it: {how}")
    return space


def _submit(submission: "Submission", address: str | None) -> None:
    from cluster.secrets import log_in

    place = log_in(address)
    from cluster.jobs import Jobs
    from cluster.submission import standing, submit_and_follow
    from cluster.submission import submit as submit_only

    jobs, rejoin = Jobs(place), _rejoin(submission.name, address)
    if submission.unattended:
        _say(f"{standing(jobs, submit_only(jobs, submission), submission)}; follow it with: {rejoin}")
        return
    try:
        raise typer.Exit(submit_and_follow(jobs, submission, write=_write, say=_say))
    except KeyboardInterrupt:
        _say(f"\nleft it running; rejoin with: {rejoin}")
        raise typer.Exit(0) from None


def _in_words(options: Mapping[str, Any], function: Callable[..., Any]) -> list[str]:
    """Return a command's options as they were typed, those that differ from their defaults."""
    hints = get_type_hints(function, include_extras=True)
    words: list[str] = []
    for name, parameter in signature(function).parameters.items():
        value, typed = options[name], hints[name].__metadata__[0]
        if isinstance(typed, OptionInfo) and value != parameter.default:
            # Within `Annotated` the option's names stand in the place of a default.
            on, _, off = str(typed.default).partition("/")
            if isinstance(value, bool):
                words.append(on if value else off)
            else:
                for one in value if isinstance(value, list | tuple) else [value]:
                    words += [on, lanes_text(one) if typed.parser is parse_lanes else str(one)]
    return words


def _check_words(
    words: Sequence[str], function: Callable[..., Any], called: str = "sweep submit"
) -> Mapping[str, Any]:
    """Let a command read the options that are passed on to it, where a mistake is seen early.

    Returns:
        What it has read.

    Raises:
        click.UsageError: It does not know one, or not the value.
        ConfigError: One would show a key in the cluster's logs.
    """
    alone = typer.Typer(add_completion=False)
    alone.command()(function)
    given = typer.main.get_command(alone).make_context(called, ["NAME", *words]).params
    require_no_keys(given["tracking_uri"], given["storage"])
    return given


def _rejoin(name: str, address: str | None) -> str:
    return hint("logs", name, *(("--address", address) if address else ()))


def _say(line: str) -> None:
    output(stderr=True).print(line)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
