"""Derivatives of modules of the user's own: those that torch does not have are refused, and wrong ones."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.trainers.small_cells import bulk, made_data, sgd, small_cell
from trainers.cell import Probe
from trainers.errors import ConfigError
from trainers.functional import FunctionalObjective
from trainers.losses import LOSSES
from trainers.models import derivatives
from trainers.models.demands import require_sound
from trainers.models.derivatives import require_derivatives
from trainers.objective import Part, flat_parameters
from trainers.options import Choice
from trainers.training import Trainer

SHAPE, OUTPUTS = (1, 4, 4), 3
PARTS: tuple[Part, ...] = ("functional", "gauss_newton", "hessian")


class Last(nn.Module):
    """A recurrent layer's last output, or another layer's, and a linear layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.last = nn.Linear(4, OUTPUTS)

    def forward(self, inputs: Tensor) -> Tensor:
        found = self.layer(inputs.flatten(1, 2))
        return self.last((found[0] if isinstance(found, tuple) else found)[:, -1])


class Deciding(nn.Linear):
    def forward(self, inputs: Tensor) -> Tensor:
        found = super().forward(inputs.flatten(1))
        return found if found.sum().item() > 0 else -found


class Words(nn.Module):
    """The mean of token numbers' embeddings; with `float32` it cannot run in another type."""

    def __init__(self, padding: int | None, *, float32: bool = False, size: int = 5) -> None:
        super().__init__()
        self.words = nn.Embedding(size, 3, padding_idx=padding)
        self.last = nn.Linear(3, OUTPUTS)
        self.float32 = float32

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.tanh(self.words(inputs.long()).mean(1))
        return self.last(hidden @ torch.eye(3) if self.float32 else hidden)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (nn.RNN(4, 4, batch_first=True), None),
        (nn.GRU(4, 4, batch_first=True), None),
        (
            nn.LSTM(4, 4, batch_first=True),
            "cannot be computed by torch.func: NotImplementedError",
        ),
        (nn.MaxPool1d(1, return_indices=True), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_layers_are_known_to_have_the_derivatives_that_are_asked_for(
    layer: nn.Module, said: str | None
) -> None:
    module = Last(layer)
    require_sound(module, SHAPE, OUTPUTS)
    require_derivatives(module, SHAPE, OUTPUTS)
    for part in PARTS:
        with nullcontext() if said is None else pytest.raises(ConfigError, match=said):
            require_derivatives(module, SHAPE, OUTPUTS, parts=(part,))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_outputs_of_recurrent_layers_are_those_of_the_module(kind: type[nn.Module]) -> None:
    modules = [Last(kind(4, 4, batch_first=True)) for _ in range(2)]
    objective = FunctionalObjective(modules[0], LOSSES["mse"].build({"scale": "half_sum"}))
    inputs = torch.rand(2, 5, *SHAPE)
    found = objective.outputs(torch.stack([flat_parameters(module) for module in modules]), inputs)
    for lane, module in enumerate(modules):
        torch.testing.assert_close(found[lane], module(inputs[lane]).detach())


RECURRENT = """
from torch import nn

class Recurrent(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.rows = nn.GRU(6, 3, batch_first=True)
        self.last = nn.Linear(3, outputs)

    def forward(self, inputs):
        return self.last(self.rows(inputs.squeeze(1))[0][:, -1])

def build(shape, outputs):
    return Recurrent(outputs)
"""


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_a_recurrent_model_is_trained(tmp_path: Path) -> None:
    path = tmp_path / "my_model.py"
    path.write_text(RECURRENT)
    options = {"holdout_size": 20, "lanczos_steps": 3, "vectors": 1, "part": "functional"}
    probe = Probe(name="spectrum", every=2, options=tuple(sorted(options.items())))
    cell = small_cell(
        sgd(2), bulk(4), model=Choice.of("file", path=str(path)), evaluate_every=2, probes=(probe,)
    )
    trainer = Trainer([cell], data=made_data())
    trainer.advance(4)
    lane = trainer.lanes[0]
    assert lane.outcome is not None and lane.outcome.status == "completed"
    assert lane.finals["train/loss"] > 0
    assert "spectrum/node_1_1" in trainer.drain(0).series


def test_a_module_whose_path_depends_on_its_values_has_no_gradient_here() -> None:
    with pytest.raises(ConfigError, match=r"its outputs cannot be computed by torch\.func: .*control flow"):
        require_derivatives(Deciding(16, OUTPUTS), SHAPE, OUTPUTS)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("vocabulary", [None, 5])
def test_a_gradient_that_leaves_a_row_out_is_refused(part: Part, vocabulary: int | None) -> None:
    """Reverse mode leaves the padding's row at 0, and forward mode does not."""
    require_derivatives(Words(None), (4,), OUTPUTS, parts=(part,), vocabulary=vocabulary)
    for module in (Words(0), Words(0, float32=True)):
        # Training by its gradient alone is what torch does, too.
        require_derivatives(module, (4,), OUTPUTS, vocabulary=vocabulary)
        with pytest.raises(ConfigError, match="is not symmetric: .* padding_idx .* mask the padding"):
            require_derivatives(module, (4,), OUTPUTS, parts=(part,), vocabulary=vocabulary)


def test_one_row_of_many_is_found() -> None:
    module = Words(0, size=20_000)
    with pytest.raises(ConfigError, match="is not symmetric"):
        require_derivatives(module, (200,), OUTPUTS, parts=("hessian",), vocabulary=20_000)


@pytest.mark.parametrize("float32", [False, True])
def test_rounding_is_no_asymmetry(float32: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What float32 leaves is looked at again in float64, or by what float32 may leave."""
    monkeypatch.setitem(derivatives.ASYMMETRY, torch.float64, 1e-13)
    require_derivatives(Words(None, float32=float32), (4,), OUTPUTS, parts=("hessian",), vocabulary=5)


def test_parameters_may_lie_in_memory_as_they_like() -> None:
    module = Last(nn.Linear(4, 4))
    module.last.weight = nn.Parameter(torch.randn(4, OUTPUTS).T)
    require_sound(module, SHAPE, OUTPUTS)
    require_derivatives(module, SHAPE, OUTPUTS, parts=PARTS)
