"""The commands that only look: `plan`, `status`, `best`, `compare`. Part of the `sweep` command."""

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from sweep.cli_options import (
    DataOption,
    JsonOption,
    LanesOption,
    NameArgument,
    SetOption,
    SmokeOption,
    SpaceArgument,
    TrackingOption,
)
from sweep.completion import complete_sweep
from sweep.console import add_typed_column, output
from sweep.invocation import TRAINS, hint
from sweep.outputs import named_place, replacing, require_file, writing
from sweep.places import Places
from trainers.errors import ConfigError

if TYPE_CHECKING:
    from sweep.best import Found
    from sweep.compare import Comparison

ROWS_SHOWN = 30


def register_reading(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (plan, status, best, compare):
        app.command()(command)


def plan(
    space: SpaceArgument,
    smoke: SmokeOption = False,
    overrides: SetOption = None,
    search: Annotated[
        bool, typer.Option("--search", help="Plan its search, not its grids; so does a space that has none.")
    ] = False,
    cells: Annotated[
        int | None,
        typer.Option(
            "--cells", min=1, help="With --search: train so many cells at most, in whole configurations."
        ),
    ] = None,
    lanes: LanesOption = 1,
    probe: Annotated[
        float | None,
        typer.Option("--probe", min=0.1, help="Train for so many seconds in all to measure what steps take."),
    ] = None,
    slots: Annotated[
        int | None,
        typer.Option(
            "--slots",
            min=1,
            help="Trials at a time; default: what this machine's GPUs, or CPUs, have room for.",
        ),
    ] = None,
    gpus: Annotated[
        float | None,
        typer.Option(
            "--gpus-per-trial",
            min=0.0,
            help="GPUs of one trial; default: 1 where --lanes auto finds one, else 0.",
        ),
    ] = None,
    tracking_uri: TrackingOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what running a space would do and how long it would take, without doing it."""
    from search_spaces import load_space
    from sweep.forecast import forecast
    from sweep.lanes import gpus_to_plan, lanes_at_hand, trials_at_a_time
    from sweep.plan import make_plan
    from sweep.trainable import require_trainable

    loaded = load_space(space, smoke=smoke, overrides=overrides or ())
    search = search or loaded.is_search
    if cells is not None and not search:
        raise ConfigError("--cells: belongs to --search; without it all cells of the grids are planned.")
    made, about = make_plan(loaded), ""
    if search:
        loaded = loaded.for_search({} if cells is None else {"cells": cells})
        loaded.search.require_budget()
        # Optuna takes a while to import.
        from sweep.search.foreseeing import foreseen_plan, search_text

        made, about = foreseen_plan(loaded), search_text(loaded.search)
    require_trainable(loaded, made)
    gpus = gpus_to_plan(lanes, gpus)
    lanes = lanes_at_hand(lanes, made.cells.values(), gpus_per_trial=gpus)
    places = Places.resolve(tracking_uri=tracking_uri, data_folder=data)
    console = output()
    found = forecast(
        made,
        places,
        lanes=lanes,
        slots=slots or trials_at_a_time(gpus),
        on_gpu=gpus > 0,
        probe_seconds=probe,
        say=lambda line: None if as_json else console.print(line),
    )
    if as_json:
        print(json.dumps({**made.to_json(lanes), **found.to_json()}, indent=1))
        return
    table = Table(box=None, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    values = made.to_json(lanes)
    # In the words of `run` and `status`: a cell may be that of several grid points.
    words = {"cells": "grid points", "unique_cells": "cells"}
    for key in ("name", "cells", "unique_cells", "lanes", "trials", "steps_naive", "steps_planned"):
        text = f"{values[key]:,}" if isinstance(values[key], int) else str(values[key])
        table.add_row(words.get(key, key.replace("_", " ")), text)
    if about:
        table.add_row("search", about)
        table.add_row("", "the cells are drawn at random here; the sampler asks for others")
    for label, text in found.lines():
        table.add_row(label, text)
    console.print(table)


def status(
    name: NameArgument,
    tracking_uri: TrackingOption = None,
    watch: Annotated[
        bool,
        typer.Option("--watch", "-w", help="Look again until all have ended, or its driver is silent."),
    ] = False,
    text: Annotated[
        bool, typer.Option("--text", help="Also a heatmap and the lowest loss so far, made of characters.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show how a sweep stands: cells by status, speed, time left, the best, what went wrong, and where."""
    from sweep.record import load_record
    from sweep.standing import standing_of
    from sweep.standing_view import show
    from sweep.standing_view import watch as keep_watching

    places = Places.resolve(tracking_uri=tracking_uri)
    uri = places.tracking_uri
    if as_json:
        print(json.dumps(standing_of(load_record(uri, name)).to_json(), indent=1))
    elif watch:
        keep_watching(lambda: load_record(uri, name), output(), pictures=text, given=places.given)
    else:
        show(load_record(uri, name), output(), pictures=text)


def best(
    name: NameArgument,
    metric: Annotated[
        str | None,
        typer.Option("--metric", help="What decides; default: a search's objective, else final/train_loss."),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="So many configurations.")] = 3,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Write them to a YAML file, a space that `sweep run` goes on with: more seeds, longer.",
        ),
    ] = None,
    tracking_uri: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the best configurations, all their seeds together, and write a space that goes on with them."""
    from sweep.best import best_space, find_best
    from sweep.record import load_record
    from sweep.stored import stored_space

    path = None if out is None else named_place(out)
    if path is not None:
        require_file(path)
    places = Places.resolve(tracking_uri=tracking_uri)
    uri = places.tracking_uri
    record = load_record(uri, name)
    decisive, found = find_best(record, metric=metric, top=top)
    if out is not None and path is not None:
        text = best_space(
            stored_space(uri, name), found, metric=decisive, sweep=name, file=out, given=places.given
        )
        with writing(path), replacing(path) as fresh:
            fresh.write_text(text, encoding="utf-8")
    if as_json:
        print(json.dumps([one.to_json() for one in found], indent=1))
        return
    console = output()
    console.print(_best_table(found, decisive))
    if out is not None:
        run = hint("run", out, given=places.given, options=TRAINS)
        console.print(f"\ngo on with them: {run}   (its head says how: more seeds, longer)")
    else:
        alone = hint("cell", found[0].cells[0], given=places.given)
        console.print(f"\none of them alone, in this process: {alone}")
        more = hint("best", name, "--out", "best.yaml", given=places.given)
        console.print(f"more seeds, longer: {more}")


def _best_table(found: "Sequence[Found]", decisive: str) -> Table:
    from sweep.best import least_is_best, value_text
    from sweep.report.labels import axis_label, plain, plain_metric

    axes = list(dict.fromkeys(axis for one in found for axis in one.place))
    order = f"the best by {decisive}, the {'least' if least_is_best(decisive) else 'largest'} first"
    table = Table(box=None, header_style="bold", title_justify="left", title=order)
    table.add_column("", justify="right")
    for axis in axes:
        table.add_column(axis_label(axis).plain, justify="right")
    for metric in found[0].values:
        table.add_column(plain_metric(metric), justify="right")
    add_typed_column(table, "cells", (cell for one in found for cell in one.cells))
    for rank, one in enumerate(found, start=1):
        values = [value_text(one, metric) for metric in one.values]
        places = [plain(one.place.get(axis)) for axis in axes]
        table.add_row(str(rank), *places, *values, " ".join(one.cells))
    return table


def compare(
    first: Annotated[
        str, typer.Argument(metavar="FIRST", help="A sweep's name.", autocompletion=complete_sweep)
    ],
    second: Annotated[
        str, typer.Argument(metavar="SECOND", help="Another's.", autocompletion=complete_sweep)
    ],
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metric", help="What to compare; default: final loss and accuracy. Repeatable."),
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", help="HTML file; default: results/reports/FIRST-SECOND.html.")
    ] = None,
    tracking_uri: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two sweeps place by place: the difference and its spread over the seeds."""
    from sweep.compare import DEFAULT_METRICS
    from sweep.compare import compare as compare_records
    from sweep.html.comparison import write_comparison
    from sweep.record import load_record

    places = Places.resolve(tracking_uri=tracking_uri)
    path = named_place(out) if out else places.reports(f"{first}-{second}.html")
    require_file(path)
    records = [load_record(places.tracking_uri, name) for name in (first, second)]
    comparison = compare_records(records[0], records[1], tuple(metrics or DEFAULT_METRICS))
    with writing(path), replacing(path) as fresh:
        write_comparison(comparison, fresh)
    if as_json:
        print(json.dumps(_json_rows(comparison), indent=1))
        return
    console = output()
    for metric in comparison.metrics:
        console.print(_comparison_table(comparison, metric))
    console.print(f"\ninteractive: {path}")


def _json_rows(comparison: "Comparison") -> list[dict[str, Any]]:
    return [
        {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in row.items()
        }
        for row in comparison.table().to_pylist()
    ]


def _comparison_table(comparison: "Comparison", metric: str) -> Table:
    from sweep.report.labels import axis_label, metric_label, number, plain, spread
    from sweep.report.states import Pool, State

    label = metric_label(metric)

    def moments(mean: float, std: float) -> str:
        return number(mean, label) + ("" if math.isnan(std) else f" {spread(std, label, mean=mean)}")

    def side(known: Pool) -> str:
        told = "" if known.state is State.OK else known.state.value
        return " ".join(
            filter(None, ("" if math.isnan(known.mean) else moments(known.mean, known.std), told))
        )

    names: Sequence[str] = [axis_label(axis).plain for axis in comparison.axes]
    table = Table(
        *names, comparison.first.name, comparison.second.name, "difference", "pairs", box=None,
        title=label.text, title_justify="left", header_style="bold",
    )  # fmt: skip
    for pair in comparison.pairs[:ROWS_SHOWN]:
        found = pair.metrics[metric]
        difference = "" if math.isnan(found.difference) else moments(found.difference, found.spread)
        values = [plain(pair.axes[axis]) for axis in comparison.axes]
        table.add_row(*values, side(found.first), side(found.second), difference, str(found.num_pairs or ""))
    if (more := len(comparison.pairs) - ROWS_SHOWN) > 0:
        table.caption = f"and {more} more places: see the page, or --json"
    return table
