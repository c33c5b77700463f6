"""Bad input to the command line: one clear message, exit code 2, no traceback, nothing overwritten."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.cli import main
from tests.integration.processes import Home

SPACE = """
name: tiny
description: One cell.
base: {model: mlp, dataset: mnist-5k, phases: [{lr: 0.05, until: 10}]}
axes: {seed: [0]}
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    (made.folder / "tiny.yaml").write_text(SPACE)
    (made.folder / "a-file").write_text("not a folder")
    yield made
    made.close()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("run demoo", "Did you mean 'demo'"),
        ("run missing.yaml", "missing.yaml"),
        ("run demo --set lrr=3", "Did you mean 'lr'"),
        ("run demo --set base.batch_size=abc", "base.batch_size"),
        ("run demo --set k=[]", "at least one value"),
        ("run demo --set base.model=mpl", "Did you mean 'mlp'"),
        ("run demo --set dataset=mnist", "MNIST"),
        ("plan demo --set base.model=transformer", "'transformer' does not fit data set 'mnist-5k'"),
        ("run demo --set base.model=transformer", "'transformer' does not fit data set 'mnist-5k'"),
        ("plan demo --cells 20", "--cells: belongs to --search"),
        ("plan demo --set k=[2,100000000]", "found 100000000; must be at most the model's"),
        ("run demo --set k=[2,100000000]", "found 100000000; must be at most the model's"),
        ("search demo --cells 3 --set k=[2,100000000]", "found 100000000; must be at most the model's"),
        ("run tiny.yaml --tracking-uri http://127.0.0.1:9", "does not answer"),
        ("run tiny.yaml --tracking-uri folder", "--tracking-uri"),
        ("run tiny.yaml --storage a-file/x", "a file is in the way"),
        ("run tiny.yaml --address 127.0.0.1:1", "no Ray at 127.0.0.1:1"),
        ("search demo --cells 3 --address http://127.0.0.1:8265", "a cluster's dashboard"),
        ("run tiny.yaml --storage /proc/x", "/proc/x"),
        ("run tiny.yaml --cpus 0", "'--cpus': expected greater than or equal to 1, found '0'."),
        ("run tiny.yaml --lanes x", "'--lanes': expected a whole number of at least 1, or auto; found 'x'."),
        ("cluster render slrm", "'kind': 'slrm' is not one of"),
        ("ui --port 99999", "found '99999'"),
        ("run demo --set foo=[1,2]", "batch_size, beta_bulk, choices"),
        ("run zs25-table1", "cifar-10-python.tar.gz"),
        ("run demo --bogus", "No such option"),
        ("frobnicate", "No such command"),
        ("resume nothing", "nothing"),
        ("status nothing", "no MLflow database"),
        ("report nothing", "no MLflow database"),
        ("show demoo", "Did you mean 'demo'"),
        ("show demo --set lrr=3", "Did you mean 'lr'"),
        ("show nothing --stored", "no MLflow database"),
        ("show demo --stored --smoke", "as it is"),
        ("stop nothing", "no MLflow database"),
        ("export nothing", "no MLflow database"),
        ("report nothing --out a-file", "a-file is no folder. Choose another place with --out"),
        ("best nothing --out a-file/x.yaml", "a-file is no folder. Choose another place with --out"),
        ("export nothing --out a-file/x.csv", "a-file is no folder. Choose another place with --out"),
        ("compare one other --out a-file/x.html", "a-file is no folder. Choose another place with --out"),
        ("export nothing --out x.txt", "expected a name that ends in .csv or .parquet"),
        ("ui", "no MLflow database"),
        ("cell 0123abcd", "no cell '0123abcd'"),
        ("cell 12", "at least 4"),
    ],
)
def test_is_one_clear_message(
    command: str, said: str, home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home.folder)
    monkeypatch.setenv("SWEEP_HOME", str(home.folder / "results"))
    with pytest.raises(SystemExit) as ended:
        main(command.split())
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert said in err and err.startswith("error: ")
    assert "Traceback" not in out + err and "Value error" not in err and "are intact" not in err
    assert not home.database.exists() or "a file is in the way" in err


def test_a_port_in_use_is_said(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home.lay_database()
    monkeypatch.setenv("SWEEP_HOME", str(home.folder / "results"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SystemExit) as ended:
            main(["ui", "--port", str(taken.getsockname()[1])])
    assert ended.value.code == 2
    assert "cannot be used: Address already in use" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "said"),
    [("run demo --set base.model=mpl", "Did you mean 'mlp'"), ("status nothing", "no MLflow database")],
)
def test_a_real_process_ends_with_two(command: str, said: str, home: Home) -> None:
    assert said in home.run(*command.split(), code=2)


def test_a_failing_cell_is_recorded_and_the_rest_goes_on(home: Home, ray: tuple[str, str]) -> None:
    home.lay_database()
    path = home.folder / "my_model.py"
    # What is tried with two examples when it is planned is right.
    path.write_text(
        "from torch import nn\n"
        "class Alone(nn.Linear):\n"
        "    def forward(self, inputs):\n"
        "        assert len(inputs) <= 2, 'two at a time'\n"
        "        return super().forward(inputs.flatten(1))\n"
        "def build(shape, outputs):\n    return Alone(784, outputs)\n"
    )
    model = f"model: {{name: file, path: '{path}'}}"
    (home.folder / "mine.yaml").write_text(SPACE.replace("model: mlp", model))
    output = home.run("run", "mine.yaml", "--max-failures", "0", *ray, code=1)
    assert "failed" in output and "two at a time" in output and "go on with" in output
    assert "1 failed" in home.run("status", "tiny")


def test_a_mistake_in_a_probe_is_corrected_and_the_sweep_goes_on(home: Home, ray: tuple[str, str]) -> None:
    home.lay_database()
    path = home.folder / "my_probe.py"
    path.write_text("def measure(view):\n    return {'largest': view.params_P.apps().max()}\n")
    probes = f"probes: [{{name: file, path: '{path}'}}], phases"
    (home.folder / "mine.yaml").write_text(SPACE.replace("phases", probes).replace("[0]", "[0, 1]"))
    output = home.run("run", "mine.yaml", "--max-failures", "0", *ray, code=1)
    assert "once it is corrected" in output and "go on with" not in output
    assert output.count("AttributeError") == 1 and "2 cells (" in output
    path.write_text("def measure(view):\n    return {'largest': view.params_P.abs().max()}\n")
    assert "2 completed" in home.run("resume", "tiny", *ray)
    path.write_text("def measure(view):\n    return {}\n")
    refused = home.run("run", "mine.yaml", *ray, code=2)
    assert "Changed since then" in refused and "my_probe.py" in refused and "delete tiny" in refused
