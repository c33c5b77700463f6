"""The arrow `sweep -> search_spaces -> trainers -> torch`, never back; who imports ray and mlflow."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

ALLOWED_RAY = {"sweep/ray_cluster.py", "sweep/schedule.py", "sweep/trial.py"}
ALLOWED_MLFLOW_PARTS = ("sweep/ledger/", "sweep/lease.py", "sweep/record.py", "sweep/thinning.py")


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found


def files(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, package
    return found


def test_the_trainer_knows_nothing_of_what_runs_it() -> None:
    foreign = {"ray", "mlflow", "optuna", "sweep", "search_spaces", "pydantic", "typer", "rich", "matplotlib"}
    for path in files("trainers"):
        assert not imports(path) & foreign, path


def test_spaces_know_nothing_of_how_they_are_run() -> None:
    for path in files("search_spaces"):
        assert not imports(path) & {"ray", "mlflow", "optuna", "sweep", "torch", "matplotlib"}, path


def test_few_files_import_ray_and_mlflow() -> None:
    for path in files("sweep"):
        name = path.relative_to(ROOT).as_posix()
        assert "ray" not in imports(path) or name in ALLOWED_RAY, name
        assert "mlflow" not in imports(path) or name.startswith(ALLOWED_MLFLOW_PARTS), name


def test_the_trainer_runs_without_ray_and_mlflow() -> None:
    code = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('ray', 'mlflow', 'optuna', 'sweep', 'search_spaces', 'pydantic'):
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
import trainers, trainers.training
from trainers.cell import Cell, Phase
from trainers.options import Choice
cell = Cell(model=Choice.of('mlp', widths=(4,)), dataset=Choice('mnist-5k'), phases=(Phase(lr=0.1, until=3),))
trainer = trainers.training.Trainer([cell])
trainer.advance(3)
print(trainer.lanes[0].outcome.status)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "completed", done.stderr


def test_planning_needs_no_torch() -> None:
    code = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('torch', 'torchvision', 'ray', 'mlflow'):
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
from trainers.canonical import cell_id
from trainers.cell import Cell, Phase
from trainers.options import Choice
print(cell_id(Cell(model=Choice('mlp'), dataset=Choice('mnist-5k'), phases=(Phase(lr=0.1, until=3),))))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert len(done.stdout.strip()) == 16, done.stderr
