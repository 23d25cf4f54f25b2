"""What crosses the engine's socket: small JSON headers, one file descriptor at the start, never a tensor.

A frame is a 4-byte big-endian length and that many bytes of JSON. The client first sends `arena` with a sealed memfd;
then `run` names a model, a batch size and where in the arena each input lies and each output goes. Shapes and types
are not sent: they are the model's contract, so a client cannot choose them. The client may be a process that has
just parsed a hostile file, so the engine believes nothing it reads here before checking it.
"""

import array
import contextlib
import json
import math
import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from worker.inference.registry import MAX_BATCH, ModelCard

MAX_HEADER: Final = 16 * 1024  # bytes
MAX_ARENA: Final = 256 * 1024 * 1024  # bytes
ALIGNMENT: Final = 64  # bytes; what vector instructions like
FLOAT_SIZE: Final = 4
_LENGTH: Final = struct.Struct(">I")


class ProtocolError(Exception):
    """The other side does not keep to the protocol; the connection is of no further use."""


@dataclass(frozen=True)
class StatusRequest:
    """Ask for the engine's health."""

    id: int


@dataclass(frozen=True)
class ArenaRequest:
    """Announce the shared memory whose descriptor comes along."""

    id: int
    size: int


@dataclass(frozen=True)
class RunRequest:
    """Run a model on `batch` items; byte offsets into the arena by tensor name."""

    id: int
    model: str
    batch: int
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


Request = StatusRequest | ArenaRequest | RunRequest


def encode_request(request: Request) -> dict[str, Any]:
    """The header of a request."""
    match request:
        case StatusRequest(id=number):
            return {"op": "status", "id": number}
        case ArenaRequest(id=number, size=size):
            return {"op": "arena", "id": number, "size": size}
        case RunRequest():
            return {
                "op": "run",
                "id": request.id,
                "model": request.model,
                "batch": request.batch,
                "inputs": dict(request.inputs),
                "outputs": dict(request.outputs),
            }


def decode_request(header: Mapping[str, Any]) -> Request:
    """Read an untrusted header: field names, types and ranges are checked here, the contract by `check_places`."""
    match header:
        case {"op": "status", "id": number, **rest} if not rest:
            return StatusRequest(_integer(number))
        case {"op": "arena", "id": number, "size": size, **rest} if not rest:
            return ArenaRequest(_integer(number), _integer(size, 1, MAX_ARENA))
        case {
            "op": "run",
            "id": number,
            "model": str(model),
            "batch": batch,
            "inputs": dict(inputs),
            "outputs": dict(outputs),
            **rest,
        } if not rest:
            return RunRequest(
                _integer(number), model, _integer(batch, 1, MAX_BATCH), _offsets(inputs), _offsets(outputs)
            )
        case _:
            raise ProtocolError("not a known request")


def check_places(request: RunRequest, card: ModelCard, arena_size: int) -> None:
    """Every tensor of the contract, and no other, lies aligned and whole inside the arena; else ProtocolError."""
    for places, contract in ((request.inputs, card.contract.inputs), (request.outputs, card.contract.outputs)):
        if set(places) != set(contract):
            raise ProtocolError(f"the tensors of {card.name} are {sorted(contract)}")
        for name, shape in contract.items():
            end = places[name] + tensor_bytes(shape, request.batch)
            if places[name] % ALIGNMENT or end > arena_size:
                raise ProtocolError(f"the place of tensor {name} is not aligned or not inside the arena")


def tensor_bytes(shape: tuple[int, ...], batch: int) -> int:
    """Bytes of a float32 tensor with this contract shape and batch size."""
    return FLOAT_SIZE * batch * math.prod(shape)


def send(sock: socket.socket, header: Mapping[str, Any], descriptor: int | None = None) -> None:
    """Send one frame; the descriptor, if any, rides on its first bytes. Raises OSError."""
    body = json.dumps(header, separators=(",", ":")).encode("utf-8")
    data = _LENGTH.pack(len(body)) + body
    if descriptor is not None:
        rights = array.array("i", [descriptor])
        sent = sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        data = data[sent:]
    if data:  # sending nothing would still fail on a socket whose other end is closed by now
        sock.sendall(data)


def receive(sock: socket.socket, timeout: float | None = None) -> tuple[dict[str, Any], list[int]] | None:
    """Wait for one frame: its header and the descriptors that came along (at most one, now ours to close).

    None if the other side closed between frames. `timeout` bounds the seconds a begun frame may take, so that half a
    frame cannot hold a thread for ever. Raises ProtocolError, OSError.
    """
    descriptors: list[int] = []
    try:
        first = _receive_bytes(sock, 1, descriptors)
        if first is None:
            return None
        waiting = sock.gettimeout()
        if timeout is not None:
            sock.settimeout(timeout)
        try:
            (length,) = _LENGTH.unpack(first + _require_bytes(sock, _LENGTH.size - 1, descriptors))
            if not 0 < length <= MAX_HEADER:
                raise ProtocolError(f"a header of {length} bytes")
            body = _require_bytes(sock, length, descriptors)
        finally:
            sock.settimeout(waiting)
        try:
            header = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise ProtocolError("a header that is not JSON") from error
        if not isinstance(header, dict):
            raise ProtocolError("a header that is not an object")
    except BaseException:
        close_all(descriptors)
        raise
    return header, descriptors


def close_all(descriptors: list[int]) -> None:
    """Close received descriptors that are not wanted."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _require_bytes(sock: socket.socket, count: int, descriptors: list[int]) -> bytes:
    data = _receive_bytes(sock, count, descriptors)
    if data is None:
        raise ProtocolError("the connection closed inside a frame")
    return data


def _receive_bytes(sock: socket.socket, count: int, descriptors: list[int]) -> bytes | None:
    """Exactly `count` bytes, or None if the connection closed before the last."""
    data = bytearray()
    while len(data) < count:
        part, ancillary, flags, _ = sock.recvmsg(
            count - len(data), socket.CMSG_SPACE(FLOAT_SIZE), socket.MSG_CMSG_CLOEXEC
        )
        for level, kind, payload in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                received = array.array("i")
                received.frombytes(payload[: len(payload) - len(payload) % received.itemsize])
                descriptors.extend(received)
        if flags & socket.MSG_CTRUNC or len(descriptors) > 1:
            raise ProtocolError("more than one descriptor")
        if not part:
            return None
        data += part
    return bytes(data)


def _integer(value: object, least: int = 0, most: int = 2**53) -> int:
    if type(value) is not int or not least <= value <= most:  # bool is an int to isinstance
        raise ProtocolError("a number that is not a whole number in its range")
    return value


def _offsets(values: Mapping[Any, object]) -> dict[str, int]:
    return {str(name): _integer(offset, 0, MAX_ARENA) for name, offset in values.items()}
