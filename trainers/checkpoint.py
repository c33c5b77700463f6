"""The state of one lane as bytes: everything that is needed to go on bitwise, readable without running code.

The bytes are a valid safetensors file: 8 bytes of header length (little endian), a JSON header with each
tensor's dtype, shape and offsets, then the tensors. Scalars live in the header's `__metadata__` as JSON,
beside a SHA-256 over them and the tensors, so damage is found even where the store's own digest is missing.
"""

import hashlib
import json
import math
import struct
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from trainers.errors import CheckpointError

SCHEMA_VERSION = 3
MAX_HEADER_BYTES = 16 * 2**20

DAMAGE = (
    struct.error,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)
"""What reading altered bytes can raise; all of it means the same.

Not `MemoryError`: nothing that the bytes say makes room larger than they are, so it is the host's memory that
has run out, for sound bytes too.
"""

_DTYPES = {"F32": torch.float32, "F64": torch.float64, "I64": torch.int64, "BOOL": torch.bool}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneState:
    """One lane between two steps.

    Args:
        cell_id: Whose state it is.
        step: Updates done; nothing of this step has been measured yet.
        tensors: Weights, optimiser state, bases, by name; on the CPU.
        scalars: Detector, counters and finals, as JSON values (non-finite numbers as strings).
    """

    cell_id: str
    step: int
    tensors: dict[str, Tensor]
    scalars: dict[str, Any]


def encode(state: LaneState) -> bytes:
    """Serialise a state; equal states give equal bytes."""
    header: dict[str, Any] = {}
    chunks: list[bytes] = []
    offset = 0
    for name in sorted(state.tensors):
        tensor = state.tensors[name].detach().cpu().contiguous()
        if tensor.dtype not in _NAMES:
            raise CheckpointError(f"tensor {name!r} has dtype {tensor.dtype}; known: {', '.join(_DTYPES)}.")
        data = tensor.numpy().tobytes()
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + len(data)],
        }
        offset += len(data)
        chunks.append(data)
    body = b"".join(chunks)
    facts = {"schema": SCHEMA_VERSION, "cell_id": state.cell_id, "step": state.step, "scalars": state.scalars}
    text = json.dumps(facts, sort_keys=True, allow_nan=False)
    header["__metadata__"] = {"state": text, "sha256": _digest(header, text, body)}
    head = json.dumps(header, sort_keys=True).encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + body


def decode(data: bytes) -> LaneState:
    """Read a state back.

    Raises:
        CheckpointError: The bytes are truncated, altered, or of another schema. No code in them is run.
    """
    try:
        (length,) = struct.unpack_from("<Q", data)
        if length > min(MAX_HEADER_BYTES, len(data) - 8):
            raise CheckpointError("damaged checkpoint: the header is longer than the file.")
        header = json.loads(data[8 : 8 + length])
        metadata = header.pop("__metadata__")
        text, digest = metadata["state"], metadata["sha256"]
        body = data[8 + length :]
        if _digest(header, text, body) != digest:
            raise CheckpointError("damaged checkpoint: its digest does not match its content.")
        facts = json.loads(text)
        if facts["schema"] != SCHEMA_VERSION:
            raise CheckpointError(
                f"checkpoint schema {facts['schema']!r}; this version reads {SCHEMA_VERSION}."
            )
        if int(facts["step"]) < 0:
            raise CheckpointError(f"damaged checkpoint: step {facts['step']!r}.")
        tensors = {name: _tensor(entry, body) for name, entry in header.items()}
        return LaneState(
            cell_id=str(facts["cell_id"]),
            step=int(facts["step"]),
            tensors=tensors,
            scalars=cast("dict[str, Any]", facts["scalars"]),
        )
    except DAMAGE as error:
        raise CheckpointError(f"damaged checkpoint: {error!r}.") from error


def _digest(header: dict[str, Any], text: str, body: bytes) -> str:
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    digest = hashlib.sha256(json.dumps(tensors, sort_keys=True).encode())
    digest.update(text.encode())
    digest.update(body)
    return digest.hexdigest()


def _tensor(entry: dict[str, Any], body: bytes) -> Tensor:
    dtype = _DTYPES[entry["dtype"]]
    start, stop = entry["data_offsets"]
    shape = [int(size) for size in entry["shape"]]
    itemsize = torch.empty(0, dtype=dtype).element_size()
    if (
        not 0 <= start <= stop <= len(body)
        or stop - start != math.prod(shape) * itemsize
        or min(shape, default=0) < 0
    ):
        raise CheckpointError("damaged checkpoint: a tensor's offsets do not fit its shape.")
    array = np.frombuffer(body[start:stop], dtype=np.dtype(str(dtype).removeprefix("torch."))).copy()
    return torch.from_numpy(array).reshape(shape)


def number_to_json(value: float) -> float | str:
    """Return a JSON value for a float: non-finite ones as "nan", "inf", "-inf"."""
    return value if math.isfinite(value) else repr(value)


def number_from_json(value: float | str) -> float:
    """Undo `number_to_json`."""
    return float(value)
