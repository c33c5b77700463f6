"""The `sweep` command. Parses and prints; what the commands do is done elsewhere.

Bad input ends with one clear message, exit code 2 and no traceback; failures at run time with 1; Ctrl-C with
130 and what to type to go on.
"""

import json
import os
import socket
import sys
from collections.abc import Sequence
from gc import set_threshold
from importlib.metadata import entry_points
from typing import Annotated

import typer
from rich.table import Table

from sweep.cli_options import (
    DataOption,
    JsonOption,
    NameArgument,
    OtherStorageOption,
    SetOption,
    SmokeOption,
    StorageOption,
    TrackingOption,
    YesOption,
)
from sweep.cli_reading import register_reading
from sweep.cli_running import register_running
from sweep.completion import complete_cell, complete_space_or_sweep
from sweep.console import add_typed_column, output
from sweep.invocation import without_password
from sweep.outputs import named_place, require_folder
from sweep.places import Places
from sweep.run_options import FAILED_IS_DONE
from trainers.errors import ConfigError, SharpflatError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Grids of projected-SGD training: plan, run, search, resume, look, report.",
)
register_reading(app)
register_running(app)

INTERRUPTED = 130
ALLOCATIONS_BETWEEN_COLLECTIONS = 50_000
"""Python's 700 make it look through thousands of runs again and again while they are read: twice the time."""


@app.command("list")
def list_(tracking_uri: TrackingOption = None, as_json: JsonOption = False) -> None:
    """List the search spaces, and the sweeps that MLflow has."""
    from search_spaces import list_spaces
    from sweep.overview import all_sweeps

    places = Places.resolve(tracking_uri=tracking_uri)
    spaces = list_spaces()
    sweeps = all_sweeps(places.tracking_uri)
    if as_json:
        found = {"spaces": [name for name, _ in spaces], "sweeps": [sweep.to_json() for sweep in sweeps]}
        print(json.dumps(found, indent=1))
        return
    console = output()
    table = Table(box=None, header_style="bold")
    add_typed_column(table, "space", (name for name, _ in spaces))
    table.add_column("what it is")
    for name, description in spaces:
        table.add_row(name, description.strip().splitlines()[0])
    console.print(table)
    if sweeps:
        console.print()
        known = Table(box=None, header_style="bold")
        rows = [sweep.columns for sweep in sweeps]
        for place, head in enumerate(("sweep", "space")):
            add_typed_column(known, head, (row[place] for row in rows))
        # From the sweeps' own runs alone, which know no means over seeds: those are in status and best.
        for head in ("begun", "state", "cells", "best single cell: loss", "accuracy [%]"):
            known.add_column(head, overflow="fold")
        for row in rows:
            known.add_row(*row)
        console.print(known)


@app.command()
def show(
    space: Annotated[
        str,
        typer.Argument(
            metavar="SPACE",
            help="A name from `sweep list`, or a YAML file.",
            autocompletion=complete_space_or_sweep,
        ),
    ],
    smoke: SmokeOption = False,
    overrides: SetOption = None,
    stored: Annotated[
        bool, typer.Option("--stored", help="SPACE is a sweep's name: the space that it was last run with.")
    ] = False,
    tracking_uri: TrackingOption = None,
) -> None:
    """Print a space as it would be run: every field, overrides and defaults filled in, as YAML."""
    if not stored:
        from search_spaces import load_space

        sys.stdout.write(load_space(space, smoke=smoke, overrides=overrides or ()).text)
        return
    if smoke or overrides:
        raise ConfigError("--stored shows a sweep's space as it is; found --smoke or --set with it.")
    from sweep.stored import stored_space

    sys.stdout.write(stored_space(Places.resolve(tracking_uri=tracking_uri).tracking_uri, space).text)


@app.command()
def report(
    name: NameArgument,
    tracking_uri: TrackingOption = None,
    out: Annotated[str | None, typer.Option("--out", help="Folder; default: results/reports/NAME.")] = None,
    pdf: Annotated[
        bool, typer.Option("--pdf", help="Write each figure as a PDF too, of lines and text, for papers.")
    ] = False,
) -> None:
    """Rebuild the figures and tables of a sweep from MLflow alone."""
    from sweep.finding import publish_report

    places = Places.resolve(tracking_uri=tracking_uri)
    folder = named_place(out) if out else places.reports(name)
    require_folder(folder)
    publish_report(places, name, folder, output(), pdf=pdf)


@app.command()
def export(
    name: NameArgument,
    tracking_uri: TrackingOption = None,
    out: Annotated[
        str | None,
        typer.Option("--out", help="File ending in .csv or .parquet; default: standard output as CSV."),
    ] = None,
    histories: Annotated[
        bool,
        typer.Option(
            "--histories",
            help="Every recorded point instead of one row a grid point; of cells that have not ended, what "
            "MLflow has.",
        ),
    ] = False,
) -> None:
    """Write a sweep as one tidy table."""
    from sweep.export import require_table_file, write_export
    from sweep.record import load_record

    path = None if out is None else named_place(out)
    if path is not None:
        require_table_file(path)
    record = load_record(Places.resolve(tracking_uri=tracking_uri).tracking_uri, name)
    write_export(record, path, histories=histories)


@app.command()
def ui(
    tracking_uri: TrackingOption = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 5000,
) -> None:
    """Open MLflow's own pages on this machine (localhost only)."""
    from sweep.ledger import Ledger
    from sweep.names import TRAINING_QUERY

    places = Places.resolve(tracking_uri=tracking_uri)
    if places.tracking_uri.startswith("http"):
        shown = without_password(places.tracking_uri)
        output().print(f"MLflow is at {shown}/#/experiments?{TRAINING_QUERY}")
        return
    Ledger.open(places.tracking_uri, create=False)
    try:
        # As MLflow's server will; where it fails, that says so after a while and at length.
        with socket.socket() as wanted:
            wanted.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            wanted.bind(("127.0.0.1", port))
    except OSError as error:
        raise ConfigError(
            f"--port: {port} cannot be used: {error.strerror}. Is MLflow there already? Or choose another."
        ) from error
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    address = f"http://127.0.0.1:{port}/#/experiments?{TRAINING_QUERY}"
    output().print(f"MLflow is at {address} (Ctrl-C ends it)")
    # Not as an option: it may hold a password, and lists of processes are for everybody.
    os.environ["MLFLOW_BACKEND_STORE_URI"] = places.tracking_uri
    command = [
        "-m",
        "mlflow",
        "server",
        "--default-artifact-root",
        places.artifacts.as_uri(),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *command, "--workers", "1"])


@app.command()
def delete(
    name: NameArgument,
    yes: YesOption = False,
    tracking_uri: TrackingOption = None,
    storage: StorageOption = None,
    accept_storage: OtherStorageOption = False,
) -> None:
    """Delete a sweep: its runs, their files, and the checkpoints that only it needs."""
    from sweep.housekeeping import delete_sweep

    places = Places.resolve(tracking_uri=tracking_uri, storage=storage)
    delete_sweep(name, places, output(), yes=yes, accept_storage=accept_storage)


@app.command()
def gc(
    yes: YesOption = False,
    ends: Annotated[
        bool,
        typer.Option(
            "--ends", help="Also the last states of completed and stopped cells, from which they can go on."
        ),
    ] = False,
    unknown: Annotated[
        bool, typer.Option("--unknown", help="Also what no sweep of this MLflow knows.")
    ] = False,
    tracking_uri: TrackingOption = None,
    storage: StorageOption = None,
) -> None:
    """Remove checkpoints that no sweep needs any more."""
    from sweep.housekeeping import collect_garbage

    places = Places.resolve(tracking_uri=tracking_uri, storage=storage)
    collect_garbage(places, output(), yes=yes, ends=ends, unknown=unknown)


@app.command()
def cell(
    cell_id: Annotated[
        str,
        typer.Argument(
            metavar="CELL_ID", help="16 hex digits, or the first few.", autocompletion=complete_cell
        ),
    ],
    space: Annotated[
        str | None, typer.Option("--space", help="Where to look for it; default: the sweeps that MLflow has.")
    ] = None,
    smoke: SmokeOption = False,
    overrides: SetOption = None,
    tracking_uri: TrackingOption = None,
    data: DataOption = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Stop after this many steps.")] = None,
) -> None:
    """Run one cell in this process, without Ray and without recording it, for debugging."""
    from sweep.single import find_cell, run_cell

    places = Places.resolve(tracking_uri=tracking_uri, data_folder=data)
    found = find_cell(cell_id, places.tracking_uri, space, smoke=smoke, overrides=overrides or ())
    run_cell(found, places.data_folder, output(), steps=steps)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit the process with its code."""
    code: object = None
    set_threshold(ALLOCATIONS_BETWEEN_COLLECTIONS)
    # What builds on this package (`cluster`) adds its own commands.
    for entry in entry_points(group="sweep.commands"):
        entry.load()(app)
    try:
        code = app(args=list(arguments) if arguments is not None else None, standalone_mode=False)
    except SharpflatError as error:
        _fail(str(error), error.exit_code, again_helps=error.transient)
    except (typer.Abort, KeyboardInterrupt):
        _fail("interrupted.", INTERRUPTED)
    except BrokenPipeError:
        # Whoever read the output has seen enough (sweep … | head).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        usage = getattr(error, "format_message", None)
        if usage is None:
            raise
        _fail(_in_our_words(usage(), error.__cause__), getattr(error, "exit_code", ConfigError.exit_code))
    sys.exit(code if isinstance(code, int) else 0)


def _in_our_words(message: str, cause: BaseException | None) -> str:
    """Say of an option's value what was expected and what was found, where typer tells only the former."""
    from pydantic import ValidationError

    from search_spaces.strict import expected

    if not isinstance(cause, ValidationError):
        return message
    item = cause.errors(include_url=False)[0]
    told, ours = item["msg"], item["msg"].removeprefix("Value error, ")
    return message.replace(told, ours if ours != told else expected({**item}))


def _fail(message: str, code: int, *, again_helps: bool = False) -> None:
    output(stderr=True).print(f"error: {message}", style="red")
    is_done = code == ConfigError.exit_code and not again_helps and os.environ.get(FAILED_IS_DONE)
    sys.exit(0 if is_done else code)
