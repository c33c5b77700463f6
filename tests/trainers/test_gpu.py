"""The GPU does what the CPU does, and replays steps that it would otherwise take one operation at a time."""

import dataclasses
from collections.abc import Iterator, Sequence

import pytest
import torch

from tests.trainers.small_cells import DIVERGING, bulk, dom, made_data, sgd, small_cell
from tests.trainers.tolerances import DEVICES_SERIES, DEVICES_WEIGHTS, FINALS, SOLVED, TRAJECTORY
from trainers import stepper
from trainers.cell import Cell, Phase, Probe
from trainers.options import Choice
from trainers.probes import PROBES as TABLE
from trainers.stepping import Steps
from trainers.training import Trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

STEPS = 60
MLP, CNN = Choice.of("mlp", widths=(8, 6), activation="tanh"), Choice.of("cnn", channels=2)
OPTIONS: dict[str, dict[str, object]] = {
    "energies": {"holdout_size": 60, "k": 3, "estimator": "hutchinson"},
    "spectrum": {"holdout_size": 60, "lanczos_steps": 8, "vectors": 2},
    "distance": {},
    "edges": {},
    "sketch": {"size": 4},
}
PROBES = tuple(
    Probe(name=name, every=20, options=tuple(sorted(OPTIONS.get(name, {"holdout_size": 60}).items())))
    for name in TABLE
    if name not in ("file", "weights")
)


def projected(lr: float = 0.05, **fields: object) -> Phase:
    return Phase(lr=lr, alpha_dom=2.0, k=3, until=STEPS, **fields)  # type: ignore[arg-type]


def with_optimizer(name: str, lr: float = 0.02, **options: object) -> Cell:
    optimizer = Choice.of(name, **options)
    phases = (Phase(lr=lr, until=20, optimizer=optimizer), projected(lr, optimizer=optimizer))
    return small_cell(*phases, model=MLP)


PACKS = {
    "switches": [
        small_cell(sgd(STEPS), model=MLP),
        small_cell(sgd(13), bulk(STEPS, k=2), seed=1, model=MLP),
        small_cell(sgd(40), dom(50), bulk(STEPS, lr=0.02, k=3), seed=2, model=MLP),
        small_cell(sgd(STEPS, lr=1e9), seed=3, model=MLP),
        small_cell(bulk(35), seed=4, model=MLP),
    ],
    "diverging": [small_cell(bulk(STEPS, lr=lr), model=MLP, seed=seed) for seed, lr in DIVERGING.items()],
    "cnn": [small_cell(sgd(7), bulk(STEPS), model=CNN, seed=seed) for seed in (0, 1)],
    "probes": [small_cell(sgd(20), bulk(STEPS), model=MLP, probes=PROBES)],
    "momentum": [with_optimizer("momentum")] * 2,
    "adam": [with_optimizer("adam", lr=0.003)],
    "sam": [with_optimizer("sam", full_batch=False)],
    "gd": [with_optimizer("gd")],
    "newton": [
        small_cell(sgd(30), Phase(lr=0.05, k=3, until=STEPS, optimizer=Choice.of("newton")), model=MLP)
    ],
    "several": [with_optimizer("momentum"), small_cell(bulk(STEPS), model=MLP)],
    "module": [small_cell(sgd(10), bulk(20), model=Choice.of("resnet8", channels=2))],
}


@pytest.fixture(autouse=True)
def quiet_deterministic_kernels() -> Iterator[None]:
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def trained(cells: list[Cell], device: str, dtype: torch.dtype, stop: int = STEPS) -> Trainer:
    trainer = Trainer(cells, data=made_data(dtype), device=device, dtype=dtype)
    trainer.advance(stop)
    return trainer


def measured(series: Sequence[float | None]) -> dict[int, float]:
    """The values of a series by row, without the rows at which it was not measured."""
    return {row: value for row, value in enumerate(series) if value is not None}


def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Steps, "_replayable", property(lambda _: False))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", PACKS)
def test_a_gpu_trains_as_a_cpu_does(name: str, dtype: torch.dtype) -> None:
    """In float32 with the programs of `trainers.kernels`, in float64 with the library."""
    # Eigenspaces that are solved to the end: a step later or earlier is no rounding.
    exact = [
        dataclasses.replace(
            cell, solver=dataclasses.replace(cell.solver, tolerance=SOLVED[dtype], max_products=60)
        )
        for cell in PACKS[name]
    ]
    host, device = (trained(exact, where, dtype) for where in ("cpu", "cuda"))
    for index, lane in enumerate(host.lanes):
        other = device.lanes[index]
        assert lane.outcome == other.outcome and lane.refreshes == other.refreshes
        if lane.outcome is not None and lane.outcome.status == "completed":
            torch.testing.assert_close(
                device.weights(index).cpu(), host.weights(index), rtol=0, atol=DEVICES_WEIGHTS[dtype]
            )
            assert lane.finals == pytest.approx(other.finals, rel=DEVICES_SERIES[dtype]["rel"])
        one, two = host.drain(index), device.drain(index)
        assert one.steps == two.steps and one.series.keys() == two.series.keys()
        for series in ("train/loss", "curvature/lambda_1", "curvature/chi", "effective/bulk_rate"):
            if series in one.series and lane.outcome is not None and lane.outcome.status == "completed":
                values, others = measured(one.series[series]), measured(two.series[series])
                assert values.keys() == others.keys()
                assert values == pytest.approx(others, **DEVICES_SERIES[dtype])


@pytest.mark.parametrize("name", PACKS)
def test_a_replayed_step_has_the_bits_of_one_that_is_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    replayed = trained(PACKS[name], "cuda", torch.float32)
    assert replayed.finished
    eager(monkeypatch)
    plain = trained(PACKS[name], "cuda", torch.float32)
    for index, lane in enumerate(plain.lanes):
        assert torch.equal(replayed.weights(index).nan_to_num(), plain.weights(index).nan_to_num())
        assert lane.outcome == replayed.lanes[index].outcome
        one, two = plain.drain(index), replayed.drain(index)
        assert one.steps == two.steps and str(one.series) == str(two.series)


@pytest.mark.parametrize("name", ["diverging", "momentum", "several"])
def test_directions_may_be_read_where_they_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = trained(PACKS[name], "cuda", torch.float32)
    monkeypatch.setattr(stepper, "MOST_MOVES", -1)
    copied = trained(PACKS[name], "cuda", torch.float32)
    for index in range(len(shared.lanes)):
        assert torch.equal(shared.weights(index).nan_to_num(), copied.weights(index).nan_to_num())


def test_lanes_that_are_refreshed_together_share_their_directions() -> None:
    cells = [small_cell(bulk(STEPS, k=3), model=MLP, seed=seed) for seed in range(3)]
    trainer = Trainer(cells, data=made_data(), device="cuda")
    trainer.advance(STEPS - 1)
    (prepared,) = trainer._stepper._prepared.values()
    dominant = prepared.steps.update.dominant
    assert dominant is not None and dominant.shares


def test_epochs_follow_each_other() -> None:
    """On a GPU the orders of an epoch are drawn during the one before it."""
    cells = [small_cell(sgd(250), model=MLP, seed=seed) for seed in range(2)]
    host, device = (Trainer(cells, data=made_data(), device=where) for where in ("cpu", "cuda"))
    assert len(made_data().train_inputs) // cells[0].batch_size < 125, "several epochs"
    for trainer in (host, device):
        trainer.advance(250)
    for index in range(2):
        torch.testing.assert_close(
            device.weights(index).cpu(), host.weights(index), rtol=0, atol=DEVICES_WEIGHTS[torch.float32]
        )


def test_steps_are_replayed() -> None:
    trainer = Trainer(PACKS["switches"][:1], data=made_data(), device="cuda")
    replays: list[torch.cuda.CUDAGraph] = []
    replay = torch.cuda.CUDAGraph.replay

    def counted(graph: torch.cuda.CUDAGraph) -> None:
        replays.append(graph)
        replay(graph)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.cuda.CUDAGraph, "replay", counted)
        trainer.advance(STEPS)
    assert len(replays) == STEPS - 1


@pytest.mark.parametrize("name", ["switches", "cnn", "momentum", "adam", "several"])
@pytest.mark.parametrize("stop", [9, 52])
def test_a_pack_resumes_bitwise(name: str, stop: int) -> None:
    whole = trained(PACKS[name], "cuda", torch.float32)
    first = trained(PACKS[name], "cuda", torch.float32, stop)
    second = Trainer(PACKS[name], data=made_data(), device="cuda")
    second.restore([first.state(index) for index in range(len(PACKS[name]))])
    second.advance(STEPS)
    for index, lane in enumerate(whole.lanes):
        assert lane.outcome == second.lanes[index].outcome
        assert torch.equal(whole.weights(index).nan_to_num(), second.weights(index).nan_to_num())


@pytest.mark.parametrize("name", ["switches", "diverging"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_lane_equals_the_cell_alone(dtype: torch.dtype, name: str) -> None:
    cells = PACKS[name]
    together = trained(cells, "cuda", dtype)
    for index, cell in enumerate(cells):
        alone = trained([cell], "cuda", dtype)
        assert alone.lanes[0].outcome == together.lanes[index].outcome
        if cell.phases[0].lr < 1:
            torch.testing.assert_close(
                alone.weights(0), together.weights(index), rtol=0, atol=TRAJECTORY[dtype]
            )
            assert alone.lanes[0].finals == pytest.approx(together.lanes[index].finals, rel=FINALS[dtype])
