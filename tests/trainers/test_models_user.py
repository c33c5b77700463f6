"""A module of the user's own: what is asked of it, and that its buffers are the same in every process."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.trainers.small_cells import bulk, made_data, sgd, small_cell
from tests.trainers.tolerances import TRAJECTORY
from trainers.cell import Cell
from trainers.errors import ConfigError
from trainers.models import MODELS
from trainers.models.demands import require_sound
from trainers.models.dropout import Dropout
from trainers.models.normalization import BatchNormalization
from trainers.options import Choice
from trainers.training import Trainer

SHAPE, OUTPUTS = (1, 4, 4), 3

HEAD = """
import torch
from torch import nn


class Own(nn.Module):
    def __init__(self, num_inputs, num_outputs):
        super().__init__()
        self.register_buffer("kept", torch.randn(num_inputs, 6))
        self.last = nn.Linear(6, num_outputs)

"""
TAIL = """

def build(input_shape, num_outputs):
    return Own(torch.Size(input_shape).numel(), num_outputs)
"""
FEATURES = """
    def forward(self, inputs):
        return self.last(torch.tanh(inputs.flatten(1) @ self.kept))
"""
SUMMED = """
    def forward(self, inputs):
        return self.last(torch.tanh(inputs.flatten(1) @ self.kept)).sum(1)
"""
COUNTING = """
    def forward(self, inputs):
        if self.training:
            self.kept.mul_(0.9)
        return self.last(torch.tanh(inputs.flatten(1) @ self.kept))
"""
OVERWRITING = """
    def forward(self, inputs):
        return self.last(torch.tanh(inputs.flatten(1).abs_() @ self.kept))
"""
FROZEN = """
    def forward(self, inputs):
        return self.last(torch.tanh(inputs.flatten(1) @ self.kept))

def build(input_shape, num_outputs):
    built = Own(torch.Size(input_shape).numel(), num_outputs)
    built.last.bias.requires_grad_(False)
    return built
"""


def build(source: str, folder: Path) -> nn.Module:
    path = folder / "my_model.py"
    path.write_text(source)
    entry = MODELS["file"]
    return entry.build(SHAPE, OUTPUTS, Choice.of("file", path=str(path)).resolve("model", entry.options))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (HEAD + FROZEN, r"parameter last\.bias does not require a gradient; .* must be a buffer"),
        (HEAD + SUMMED + TAIL, r"expected outputs of shape \(2, 3\) for 2 examples, found \(2,\)"),
        (HEAD + COUNTING + TAIL, "buffer kept is changed by a pass"),
        (HEAD + OVERWRITING + TAIL, "changes its inputs in place"),
    ],
    ids=["frozen", "outputs", "memory", "in place"],
)
def test_what_would_not_train_as_it_seems_is_refused(source: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said) as info:
        build(source, tmp_path)
    assert "my_model.py" in str(info.value)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (nn.Sequential(nn.Flatten(), nn.ReLU(inplace=True), nn.Linear(16, 3)), "inputs in place"),
        (nn.Sequential(nn.Flatten(), nn.Linear(16, 1)), r"found \(2, 1\)"),
        (nn.Sequential(nn.Flatten(0), nn.Linear(16, 3)), "takes no inputs of shape"),
        (nn.Sequential(nn.Flatten(), nn.GRU(16, 3)), "found tuple"),
        (nn.Sequential(nn.Flatten()), "no parameters"),
        (
            nn.Sequential(
                nn.Flatten(2), nn.InstanceNorm1d(1, track_running_stats=True), nn.Flatten(), nn.Linear(16, 3)
            ),
            r"buffer 1\.running_mean is changed",
        ),
        (
            nn.Sequential(nn.Flatten(), nn.utils.parametrizations.spectral_norm(nn.Linear(16, 3))),
            r"buffer 1\.parametrizations\.weight\.0\._u is changed",
        ),
    ],
    ids=lambda value: "" if isinstance(value, nn.Module) else value,
)
def test_modules_that_are_not_sound(module: nn.Module, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        require_sound(module, SHAPE, OUTPUTS)


def test_a_memory_that_is_at_rest_is_found_and_the_weights_stay() -> None:
    """Iterating spectral_norm further than it is when built leaves the same bits; other weights do not."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.utils.parametrizations.spectral_norm(nn.Linear(16, 3)))
    module.train()
    for _ in range(1000):
        before = [buffer.clone() for buffer in module.buffers()]
        module(torch.zeros(1, *SHAPE))
    assert all(map(torch.equal, before, module.buffers()))
    weights = [parameter.clone() for parameter in module.parameters()]
    with pytest.raises(ConfigError, match=r"buffer 1\.parametrizations\.weight\.0\._u is changed"):
        require_sound(module, SHAPE, OUTPUTS)
    assert all(map(torch.equal, weights, module.parameters()))


class Alone(nn.Module):
    """A linear layer, and something else on its outputs or on rows of its inputs."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        self.rows = nn.TransformerEncoderLayer(4, 2, 8, batch_first=what == "batch first")
        self.last = nn.Linear(16, OUTPUTS)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.what in ("not batch first", "batch first"):
            inputs = self.rows(inputs.flatten(1, 2))
        outputs = self.last(inputs.flatten(1))
        match self.what:
            case "normalised":
                return (outputs - outputs.mean(0)) / (outputs.var(0, unbiased=False) + 1e-5).sqrt()
            case "softmax":
                return outputs.softmax(0)
            case "squeezed":
                return outputs.squeeze()
            case "noise":
                return outputs + torch.randn(OUTPUTS)
            case _:
                return outputs


@pytest.mark.parametrize("what", ["normalised", "softmax", "squeezed", "not batch first", "noise"])
def test_outputs_that_depend_on_the_examples_beside_are_refused(what: str) -> None:
    said = "depend on the examples beside it"
    if what == "squeezed":
        said = r"expected outputs of shape \(1, 3\) for 1 example, found \(3,\)"
    with pytest.raises(ConfigError, match=said):
        require_sound(Alone(what), SHAPE, OUTPUTS)


def test_what_looks_at_one_example_is_sound_and_so_is_the_projects_normalisation() -> None:
    require_sound(Alone("batch first"), SHAPE, OUTPUTS)
    normalised = BatchNormalization(1), nn.Flatten(), Dropout(0.5), nn.Linear(16, OUTPUTS)
    require_sound(nn.Sequential(*normalised), SHAPE, OUTPUTS)


class Aside(nn.Module):
    """Decodes with the weight that it encodes with: by its name, or from a list beside it."""

    def __init__(self, *, by_name: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(16, 16, bias=False), nn.Linear(16, OUTPUTS)
        self.second = nn.Linear(16, 16, bias=False)
        if by_name:
            self.second.weight = self.first.weight
        self.aside = None if by_name else [self.first.weight]

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = self.first(inputs.flatten(1)).tanh()
        hidden = self.second(hidden) if self.aside is None else nn.functional.linear(hidden, *self.aside)
        return self.last(hidden)


def test_a_parameter_that_is_read_from_elsewhere_is_refused() -> None:
    """It would be the template's for ever, and the same for every seed."""
    require_sound(Aside(by_name=True), SHAPE, OUTPUTS)
    with pytest.raises(ConfigError, match="reads a parameter otherwise than by its name"):
        require_sound(Aside(by_name=False), SHAPE, OUTPUTS)


class Strict(nn.Module):
    """Runs at its own weights alone, as a module may that checks them."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(16, OUTPUTS)
        self.register_buffer("made", self.last.weight.detach().clone())

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.last.weight.data_ptr() != 0 and not torch.equal(self.last.weight, self.made):
            raise ValueError("others")
        return self.last(inputs.flatten(1))


def test_modules_that_do_not_run_at_other_weights_or_by_name_end_in_no_traceback() -> None:
    require_sound(Strict(), SHAPE, OUTPUTS)
    scripted = torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(16, OUTPUTS)))
    with pytest.raises(ConfigError, match=r"its outputs cannot be computed by torch\.func: .*Jitted"):
        require_sound(scripted, SHAPE, OUTPUTS)


def test_complex_parameters_are_refused() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, OUTPUTS))
    module.register_parameter("filter", nn.Parameter(torch.ones(2, dtype=torch.cfloat)))
    with pytest.raises(ConfigError, match=r"parameter filter is complex; .*view_as_complex"):
        require_sound(module, SHAPE, OUTPUTS)


@pytest.mark.parametrize("register", ["register_hook", "register_post_accumulate_grad_hook"])
def test_hooks_on_gradients_are_refused(register: str) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, OUTPUTS))
    getattr(module[1].weight, register)(lambda gradient: None)
    with pytest.raises(ConfigError, match=r"parameter 1\.weight has a hook .* make the mask a buffer"):
        require_sound(module, SHAPE, OUTPUTS)


def test_an_embedding_smaller_than_the_vocabulary_is_refused() -> None:
    module = nn.Sequential(ToTokens(), nn.Embedding(9, 2), nn.Flatten(), nn.Linear(8, OUTPUTS))
    require_sound(module, (4,), OUTPUTS, vocabulary=9)
    with pytest.raises(ConfigError, match=r"shape \(4,\) with token numbers up to 9, as the data has"):
        require_sound(module, (4,), OUTPUTS, vocabulary=10)


class ToTokens(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.long()


def test_a_sound_module_is_left_as_it_was() -> None:
    module = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Dropout(), nn.Flatten(), nn.Linear(8, OUTPUTS)
    )
    module[2].eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = torch.random.get_rng_state()
    require_sound(module, SHAPE, OUTPUTS)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [part.training for part in module] == [True, True, False, True, True]
    for name, value in module.state_dict().items():
        assert torch.equal(before[name], value)


def own_cell(folder: Path) -> Cell:
    path = folder / "my_model.py"
    path.write_text(HEAD + FEATURES + TAIL)
    return small_cell(sgd(5), bulk(20), model=Choice.of("file", path=str(path)))


def test_random_buffers_are_the_same_in_every_process(tmp_path: Path) -> None:
    cell, data = own_cell(tmp_path), made_data()
    found: list[torch.Tensor] = []
    for draw in (1, 2):
        torch.manual_seed(draw)
        trainer = Trainer([cell], data=data)
        trainer.advance(7)
        torch.manual_seed(10 * draw)
        resumed = Trainer([cell], data=data)
        resumed.restore([trainer.state(0)])
        resumed.advance(20)
        found.append(resumed.weights(0))
    assert torch.equal(*found)


ANNOTATED = """
from __future__ import annotations

import dataclasses
import math
from pathlib import Path

from torch import nn


@dataclasses.dataclass
class Shape:
    sides: tuple[int, ...]

    def build(self, num_outputs: int) -> nn.Module:
        assert Path(__file__).name == "my_model.py"
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(self.sides), num_outputs))


def build(input_shape, num_outputs):
    return Shape(input_shape).build(num_outputs)
"""


def test_a_file_may_have_dataclasses_with_later_annotations(tmp_path: Path) -> None:
    module = build(ANNOTATED, tmp_path)
    assert [tuple(values.shape) for values in module.parameters()] == [(3, 16), (3,)]


def test_a_file_that_fails_leaves_no_module(tmp_path: Path) -> None:
    before = set(sys.modules)
    with pytest.raises(ConfigError, match="my_model.py failed: ZeroDivisionError"):
        build(ANNOTATED + "1 / 0\n", tmp_path)
    assert not {name for name in set(sys.modules) - before if name.startswith("user_model")}


ROTATED = """
import torch
from torch import nn


class Rotated(nn.Module):
    def __init__(self, num_inputs, num_outputs):
        super().__init__()
        angles = torch.linspace(0, 1, num_inputs // 2)
        self.register_buffer("turn", torch.polar(torch.ones_like(angles), angles))
        self.last = nn.Linear(num_inputs, num_outputs)

    def forward(self, inputs):
        pairs = inputs.reshape(len(inputs), -1, 2)
        return self.last(self.turned(pairs).flatten(1).tanh())

    def turned(self, pairs):
        return torch.view_as_real(torch.view_as_complex(pairs) * self.turn)


def build(input_shape, num_outputs):
    return Rotated(torch.Size(input_shape).numel(), num_outputs)
"""
BY_PARTS = """
        real, imaginary = torch.view_as_real(self.turn).to(pairs).unbind(1)
        first, second = pairs.unbind(2)
        return torch.stack([first * real - second * imaginary, first * imaginary + second * real], 2)
"""


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_complex_buffers_stay_complex(dtype: torch.dtype, tmp_path: Path) -> None:
    """Cast like real ones they would lose their imaginary parts: rotary embeddings would only scale."""
    weights: list[torch.Tensor] = []
    call = "\n        return torch.view_as_real(torch.view_as_complex(pairs) * self.turn)\n"
    for number, source in enumerate((ROTATED, ROTATED.replace(call, BY_PARTS))):
        path = tmp_path / f"model_{number}.py"
        path.write_text(source)
        cell = small_cell(bulk(6), model=Choice.of("file", path=str(path)))
        trainer = Trainer([cell], data=made_data(), dtype=dtype)
        trainer.advance(6)
        weights.append(trainer.weights(0))
    # Without the imaginary parts the weights are 4e-2 away.
    torch.testing.assert_close(*weights, rtol=0, atol=TRAJECTORY[dtype])
