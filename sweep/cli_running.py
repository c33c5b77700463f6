"""The commands that train: `run`, `search`, `resume`, `retry`; `stop` and `first`. Parses and hands over."""

import os
from dataclasses import replace
from typing import Annotated, Any

import typer

from sweep.cli_options import (
    AddressOption,
    CommitOption,
    CpusOption,
    DataOption,
    FailuresOption,
    GpusOption,
    HangOption,
    NameArgument,
    OtherStorageOption,
    SetOption,
    SmokeOption,
    SpaceArgument,
    StopperOption,
    StorageOption,
    SweepNameOption,
    ThreadsOption,
    TrackingOption,
    TrialLanesOption,
    VersionOption,
    seconds_of,
)
from sweep.completion import complete_cell, one_of
from sweep.console import output
from sweep.errors import StoppedAtOnceError
from sweep.invocation import TRAINS, hint, resuming
from sweep.patience import is_unattended, patiently
from sweep.places import Places
from sweep.run_options import FAILED_IS_DONE, RESTARTED, TRIAL, RunOptions
from trainers.errors import ConfigError

FirstOption = Annotated[
    list[str] | None,
    typer.Option(
        "--first", metavar="AXIS=VALUE", help="Run these cells first; or a cell's address. Repeatable."
    ),
]
LimitOption = Annotated[
    str | None,
    typer.Option("--time-limit", metavar="TIME", help="Stop cleanly after so long: 90, 45m, 2h, 1d."),
]
CostOption = Annotated[
    float | None,
    typer.Option("--cost-limit", min=0.0, help="Stop cleanly once trials have cost so much; see --price."),
]
PriceOption = Annotated[
    float,
    typer.Option("--price", min=0.0, help="Of a device-hour: a GPU's, or a CPU's where trials have none."),
]
SystemOption = Annotated[
    bool,
    typer.Option(
        "--system-metrics/--no-system-metrics", help="Record how busy the nodes are, every ten seconds."
    ),
]
CellOption = Annotated[
    list[str] | None,
    typer.Option(
        "--cell",
        metavar="CELL_ID",
        help="Only this cell; its first digits will do. Repeatable.",
        autocompletion=complete_cell,
    ),
]
NoReuseOption = Annotated[
    bool, typer.Option("--no-reuse", help="Run every cell anew, though other sweeps have run it.")
]


def register_running(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (run, search, resume, retry, stop, first):
        app.command()(command)


def run(
    space: SpaceArgument,
    smoke: SmokeOption = False,
    overrides: SetOption = None,
    name: SweepNameOption = None,
    address: AddressOption = None,
    tracking_uri: TrackingOption = None,
    storage: StorageOption = None,
    data: DataOption = None,
    cpus: CpusOption = None,
    threads: ThreadsOption = None,
    gpus: GpusOption = None,
    commit_every: CommitOption = 5.0,
    max_failures: FailuresOption = 2,
    lanes: TrialLanesOption = None,
    hang_after: HangOption = 600.0,
    accept_version: VersionOption = False,
    accept_storage: OtherStorageOption = False,
    no_reuse: NoReuseOption = False,
    stopper: StopperOption = None,
    first: FirstOption = None,
    time_limit: LimitOption = None,
    cost_limit: CostOption = None,
    price: PriceOption = 1.0,
    system_metrics: SystemOption = True,
) -> None:
    """Run a space, or what is missing of it."""
    from search_spaces import load_space

    places = Places.resolve(tracking_uri=tracking_uri, storage=storage, data_folder=data)
    loaded = load_space(space, smoke=smoke, overrides=overrides or ())
    if loaded.is_search:
        again = hint("search", space, given=places.given, options=TRAINS)
        raise ConfigError(f"space {loaded.name!r} has no grid; run it with: {again}")
    _run(
        loaded.with_stopper(stopper),
        places,
        name=loaded.name if name is None else name,
        reuse=not no_reuse,
        address=address,
        cpus=cpus,
        cpus_per_trial=threads,
        gpus_per_trial=gpus,
        commit_seconds=commit_every,
        max_failures=max_failures,
        lanes=lanes,
        hang_seconds=hang_after,
        accept_version=accept_version,
        accept_storage=accept_storage,
        first=tuple(first or ()),
        limit_seconds=seconds_of(time_limit),
        cost_limit=cost_limit,
        price=price,
        system_metrics=system_metrics,
    )


def search(
    space: SpaceArgument,
    smoke: SmokeOption = False,
    overrides: SetOption = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the sweep; default: SPACE-search.")
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            "--sampler",
            help="tpe, cmaes, qmc, random or nsga2.",
            autocompletion=one_of("tpe", "cmaes", "qmc", "random", "nsga2"),
        ),
    ] = None,
    objectives: Annotated[
        list[str] | None,
        typer.Option("--objective", help="final/train_loss, final/test_accuracy or final/steps. Repeatable."),
    ] = None,
    cells: Annotated[
        int | None,
        typer.Option(
            "--cells", min=1, help="Train so many cells at most: whole configurations, a cell for each seed."
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Ask for no more once so many steps are asked for.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=0.1, help="Ask for no more after so much time, in all.")
    ] = None,
    sampler_seed: Annotated[
        int | None, typer.Option("--sampler-seed", min=0, help="Seeds the sampler.")
    ] = None,
    address: AddressOption = None,
    tracking_uri: TrackingOption = None,
    storage: StorageOption = None,
    data: DataOption = None,
    cpus: CpusOption = None,
    threads: ThreadsOption = None,
    gpus: GpusOption = None,
    commit_every: CommitOption = 5.0,
    max_failures: FailuresOption = 2,
    lanes: TrialLanesOption = None,
    hang_after: HangOption = 600.0,
    accept_version: VersionOption = False,
    accept_storage: OtherStorageOption = False,
    no_reuse: NoReuseOption = False,
    stopper: StopperOption = None,
    time_limit: LimitOption = None,
    cost_limit: CostOption = None,
    price: PriceOption = 1.0,
    system_metrics: SystemOption = True,
) -> None:
    """Search a space with Optuna, or go on with a search; every configuration is an ordinary cell."""
    from search_spaces import load_space

    places = Places.resolve(tracking_uri=tracking_uri, storage=storage, data_folder=data)
    loaded = load_space(space, smoke=smoke, overrides=overrides or ()).with_stopper(stopper)
    chosen = {
        "sampler": sampler,
        "objectives": objectives or None,
        "cells": cells,
        "steps": steps,
        "seconds": seconds,
        "sampler_seed": sampler_seed,
        "reuse": False if no_reuse else None,
    }
    searched = loaded.for_search({key: value for key, value in chosen.items() if value is not None})
    searched.search.require_budget()
    _run(
        searched,
        places,
        name=f"{loaded.name}-search" if name is None else name,
        reuse=not no_reuse,
        address=address,
        cpus=cpus,
        cpus_per_trial=threads,
        gpus_per_trial=gpus,
        commit_seconds=commit_every,
        max_failures=max_failures,
        lanes=lanes,
        hang_seconds=hang_after,
        accept_version=accept_version,
        accept_storage=accept_storage,
        limit_seconds=seconds_of(time_limit),
        cost_limit=cost_limit,
        price=price,
        system_metrics=system_metrics,
    )


def resume(
    name: NameArgument,
    address: AddressOption = None,
    tracking_uri: TrackingOption = None,
    storage: StorageOption = None,
    data: DataOption = None,
    cpus: CpusOption = None,
    threads: ThreadsOption = None,
    gpus: GpusOption = None,
    commit_every: CommitOption = 5.0,
    max_failures: FailuresOption = 2,
    lanes: TrialLanesOption = None,
    hang_after: HangOption = 600.0,
    accept_version: VersionOption = False,
    accept_storage: OtherStorageOption = False,
    cell: CellOption = None,
    continue_stopped: Annotated[
        bool, typer.Option("--continue-stopped", help="Cells that were stopped early go on, too.")
    ] = False,
    first: FirstOption = None,
    time_limit: LimitOption = None,
    cost_limit: CostOption = None,
    price: PriceOption = 1.0,
    system_metrics: SystemOption = True,
) -> None:
    """Make what is missing of a sweep, from the space that it was begun with."""
    places = Places.resolve(tracking_uri=tracking_uri, storage=storage, data_folder=data)
    _resume(
        name,
        places,
        cells=cell,
        address=address,
        cpus=cpus,
        cpus_per_trial=threads,
        gpus_per_trial=gpus,
        commit_seconds=commit_every,
        max_failures=max_failures,
        lanes=lanes,
        hang_seconds=hang_after,
        accept_version=accept_version,
        accept_storage=accept_storage,
        continue_stopped=continue_stopped,
        first=tuple(first or ()),
        limit_seconds=seconds_of(time_limit),
        cost_limit=cost_limit,
        price=price,
        system_metrics=system_metrics,
    )


def retry(
    name: NameArgument,
    address: AddressOption = None,
    tracking_uri: TrackingOption = None,
    storage: StorageOption = None,
    data: DataOption = None,
    cpus: CpusOption = None,
    threads: ThreadsOption = None,
    gpus: GpusOption = None,
    commit_every: CommitOption = 5.0,
    max_failures: FailuresOption = 2,
    lanes: TrialLanesOption = None,
    hang_after: HangOption = 600.0,
    accept_storage: OtherStorageOption = False,
    cell: CellOption = None,
    time_limit: LimitOption = None,
    cost_limit: CostOption = None,
    price: PriceOption = 1.0,
    system_metrics: SystemOption = True,
) -> None:
    """Run the failed cells of a sweep again, and nothing else."""
    from sweep.steering_requests import failed_cells

    places = Places.resolve(tracking_uri=tracking_uri, storage=storage, data_folder=data)
    failed = failed_cells(places.tracking_uri, name, cell or ())
    if not failed:
        _say(f"{name}: no cell has failed")
        return
    _resume(
        name,
        places,
        cells=failed,
        address=address,
        cpus=cpus,
        cpus_per_trial=threads,
        gpus_per_trial=gpus,
        commit_seconds=commit_every,
        max_failures=max_failures,
        lanes=lanes,
        hang_seconds=hang_after,
        accept_storage=accept_storage,
        limit_seconds=seconds_of(time_limit),
        cost_limit=cost_limit,
        price=price,
        system_metrics=system_metrics,
    )


def stop(name: NameArgument, tracking_uri: TrackingOption = None, cell: CellOption = None) -> None:
    """Ask the driver of a running sweep to stop after the next checkpoints, or to stop single cells."""
    from sweep.steering_requests import request_stop

    places = Places.resolve(tracking_uri=tracking_uri)
    _say(request_stop(places.tracking_uri, name, cell or (), given=places.given))


def first(
    name: NameArgument,
    wishes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[AXIS=VALUE]...", help="Or cells' addresses; none: as the plan has them."),
    ] = None,
    tracking_uri: TrackingOption = None,
) -> None:
    """Change which cells of a grid come first, while it runs and when it goes on."""
    from sweep.steering_requests import request_first

    _say(request_first(Places.resolve(tracking_uri=tracking_uri).tracking_uri, name, wishes or ()))


def _resume(name: str, places: Places, *, cells: list[str] | None, **options: Any) -> None:
    from sweep.steering_requests import cells_named
    from sweep.stored import stored_space

    def look() -> tuple[Any, frozenset[str] | None]:
        space = stored_space(places.tracking_uri, name)
        return space, frozenset(cells_named(places.tracking_uri, name, cells)) if cells else None

    space, only = patiently(look, _say) if is_unattended() else look()
    _run(space, places, is_there=True, name=name, only=only, **options)


def _run(space: Any, places: Places, *, is_there: bool = False, **options: Any) -> None:
    """Make what is missing, of a sweep that is there already or may not be yet, and exit with its code."""
    unsaid = frozenset(option for option in TRIAL if options.get(option) is None)
    given = RunOptions(
        **{option: value for option, value in options.items() if option not in unsaid},
        unsaid=unsaid,
        restarted=bool(os.environ.get(RESTARTED)),
        unattended=is_unattended(),
        failed_is_done=bool(os.environ.get(FAILED_IS_DONE)),
    )
    tries: list[RunOptions] = [given]

    def begun() -> None:
        # What is asked from now on is asked of the next try too, and its limits go on.
        tries[:] = [replace(given, restarted=True)]

    def make() -> int:
        # Ray and MLflow take seconds to import; a mistake in the space is said before.
        from sweep.driver import run_sweep

        return run_sweep(space, places, tries[0], output(), begun=begun)

    try:
        code = patiently(make, _say) if given.unattended else make()
    except KeyboardInterrupt as error:
        how = " before anything was recorded; to begin, give the same command again"
        if is_there or tries[0] is not given:
            how = f"; go on with: {resuming(given, given=places.given)}"
        raise StoppedAtOnceError(f"interrupted{how}") from error
    raise typer.Exit(code)


def _say(line: str) -> None:
    output().print(line)
