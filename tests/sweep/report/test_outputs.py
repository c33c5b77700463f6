"""What the commands write: whole or not at all, and one message where it cannot be written."""

import sys
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.csv as csv
import pyarrow.parquet as parquet
import pytest

from sweep import histories
from sweep.cli import main
from sweep.export import export_table, write_export
from sweep.outputs import replacing, writing
from sweep.record import Record
from tests.sweep.report.conftest import Store
from tests.sweep.report.stored_sweep import StoredCell, ended, grid
from trainers.errors import ConfigError


@pytest.fixture(scope="module")
def name(store: Store) -> str:
    points = grid("main", {"lr": [0.1, 0.2], "k": [5, 10], "seed": [0]})
    report = {"kind": "heatmap", "name": "heat", "x": "lr", "y": "k"}
    return store.put(points, {cell: ended(v["lr"], seed=0) for _, v, cell in points}, [report])


def recorded(store: Store, num_cells: int) -> Record:
    points = grid("main", {"seed": list(range(num_cells))})
    cells = {
        cell: StoredCell(histories={"a": [(0, float(v["seed"]))], "b": [(0, 1.0), (5, 2.0)]})
        for _, v, cell in points
    }
    return store.record(points, cells)


def said(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return end.value.code, capsys.readouterr().err


COMMANDS = {
    "report": (["report", "NAME"], "folder"),
    "best": (["best", "NAME"], "x.yaml"),
    "export": (["export", "NAME"], "x.csv"),
    "export histories": (["export", "NAME", "--histories"], "x.parquet"),
    "compare": (["compare", "NAME", "NAME"], "x.html"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("obstacle", ["a file", "no right", "no room"])
def test_a_place_that_cannot_be_written_is_one_message(
    command: str,
    obstacle: str,
    name: str,
    store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words, file = COMMANDS[command]
    (tmp_path / "in-the-way").write_text("not a folder")
    out = tmp_path / "out" / file
    match obstacle:
        case "a file":
            out, expected = tmp_path / "in-the-way" / file, "in-the-way is no folder"
        case "no right":
            # Whoever runs the tests may have every right.
            monkeypatch.setattr("sweep.outputs.os.access", lambda path, mode: False)
            expected = f"nothing may be written into {tmp_path}"
        case _:
            out, expected = tmp_path / "in-the-way" / "below" / file, "Not a directory"
            # What becomes of the place is not seen before.
            monkeypatch.setattr("sweep.outputs._require_room", lambda path, folder: None)
    given = [word.replace("NAME", name) for word in words]
    code, err = said([*given, "--tracking-uri", store.uri, "--out", str(out)], capsys)
    assert code == 2 and err.startswith(f"error: {out} cannot be written: ") and expected in err
    assert "--out" in err and err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in-the-way"]


def test_nothing_is_read_for_a_place_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, file in COMMANDS.values():
        if words[0] != "report":
            (tmp_path / file).mkdir(exist_ok=True)
            code, err = said([*words, "--out", str(tmp_path / file), "--tracking-uri", "http://x:1"], capsys)
            assert code == 2 and "a folder is there" in err
    code, err = said(["export", "NAME", "--out", "x.txt", "--tracking-uri", "http://x:1"], capsys)
    assert code == 2 and "expected a name that ends in .csv or .parquet" in err
    code, err = said(["report", "NAME", "--out", "~nobody-of-that-name/x"], capsys)
    assert code == 2 and "~nobody-of-that-name" in err


def test_what_is_there_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_text("old")
    link.symlink_to(path)
    with pytest.raises(KeyboardInterrupt), replacing(link) as fresh:
        fresh.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and {*tmp_path.iterdir()} == {path, link}
    with replacing(link) as fresh:
        fresh.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and link.is_symlink() and {*tmp_path.iterdir()} == {path, link}
    with replacing(Path("/dev/null")) as device:
        assert device == Path("/dev/null"), "nothing takes the place of a device"


def test_a_failure_to_write_says_where_and_why(tmp_path: Path) -> None:
    expected = "cannot be written: No space left on device. Choose another place"
    with pytest.raises(ConfigError, match=expected), writing(tmp_path):
        raise OSError(28, "No space left on device")


def watched(monkeypatch: pytest.MonkeyPatch, *, broken_after: int | None = None) -> list[int]:
    """Count how many cells' values are held whenever a further cell has been read."""
    values: list[weakref.ref[Any]] = []
    counts: list[int] = []

    def counted(*arguments: Any) -> Iterator[Any]:
        for number, (outcome, history) in enumerate(histories.recorded_series(*arguments)):
            if number == broken_after:
                raise KeyboardInterrupt
            values.append(weakref.ref(history["b"].values))
            counts.append(sum(one() is not None for one in values))
            yield outcome, history

    monkeypatch.setattr("sweep.export.recorded_series", counted)
    return counts


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_an_export_holds_a_few_histories_at_a_time(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    record = recorded(store, 12)
    path = tmp_path / f"x.{suffix}"
    write_export(record, path, histories=True)
    whole = path.read_bytes()
    counts = watched(monkeypatch)
    monkeypatch.setattr("sweep.export.ROWS_AT_ONCE", 4)
    write_export(record, path, histories=True)
    assert len(counts) == 12 and max(counts) <= 4
    read = csv.read_csv if suffix == "csv" else parquet.read_table
    table = read(path)
    assert table.column_names == ["cell_id", "series", "step", "value"]
    assert table["series"].to_pylist() == ["a", "b", "b"] * 12
    assert table["cell_id"].to_pylist() == [cell for cell in record.outcomes for _ in range(3)]
    assert table["value"].to_pylist()[:6] == [0.0, 1.0, 2.0, 1.0, 1.0, 2.0]
    assert suffix != "csv" or path.read_bytes() == whole


def test_an_export_that_is_interrupted_leaves_the_old_one(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = recorded(store, 6)
    watched(monkeypatch, broken_after=4)
    monkeypatch.setattr("sweep.export.ROWS_AT_ONCE", 1)
    for name in ("x.csv", "x.parquet"):
        (tmp_path / name).write_text("old")
        with pytest.raises(KeyboardInterrupt):
            write_export(record, tmp_path / name, histories=True)
        assert (tmp_path / name).read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.csv", "x.parquet"]


def test_an_export_goes_to_standard_output(
    name: str, store: Store, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    for more in ([], ["--histories"]):
        given = ["export", name, "--tracking-uri", store.uri, *more]
        for arguments in (given, [*given, "--out", str(tmp_path / "x.csv")]):
            with pytest.raises(SystemExit) as end:
                main(arguments)
            assert end.value.code == 0
        sys.stdout.flush()
        assert capfdbinary.readouterr().out == (tmp_path / "x.csv").read_bytes()


def test_an_empty_sweep_is_exported_with_its_columns(store: Store, tmp_path: Path) -> None:
    record = store.record(grid("main", {"seed": [0]}), {})
    write_export(record, tmp_path / "x.csv", histories=True)
    assert (tmp_path / "x.csv").read_text() == '"cell_id","series","step","value"\n'
    write_export(record, tmp_path / "x.parquet")
    assert parquet.read_table(tmp_path / "x.parquet").equals(export_table(record))


def test_figures_are_written_as_pdf_where_that_is_asked_for(
    name: str, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, more in (("plain", []), ("one", ["--pdf"]), ("two", ["--pdf"])):
        given = ["report", name, "--tracking-uri", store.uri, "--out", str(tmp_path / folder), *more]
        with pytest.raises(SystemExit) as end:
            main(given)
        assert end.value.code == 0
    out = capsys.readouterr().out
    assert f"  {tmp_path}/one/figures/heat.pdf\n" in out
    assert not (tmp_path / "plain/figures/heat.pdf").exists()
    first, second = ((tmp_path / folder / "figures/heat.pdf").read_bytes() for folder in ("one", "two"))
    assert first == second and first.startswith(b"%PDF") and b"/Type3" not in first
    assert b"matplotlib" not in first.lower() and b"CreationDate" not in first
    png = [(tmp_path / folder / "figures/heat.png").read_bytes() for folder in ("plain", "one")]
    assert png[0] == png[1], "a PDF changes nothing of the PNG"
