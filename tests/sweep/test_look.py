"""What makes a sweep easy to look at in MLflow: charts, notes, links, data sets, tags that filter."""

import base64
import json
import math
import zlib
from dataclasses import replace

from sweep import names
from sweep.ledger import Ledger
from sweep.ledger.description import TAG_LENGTH
from sweep.ledger.look import SERIES, TAG_VIEW, cell_note, method_of
from tests.sweep.small_sweep import FakeSpace, make_cell, make_plan
from trainers.canonical import cell_id
from trainers.cell import Phase
from trainers.options import Choice


def test_a_sweep_has_charts_and_its_data_as_inputs(ledger: Ledger) -> None:
    sweep = ledger.open_sweep(FakeSpace(), make_plan(0.1))
    cells = [
        make_cell(),
        make_cell(0.2),
        replace(make_cell(), dataset=Choice.of("mnist-5k", labels="random")),
    ]
    for _ in range(2):
        ledger.describe_sweep(sweep, cells)
    inputs = ledger.client.get_run(sweep.run_id).inputs.dataset_inputs
    assert sorted(found.dataset.name for found in inputs) == sorted({str(cell.dataset) for cell in cells})
    assert len({found.dataset.digest for found in inputs}) == 2
    text = ledger.client.get_experiment(sweep.experiment_id).tags[TAG_VIEW]
    view = json.loads(zlib.decompress(base64.b64decode(text.removeprefix("deflate;"))))
    lines = [chart["metricKey"] for chart in view["compareRunCharts"] if chart["type"] == "LINE"]
    assert lines == list(SERIES) == ["train/loss", "test/accuracy", "curvature/lambda_1"]
    sections = {section["uuid"] for section in view["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in view["compareRunCharts"]} == sections


def test_figures_are_linked_once_and_the_description_stays(ledger: Ledger) -> None:
    sweep = ledger.open_sweep(FakeSpace(), make_plan(0.1))
    ledger.client.set_tag(sweep.run_id, names.TAG_NOTE, "A *little* space.")
    ledger.add_figures(sweep.run_id, ["figures/old.png"])
    ledger.add_figures(sweep.run_id, ["figures/heatmap.png", "figures/report.html"])
    note = ledger.client.get_run(sweep.run_id).data.tags[names.TAG_NOTE]
    assert note.startswith("A *little* space.\n\n") and "old.png" not in note
    page = f"runs/{sweep.run_id}/artifacts/figures/report.html?{names.TRAINING_QUERY}"
    assert f"(#/experiments/{sweep.experiment_id}/{page})" in note
    assert note.count("viewStateShareKey=") == 1


def test_charts_are_linked_from_the_beginning_and_going_on_keeps_the_links(ledger: Ledger) -> None:
    plan = make_plan(0.1)
    sweep = ledger.open_sweep(FakeSpace(), plan)
    ledger.write_plan(sweep, FakeSpace(), plan)
    ledger.describe_sweep(sweep, [make_cell()])

    def note() -> str:
        return ledger.client.get_run(sweep.run_id).data.tags[names.TAG_NOTE]

    assert note().startswith(FakeSpace().description) and note().count("viewStateShareKey=") == 1
    ledger.add_figures(sweep.run_id, ["figures/heatmap.png"])
    ledger.write_plan(sweep, FakeSpace(description="Another."), plan)
    ledger.describe_sweep(sweep, [make_cell()])
    experiment = ledger.client.get_experiment(sweep.experiment_id)
    assert experiment.tags[names.TAG_NOTE] == "Another."
    assert note().startswith("Another.") and "figures/heatmap.png" in note()
    assert note().count("viewStateShareKey=") == 1


def test_a_description_that_is_too_long_for_mlflow_keeps_its_links(ledger: Ledger) -> None:
    plan, space = make_plan(0.1), FakeSpace(description="long " * 4000)
    sweep = ledger.open_sweep(space, plan)
    ledger.write_plan(sweep, space, plan)
    ledger.add_figures(sweep.run_id, [f"figures/{number}.png" for number in range(100)])
    for _ in range(2):
        note = ledger.client.get_run(sweep.run_id).data.tags[names.TAG_NOTE]
        own, _, links = note.partition(names.NOTE_LINKS_MARK)
        assert own.endswith("…") and len(own) > 1000
        listed = links.splitlines()
        assert listed[-1] == f"- and {100 - (len(listed) - 3)} more, among the artifacts"
        assert all(line.endswith(f"?{names.TRAINING_QUERY})") for line in listed[2:-1])
        ledger.write_plan(sweep, space, plan)


def test_a_cell_says_what_it_is_and_can_be_found(ledger: Ledger) -> None:
    sweep, cell = ledger.open_sweep(FakeSpace(), make_plan(0.1)), make_cell()
    run = ledger.start_cell(sweep, cell_id=cell_id(cell), cell=cell, axes={"lr": 0.1})
    note = ledger.client.get_run(run.run_id).data.tags[names.TAG_NOTE]
    assert note == cell_note(cell, {"lr": 0.1}, cell_id(cell))
    assert "steps 20 to 100: sgd, rate 0 in the Dominant subspace (k = 3), 0.1 in the Bulk" in note
    assert f"`sweep cell {cell_id(cell)}`" in note
    # A grid without axes, the SGD beside the others, is called by more than its address.
    assert cell_note(cell, {}, "0123456789abcdef").startswith("**bulk-sgd 0123456789abcdef**")
    found = ledger.client.search_runs([sweep.experiment_id], "tags.`sweep.method` = 'bulk-sgd'")
    assert [other.info.run_id for other in found] == [run.run_id]


def test_the_description_of_many_phases_fits_into_a_tag() -> None:
    """MLflow cuts no tag of a new run, and PostgreSQL takes none that is longer."""
    phases = tuple(Phase(lr=number, alpha_dom=2.0, k=3, until=10 * number) for number in range(1, 201))
    cell = replace(make_cell(), phases=phases)
    note = cell_note(cell, {}, "0123456789abcdef")
    assert len(note) == TAG_LENGTH and note.endswith("`sweep cell 0123456789abcdef`")


def test_methods_have_the_names_of_the_papers() -> None:
    def method(**rates: float) -> str:
        return method_of(replace(make_cell(), phases=(Phase(lr=0.1, until=10, k=3, **rates),)))

    found = [method(), method(alpha_dom=math.inf), method(beta_bulk=math.inf), method(alpha_dom=2.0)]
    assert found == ["sgd", "bulk-sgd", "dom-sgd", "split-sgd"]
