"""Checkpoints as bytes: exact, in an open format, and never believed when damaged."""

import json
import struct

import pytest
import torch

from trainers.checkpoint import LaneState, decode, encode
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
