"""Errors that end a command as bad input does (exit code 2), and which of them trying again may mend.

A RayJob's driver ends with 0 on those that nothing mends: another cluster would find the same.
"""

import pytest

from sweep.errors import (
    ClusterError,
    LeaseHeldError,
    LedgerUnavailableError,
    NoRoomError,
    NotConfirmedError,
    OtherStorageError,
    StorageUnavailableError,
    SweepExistsError,
)
from sweep.storage.files import open_files
from trainers.errors import ConfigError, DataError, DownloadError, SharpflatError

AGAIN_HELPS: dict[type[SharpflatError], bool] = {
    ConfigError: False,
    DataError: False,
    DownloadError: True,
    SweepExistsError: False,
    NotConfirmedError: False,
    OtherStorageError: False,
    # What raises these says otherwise of a server that is away.
    LedgerUnavailableError: False,
    StorageUnavailableError: True,
    LeaseHeldError: True,
    ClusterError: True,
    # Another cluster may have room, or this one later.
    NoRoomError: True,
}


@pytest.mark.parametrize("kind", AGAIN_HELPS, ids=lambda kind: kind.__name__)
def test_whether_trying_again_may_mend_bad_input(kind: type[SharpflatError]) -> None:
    error = kind("wrong")
    assert (error.exit_code, error.transient) == (2, AGAIN_HELPS[kind])


@pytest.mark.parametrize(
    "place", ["gopher://somewhere/else", "s3://a b/c", "s3://bucket/path?nope=1", "abfs://x"]
)
def test_a_uri_that_is_wrong_stays_so(place: str) -> None:
    with pytest.raises(StorageUnavailableError, match="cannot be opened") as refused:
        open_files(place)
    assert not refused.value.transient


def test_a_bucket_whose_server_does_not_answer_may_answer_later(monkeypatch: pytest.MonkeyPatch) -> None:
    class Away:
        @staticmethod
        def from_uri(uri: str) -> object:
            raise OSError("When resolving region for bucket 'bucket': AWS Error NETWORK_CONNECTION")

    monkeypatch.setattr("sweep.storage.files.fs.FileSystem", Away)
    with pytest.raises(StorageUnavailableError, match="NETWORK_CONNECTION") as refused:
        open_files("s3://bucket/path")
    assert refused.value.transient
