"""What would fail cell by cell is refused when a sweep is planned: models of the user's own, and k."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from search_spaces import load_space_text
from sweep import trainable
from sweep.plan import make_plan
from sweep.trainable import require_trainable
from trainers.errors import ConfigError
from trainers.models import MODELS
from trainers.options import Choice

SPACE = """
name: grid
base:
  model: {name: softmax}
  dataset: mnist-5k
  probes: [{name: curvature, k: 3}]
  phases: [{lr: 0.1, until: {chi_above: 0.9, at_most: 50}}, {lr: 0.1, until: 100}]
axes:
  alpha_dom: [1, 2]
  k: [2, 5]
"""
PARAMETERS = 7850


def require(text: str, *, search: bool = False) -> None:
    space = load_space_text(text)
    require_trainable(space.for_search({}) if search else space, make_plan(space))


def test_as_many_directions_as_there_are_parameters_are_allowed() -> None:
    require(SPACE.replace("[2, 5]", f"[2, {PARAMETERS}]"))
    # Without a projection k makes no difference.
    require(SPACE.replace("[1, 2]", "[1]").replace("[2, 5]", f"[2, {PARAMETERS + 1}]"))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("[2, 5]", "[2, 7851]", r"grids\.grid at alpha_dom=2\.0, k=7851: k: found 7851; .* 7,850"),
        ("k: 3", "k: 7851", r"k of probe 'curvature': found 7851"),
        ("at_most: 50", "at_most: 50, k: 7851", r"until\.k: found 7851"),
    ],
)
def test_more_are_refused(before: str, after: str, said: str) -> None:
    for search in (False, True):
        with pytest.raises(ConfigError, match=said.replace(r"grids\.grid", ".*") if search else said):
            require(SPACE.replace(before, after), search=search)


def test_a_search_passes_over_values_that_do_not_go_together() -> None:
    """A switch at 5000 needs a longer cell than the shortest; one at 9999 would never be one."""
    switches = """search:
  axes:
    switch: {path: phases.0.until, values: [50, SWITCH, 60]}
    length: {path: phases.1.until, values: [2000, 9000]}
"""
    text = SPACE[: SPACE.index("axes:")] + switches
    require(text.replace("SWITCH", "5000"), search=True)
    with pytest.raises(ConfigError, match=r"phases\.1\.until: found 2000"):
        require(text.replace("SWITCH", "9999"), search=True)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def build(shape, outputs):\n    return 5\n", "returned int"),
        ("def built(shape, outputs):\n    return 5\n", "has no 'build'"),
        ("def build(shape, outputs) return\n", "SyntaxError"),
        ("import no_such_module\n", "No module named 'no_such_module'"),
        ("from torch import nn\ndef build(s, o):\n    return nn.Linear(10, o)\n", "takes no inputs of shape"),
        (
            "from torch import nn\ndef build(s, o):\n"
            "    return nn.Sequential(nn.Flatten(), nn.Linear(784, 4), nn.BatchNorm1d(4), nn.Linear(4, o))\n",
            "BatchNorm1d, which keeps running averages",
        ),
        ("from torch import nn\ndef build(s, o):\n    return nn.Flatten()\n", "no parameters"),
    ],
    ids=["no module", "no function", "no Python", "no import", "other inputs", "memory", "no parameters"],
)
def test_a_model_of_ones_own_that_cannot_be_built_is_refused(source: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "my_model.py"
    path.write_text(source)
    with pytest.raises(ConfigError, match=said) as info:
        require(SPACE.replace("name: softmax", f"name: file, path: '{path}'"))
    assert "grids" not in str(info.value), "it is the same at every point"


TRIED_OUT = 3
"""Builds that planning compares."""


def test_a_model_is_tried_out_once_and_again_when_its_file_has_changed(tmp_path: Path) -> None:
    path, calls = tmp_path / "my_model.py", tmp_path / "calls"
    source = (
        "from pathlib import Path\n"
        "from torch import nn\n"
        "def build(shape, outputs):\n"
        f"    calls = Path('{calls}')\n"
        "    calls.write_text('x' + (calls.read_text() if calls.exists() else ''))\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(784, outputs))\n"
    )
    text = SPACE.replace("name: softmax", f"name: file, path: '{path}'") + "  seed: [1, 3]\n"
    for count, more in enumerate(("", "# changed\n"), start=1):
        path.write_text(source + more)
        before = torch.random.get_rng_state()
        require(text)
        require(text)
        assert torch.equal(torch.random.get_rng_state(), before)
        assert calls.read_text() == "x" * TRIED_OUT * count


RECURRENT = """
from torch import nn

class Recurrent(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.rows = nn.LSTM(28, 4, batch_first=True)
        self.last = nn.Linear(4, outputs)

    def forward(self, inputs):
        return self.last(self.rows(inputs.squeeze(1))[0][:, -1])

def build(shape, outputs):
    return Recurrent(outputs)
"""


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_derivatives_that_torch_does_not_have_are_refused_where_they_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "my_model.py"
    path.write_text(RECURRENT)
    plain = f"""
name: grid
base:
  model: {{name: file, path: '{path}'}}
  dataset: mnist-5k
  phases: [{{lr: 0.1, until: 100}}]
grids: [{{name: grid}}]
"""
    require(plain)
    for asking in (
        plain.replace("lr: 0.1", "lr: 0.1, alpha_dom: 2"),
        plain.replace("  phases", "  probes: [{name: spectrum}]\n  phases"),
    ):
        with pytest.raises(
            ConfigError, match=r"my_model\.py.*: its Hessian cannot be computed by torch\.func"
        ):
            require(asking)


EMBEDDING = """
from torch import nn

class Words(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.words = nn.Embedding(4, 3, padding_idx=0)
        self.last = nn.Linear(3, outputs)

    def forward(self, inputs):
        return self.last(self.words(inputs.long()).mean(1).tanh())

def build(shape, outputs):
    return Words(outputs)
"""


def test_what_a_probe_multiplies_by_is_tried_with_the_datas_tokens(tmp_path: Path) -> None:
    model, data = tmp_path / "my_model.py", tmp_path / "my_data.npz"
    model.write_text(EMBEDDING)

    def store(tokens: int) -> None:
        inputs, labels = np.arange(150).reshape(50, 3) % tokens, np.arange(50) % 2
        np.savez(
            data, train_inputs=inputs, train_labels=labels, test_inputs=inputs[:6], test_labels=labels[:6]
        )

    store(4)
    plain = f"""
name: grid
base:
  model: {{name: file, path: '{model}'}}
  dataset: {{name: file, path: '{data}'}}
  phases: [{{lr: 0.1, until: 100}}]
grids: [{{name: grid}}]
"""
    require(plain)
    for part, name in {"gauss_newton": "Gauss-Newton matrix", "functional": "functional Hessian"}.items():
        with pytest.raises(ConfigError, match=f"its {name} is not symmetric"):
            require(plain.replace("  phases", f"  probes: [{{name: spectrum, part: {part}}}]\n  phases"))
    data = tmp_path / "more.npz"
    store(5)
    with pytest.raises(ConfigError, match="with token numbers up to 4, as the data has"):
        require(plain.replace("my_data", "more"))


def test_sorted_data_are_refused_where_the_projects_models_normalise(tmp_path: Path) -> None:
    inputs = np.random.default_rng(0).normal(size=(120, 1, 6, 6))
    for name, labels in {"sorted": np.arange(120) // 40, "mixed": np.arange(120) % 3}.items():
        np.savez(
            tmp_path / f"{name}.npz",
            train_inputs=inputs,
            train_labels=labels,
            test_inputs=inputs[::40],
            test_labels=labels[::40],
        )

    def space(model: str, data: str) -> str:
        return f"""
name: grid
base:
  model: {model}
  dataset: {{name: file, path: '{tmp_path / data}.npz'}}
  phases: [{{lr: 0.1, until: 100}}]
grids: [{{name: grid}}]
"""

    require(space("resnet8", "mixed"))
    require(space("mlp", "sorted"))
    with pytest.raises(ConfigError, match="normalises over examples, .* shuffle them before they are saved"):
        require(space("resnet8", "sorted"))


@pytest.mark.parametrize("widths", [(1,), (7, 5)])
def test_an_mlp_is_counted_without_being_built(widths: tuple[int, ...]) -> None:
    data = trainable.dataset_entry(Choice("mnist-5k"))
    model = MODELS["mlp"].build((1, 28, 28), 10, {"widths": widths, "activation": "relu"})
    counted = trainable._certain_parameters(Choice.of("mlp", widths=list(widths)), data)
    assert counted == sum(math.prod(parameter.shape) for parameter in model.parameters())
