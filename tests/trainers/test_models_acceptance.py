"""A model of the user's own when it is planned: weights by the seed alone, and its data."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from search_spaces import load_space
from sweep.plan import make_plan
from sweep.trainable import require_trainable
from tests.trainers.small_cells import made_data, sgd, small_cell
from trainers.canonical import dataset_entry
from trainers.errors import ConfigError
from trainers.models import MODELS
from trainers.models.acceptance import accepted
from trainers.models.dropout import Dropout
from trainers.models.normalization import BatchNormalization
from trainers.objective import initial_parameters
from trainers.options import Choice
from trainers.training import Trainer

DATA = replace(dataset_entry(Choice("mnist-5k")), input_shape=(16,), num_outputs=3)

HEAD = """
import numpy as np
import torch
from torch import nn
"""
BUILD = """
def build(input_shape, num_outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(input_shape).numel(), num_outputs))
"""
IN_BUILD = BUILD.replace("    return", "    torch.manual_seed(0)\n    return")
DRAWN = """
def build(input_shape, num_outputs):
    built = nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(input_shape).numel(), num_outputs))
    with torch.no_grad():
        built[1].bias.copy_(torch.from_numpy(np.random.default_rng().normal(size=num_outputs)))
    return built
"""
SHUFFLED = """
class Shuffled(nn.Module):
    def __init__(self, num_inputs, num_outputs):
        super().__init__()
        self.order = np.random.default_rng().permutation(num_inputs)
        self.last = nn.Linear(num_inputs, num_outputs)

    def forward(self, inputs):
        return self.last(inputs.flatten(1)[:, self.order])


def build(input_shape, num_outputs):
    return Shuffled(torch.Size(input_shape).numel(), num_outputs)
"""


def build_of(source: str, folder: Path) -> partial[nn.Module]:
    path = folder / "my_model.py"
    path.write_text(HEAD + source)
    entry = MODELS["file"]
    options = Choice.of("file", path=str(path)).resolve("model", entry.options)
    return partial(entry.build, DATA.input_shape, DATA.num_outputs, options)


@pytest.mark.parametrize("source", ["torch.manual_seed(0)\n" + BUILD, IN_BUILD], ids=["file", "build"])
def test_a_file_that_seeds_torch_is_refused(source: str, tmp_path: Path) -> None:
    """All seeds would start from the same weights, in silence."""
    state = torch.random.get_rng_state()
    with pytest.raises(ConfigError, match=r"seeds torch's global generator \(torch\.manual_seed\)"):
        accepted(build_of(source, tmp_path), DATA, (), "model")
    cell = small_cell(sgd(1), model=Choice.of("file", path=str(tmp_path / "my_model.py")))
    with pytest.raises(ConfigError, match="seeds torch's global generator"):
        Trainer([cell], data=made_data())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_random_numbers_from_elsewhere_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mine: 1\.bias is another one .* not from numpy\.random"):
        accepted(build_of(DRAWN, tmp_path), DATA, (), "mine")


def test_random_numbers_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    """A resumed run would give its weights another order of the inputs."""
    with pytest.raises(
        ConfigError, match=r"model: its outputs are others each time .* not from numpy\.random"
    ):
        accepted(build_of(SHUFFLED, tmp_path), DATA, (), "model")
    accepted(build_of(SHUFFLED.replace("rng()", "rng(0)"), tmp_path), DATA, (), "model")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (lambda: nn.Sequential(nn.LayerNorm((4, 4)), nn.Flatten(), nn.Linear(16, 3)), "0.weight"),
        (
            lambda: nn.utils.parametrizations.weight_norm(nn.Linear(16, 3)),
            "parametrizations.weight.original0",
        ),
    ],
    ids=["normalisation", "magnitudes"],
)
def test_parameters_that_an_initialisation_would_take_for_weights_are_refused(
    module: Callable[[], nn.Module], name: str
) -> None:
    data = replace(DATA, input_shape=(4, 4) if name == "0.weight" else (16,))
    with pytest.raises(ConfigError, match=f"init xavier would draw {name}, .* leave init at pytorch"):
        accepted(module, data, (), "model", init="xavier")
    with pytest.raises(ConfigError, match=f"init kaiming would draw {name}, "):
        initial_parameters(module, init="kaiming", seed=0)
    initial_parameters(module, init="pytorch", seed=0)


class Product(nn.Module):
    """A weight that is a product of two."""

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return left @ right

    def right_inverse(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.eye(len(weight)), weight


def test_factors_of_weights_are_drawn_as_weights() -> None:
    def build() -> nn.Module:
        module = nn.Linear(16, 3)
        nn.utils.parametrize.register_parametrization(module, "weight", Product())
        return module

    assert len(initial_parameters(build, init="xavier", seed=0)) == 3 + 9 + 48


def test_how_weights_are_drawn_is_looked_at_when_planned(tmp_path: Path) -> None:
    path = tmp_path / "my_model.py"
    path.write_text(HEAD + BUILD.replace("nn.Flatten()", "nn.LayerNorm(input_shape), nn.Flatten()"))
    space = tmp_path / "space.yaml"
    base = {"model": {"name": "file", "path": str(path)}, "dataset": "mnist-5k"}
    base["phases"] = [{"lr": 0.1, "until": 1}]
    values = {"name": "own", "base": base, "axes": {"init": ["pytorch", "xavier"]}}
    space.write_text(json.dumps(values))
    loaded = load_space(str(space))
    with pytest.raises(ConfigError, match=r"init=xavier: model file.*: init xavier would draw 0\.weight"):
        require_trainable(loaded, make_plan(loaded))


def test_shapes_may_not_depend_on_the_seed() -> None:
    widths: dict[int, int] = {}

    def build() -> nn.Module:
        width = widths.setdefault(torch.initial_seed(), 2 + len(widths))
        return nn.Sequential(nn.Linear(16, width), nn.Linear(width, 3))

    with pytest.raises(ConfigError, match="the shapes of its parameters depend on the seed"):
        accepted(build, DATA, (), "model")


def test_own_forks_of_the_generator_and_weights_without_chance_are_fine() -> None:
    def build() -> nn.Module:
        module = nn.Linear(16, 3)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            module.register_buffer("features", torch.randn(2))
        for parameter in module.parameters():
            nn.init.constant_(parameter, 0.5)
        return module

    state = torch.random.get_rng_state()
    assert accepted(build, DATA, (), "model").weight.shape == (3, 16)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_one_dropout_at_two_places_is_refused() -> None:
    def build() -> nn.Module:
        thinned = Dropout(0.5)
        return nn.Sequential(nn.Linear(16, 16), thinned, nn.Linear(16, 16), thinned, nn.Linear(16, 3))

    with pytest.raises(ConfigError, match=r"1\.mask .* use one Dropout for each place"):
        accepted(build, DATA, (), "model")


def test_what_normalises_takes_no_sorted_data() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(16, 4), BatchNormalization(4), nn.Linear(4, 3))

    accepted(build, DATA, (), "model")
    accepted(build, replace(DATA, num_in_runs=90), (), "model")
    with pytest.raises(ConfigError, match="normalises over examples, 100 at a time .* shuffle them"):
        accepted(build, replace(DATA, num_in_runs=200), (), "model")
    accepted(lambda: nn.Linear(16, 3), replace(DATA, num_in_runs=200), (), "model")


def test_an_embedding_must_hold_the_datas_last_token() -> None:
    class Words(nn.Embedding):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return super().forward(inputs.long()).mean(1)

    with pytest.raises(ConfigError, match="with token numbers up to 19, as the data has"):
        accepted(lambda: Words(10, 3), replace(DATA, vocabulary=20), (), "model")
    accepted(lambda: Words(20, 3), replace(DATA, vocabulary=20), ("hessian",), "model")
