"""How a sweep looks to whoever opens MLflow: notes with links, and charts that are there at first sight.

MLflow keeps the arrangement of an experiment's charts in the reader's browser, except for views that somebody
shared: those are tags of the experiment, opened by an address. A sweep comes with one such view.
"""

import base64
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag

from sweep import names
from sweep.grid_table import AxisValue
from sweep.ledger.connection import translated
from sweep.ledger.description import note_with_links, run_name
from sweep.ledger.runs import TaggedRuns
from sweep.ledger.sweeps import Sweep
from trainers.canonical import Stage, dataset_entry, stages
from trainers.cell import Cell
from trainers.options import Choice

VIEW_KEY = "sharpflat"
TAG_VIEW = f"mlflow.sharedViewState.{VIEW_KEY}"
VIEW_QUERY = f"{names.TRAINING_QUERY}&compareRunsMode=CHART&viewStateShareKey={VIEW_KEY}"
SERIES = ("train/loss", "test/accuracy", "curvature/lambda_1")
RUNS_IN_CHARTS = 20
LINKS_LENGTH = 6000
"""What links to figures take at most of a description, which is one tag."""


class Looks(TaggedRuns):
    """What makes a sweep easy to look at; none of it is needed to read it back."""

    def describe_sweep(self, sweep: Sweep, cells: Iterable[Cell]) -> None:
        """Give a sweep its charts, linked from it, and its data sets as inputs; may be repeated.

        Cells have no inputs of their own: that would cost each a further request, a third of its record.
        """
        inputs = [_dataset_input(choice) for choice in dict.fromkeys(cell.dataset for cell in cells)]
        with translated(f"describing sweep {sweep.name!r}"):
            self.client.set_experiment_tag(sweep.experiment_id, TAG_VIEW, chart_view())
            self.client.log_inputs(sweep.run_id, datasets=inputs)
            note = self.client.get_run(sweep.run_id).data.tags.get(names.TAG_NOTE, "")
            # The list of experiments shows a line of it.
            own = note.partition(names.NOTE_LINKS_MARK)[0]
            self.client.set_experiment_tag(sweep.experiment_id, names.TAG_NOTE, own)
        if names.NOTE_LINKS_MARK not in note:
            self.add_figures(sweep.run_id, [])

    def add_figures(self, sweep_run_id: str, figures: Sequence[str]) -> None:
        """Link a sweep's charts and these artifacts of its own run in its description."""
        with translated("describing the figures"):
            run = self.client.get_run(sweep_run_id)
            note = sweep_note(
                run.data.tags.get(names.TAG_NOTE, ""),
                experiment_id=run.info.experiment_id,
                run_id=sweep_run_id,
                figures=figures,
            )
            self.client.set_tag(sweep_run_id, names.TAG_NOTE, note)


def _dataset_input(choice: Choice) -> DatasetInput:
    entry = dataset_entry(choice)
    digest = hashlib.sha256(f"{choice} {entry.digest}".encode()).hexdigest()[:16]
    source = json.dumps({"table": "trainers.data.DATASETS", "name": str(choice)})
    profile = json.dumps({"num_train": entry.num_train, "num_outputs": entry.num_outputs})
    dataset = Dataset(name=str(choice), digest=digest, source_type="code", source=source, profile=profile)
    return DatasetInput(dataset=dataset, tags=[InputTag("mlflow.data.context", "training")])


def chart_view() -> str:
    """Return the value of the tag: loss, accuracy and lambda_1 as lines, the finals as bars."""
    charts = [
        *(_line(series, log=series == "train/loss") for series in SERIES),
        *(_chart("BAR", metricKey=name) for name in (names.FINAL_TRAIN_LOSS, names.FINAL_TEST_ACCURACY)),
    ]
    state: dict[str, Any] = {
        "searchFilter": f"tags.`{names.TAG_ROLE}` = '{names.ROLE_CELL}'",
        # In the order of their dates MLflow would fold all cells below the sweep's own run.
        "orderByKey": f"metrics.`{names.FINAL_TRAIN_LOSS}`",
        "orderByAsc": True,
        "runsHiddenMode": "FIRST_20_RUNS",
        "compareRunCharts": charts,
        "compareRunSections": [
            {"uuid": VIEW_KEY, "name": "Sweep", "display": True, "isReordered": False, "deleted": False,
             "isGenerated": False, "columns": 3, "cardHeight": 360},
        ],
        # Else MLflow sorts the section in among those that it makes of the metrics' prefixes.
        "isAccordionReordered": True,
        "hideEmptyCharts": True,
    }  # fmt: skip
    data = json.dumps(state, sort_keys=True).encode()
    return "deflate;" + base64.b64encode(zlib.compress(data, 9)).decode()


def _line(metric: str, *, log: bool) -> dict[str, Any]:
    return _chart(
        "LINE",
        metricKey=metric,
        selectedMetricKeys=[metric],
        scaleType="log" if log else "linear",
        xAxisKey="step",
        xAxisScaleType="linear",
        lineSmoothness=0,
        useGlobalLineSmoothing=False,
        useGlobalXaxisKey=False,
    )


def _chart(kind: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "uuid": f"{kind}-{fields['metricKey']}",
        "metricSectionId": VIEW_KEY,
        "runsCountToCompare": RUNS_IN_CHARTS,
        "deleted": False,
        "isGenerated": False,
        **fields,
    }


def cell_note(cell: Cell, axes: Mapping[str, AxisValue], cell_id: str) -> str:
    """Return a cell's description in Markdown: what it is, phase by phase, and how to train it again."""
    phases = "\n".join(
        f"- steps {stage.start:,} to {stage.stop:,}: {_stage_text(stage)}" for stage in stages(cell)
    )
    name = run_name(axes, cell_id, method_of(cell))
    return note_with_links(
        f"**{name}**\n\n{cell.model} on {cell.dataset}, {cell.loss}, batches of {cell.batch_size},"
        f" seed {cell.seed}.\n\n{phases}",
        f"\n\nTrain it again here: `sweep cell {cell_id}`",
    )


def method_of(cell: Cell) -> str:
    """Return how the last phase trains, as a tag to filter by: `sgd`, `bulk-sgd`, `dom-adam`, `split-sgd`."""
    last = stages(cell)[-1]
    part = (
        ""
        if not last.projects
        else "bulk-"
        if not last.dom_rate
        else "dom-"
        if not last.bulk_rate
        else "split-"
    )
    return part + last.optimizer.name


def _stage_text(stage: Stage) -> str:
    if not stage.projects:
        return f"{stage.optimizer}, rate {stage.dom_rate:g}"
    rates = (
        f"rate {stage.dom_rate:g} in the Dominant subspace (k = {stage.k}), {stage.bulk_rate:g} in the Bulk"
    )
    return f"{stage.optimizer}, {rates}"


def sweep_note(note: str, *, experiment_id: str, run_id: str, figures: Sequence[str]) -> str:
    """Return the sweep's description with links to its charts and figures, in place of earlier ones.

    Args:
        note: The description so far.
        experiment_id: The sweep's experiment.
        run_id: Its own run.
        figures: Paths of artifacts.
    """
    own = note.partition(names.NOTE_LINKS_MARK)[0]
    place = f"#/experiments/{experiment_id}/runs"
    links = [f"- [{path}]({place}/{run_id}/artifacts/{path}?{names.TRAINING_QUERY})" for path in figures]
    charts = f"[Charts of all cells](#/experiments/{experiment_id}/runs?{VIEW_QUERY})"
    kept = len(links)
    while sum(len(link) + 1 for link in links[:kept]) > LINKS_LENGTH:
        kept -= 1
    more = [f"- and {len(links) - kept} more, among the artifacts"] if kept < len(links) else []
    return note_with_links(own, f"{names.NOTE_LINKS_MARK}{charts}\n\n" + "\n".join([*links[:kept], *more]))
