"""Where a new sweep's files are, for a database whose columns have a length."""

from pathlib import Path

import pytest

from sweep.ledger.locations import RUN_FOLDER, RUN_URI_LENGTH, artifact_location
from trainers.errors import ConfigError

NAMES = ["demo", "x" * 120, "x" * 255, "学习率与批大小扫描", "ä" * 40, "it's", "with space", "100%"]


@pytest.mark.parametrize("name", NAMES)
def test_a_location_fits_and_is_one_sweep_s_own(name: str) -> None:
    root = Path("/home/somebody/a project/results/artifacts")
    found = artifact_location(root, name, limited=True)
    assert len(found) + len(RUN_FOLDER) <= RUN_URI_LENGTH
    assert found == artifact_location(root, name, limited=True)
    assert found != artifact_location(root, name[:-1] + "~", limited=True)
    whole = artifact_location(root, name, limited=False)
    # As before wherever that fits.
    assert found == whole or len(whole) + len(RUN_FOLDER) > RUN_URI_LENGTH
    assert found.startswith("file:///home/somebody/a%20project/results/artifacts/")


def test_a_folder_without_room_is_refused() -> None:
    root = Path("/" + "deep/" * 30 + "artifacts")
    assert artifact_location(root, "demo", limited=False).endswith("artifacts/demo")
    with pytest.raises(ConfigError, match="shorter SWEEP_HOME"):
        artifact_location(root, "demo", limited=True)
