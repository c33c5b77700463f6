"""Checkpoints as bytes: exact, in an open format, and never believed when damaged."""

import json
import struct
from unittest.mock import Mock

import pytest
import torch

from trainers.checkpoint import LaneState, _digest, decode, encode
from trainers.errors import CheckpointError


@pytest.fixture
def state() -> LaneState:
    return LaneState(
        cell_id="0123456789abcdef",
        step=42,
        tensors={
            "weights": torch.randn(7, generator=torch.Generator().manual_seed(0)),
            "eigenspace": torch.randn(2, 7, dtype=torch.float64),
            "counts": torch.tensor([1, 2**40]),
            "empty": torch.zeros(0, 3),
        },
        scalars={"initial_loss": 0.1, "outcome": None, "finals": {"train/loss": "nan"}},
    )


def test_what_is_read_is_what_was_written(state: LaneState) -> None:
    data = encode(state)
    assert data == encode(state)
    back = decode(data)
    assert (back.cell_id, back.step, back.scalars) == (state.cell_id, state.step, state.scalars)
    assert back.tensors.keys() == state.tensors.keys()
    for name, tensor in state.tensors.items():
        assert back.tensors[name].dtype == tensor.dtype
        assert torch.equal(back.tensors[name], tensor)


def test_the_file_is_safetensors(state: LaneState) -> None:
    data = encode(state)
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__")
    assert all(isinstance(value, str) for value in metadata.values())
    end = 0
    for entry in sorted(header.values(), key=lambda entry: entry["data_offsets"]):
        assert entry["data_offsets"][0] == end
        end = entry["data_offsets"][1]
    assert end == len(data) - 8 - length


def test_every_flipped_bit_is_found(state: LaneState) -> None:
    data = encode(state)
    (length,) = struct.unpack_from("<Q", data)
    padding = len(data[8 : 8 + length]) - len(data[8 : 8 + length].rstrip(b" "))
    believed = 0
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << (place % 8)
        try:
            back = decode(bytes(damaged))
        except CheckpointError:
            continue
        # White space of the header carries nothing.
        assert back.scalars == state.scalars
        assert all(torch.equal(back.tensors[name], tensor) for name, tensor in state.tensors.items())
        believed += 1
    assert believed <= padding + 16


@pytest.mark.parametrize("kept", [0, 4, 8, 20, 200, -1, -8])
def test_a_truncated_file_is_found(state: LaneState, kept: int) -> None:
    with pytest.raises(CheckpointError):
        decode(encode(state)[:kept])


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"null",
        b"{}",
        b'{"__metadata__": 3}',
        b'{"__metadata__": {"state": "{}", "sha256": ""}}',
        b'{"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}, "__metadata__": {}}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_a_hostile_header_is_an_error_and_nothing_else(header: bytes) -> None:
    with pytest.raises(CheckpointError):
        decode(struct.pack("<Q", len(header)) + header)
    with pytest.raises(CheckpointError):
        decode(struct.pack("<Q", 2**63) + header)


def forged(header: dict[str, object], facts: str, body: bytes) -> bytes:
    """A file whose digest is right, so that only its content can be found wrong."""
    header = header | {"__metadata__": {"state": facts, "sha256": _digest(header, facts, body)}}
    head = json.dumps(header).encode()
    return struct.pack("<Q", len(head)) + head + body


FACTS = '{"schema": 3, "cell_id": "a", "step": 3, "scalars": {}}'


def test_a_forged_file_is_read_where_it_makes_sense() -> None:
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    state = decode(forged({"weights": entry}, FACTS, bytes(8)))
    assert state.step == 3 and torch.equal(state.tensors["weights"], torch.zeros(2))


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-1, -2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]},
        {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0.0, 8.0]},
        {"dtype": "F32", "shape": [float("inf")], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2**70], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": "2", "data_offsets": None},
        {"dtype": "F16", "shape": [4], "data_offsets": [0, 8]},
        {"shape": [2], "data_offsets": [0, 8]},
        ["F32", [2], [0, 8]],
        None,
    ],
)
def test_tensors_that_cannot_be_are_damage(entry: object) -> None:
    with pytest.raises(CheckpointError):
        decode(forged({"weights": entry}, FACTS, bytes(8)))


def test_a_host_without_room_for_a_sound_file_is_no_damage(
    state: LaneState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an older state would be gone on with, and the newer one's steps trained again."""
    monkeypatch.setattr("trainers.checkpoint.torch.from_numpy", Mock(side_effect=MemoryError))
    with pytest.raises(MemoryError):
        decode(encode(state))


@pytest.mark.parametrize(
    "facts",
    [
        "",
        "3",
        "[]",
        "{}",
        "[" * 100_000,
        FACTS.replace("3", "-3"),
        FACTS.replace("3", "Infinity"),
        FACTS.replace("3", "NaN"),
        FACTS.replace("3", "1" + "0" * 5000),
        FACTS.replace("3", '"three"'),
        FACTS.replace('"schema": 3', '"schema": 1'),
        FACTS.replace('"schema": 3', '"schema": null'),
    ],
)
def test_facts_that_cannot_be_are_damage(facts: str) -> None:
    with pytest.raises(CheckpointError):
        decode(forged({}, facts, b""))
