"""The arrow `cluster -> sweep`, never back."""

from tests.test_architecture import files, imports


def test_nothing_below_imports_cluster() -> None:
    for package in ("trainers", "search_spaces", "sweep"):
        for path in files(package):
            assert "cluster" not in imports(path), path


def test_rendering_needs_neither_ray_nor_mlflow() -> None:
    pure = {"spec", "kuberay", "slurm", "ray_up", "secrets", "commands", "shipping", "judgement"}
    found = {path.stem: path for path in files("cluster")}
    assert pure <= set(found)
    for name in pure:
        assert not imports(found[name]) & {"ray", "mlflow", "torch"}, name
