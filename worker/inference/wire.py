"""What crosses the engine's socket: small JSON headers, one file descriptor at the start, never a tensor.

A frame is a 4-byte big-endian length and that many bytes of JSON. The client first sends `arena` with a sealed memfd;
then `run` names a model, a batch size and where in the arena its tensors lie, one behind the other (see `layout`).
Names, shapes and types are not sent: they are the model's contract, so a client cannot choose them. Many runs may be
open at once and are answered as they end, by number. The client may be a process that has just parsed a hostile
file, so the engine believes nothing it reads here before checking it.
"""

import array
import contextlib
import json
import math
import os
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from worker.inference.contracts import ModelContract
from worker.inference.registry import MAX_BATCH
from worker.inference.types import Service

MAX_HEADER: Final = 16 * 1024  # bytes of a request
MAX_ANSWER: Final = 256 * 1024  # bytes; the status of an engine with many models
MAX_OPEN: Final = 128  # runs that one client may have handed in without having their answers
MAX_ARENA: Final = 256 * 1024 * 1024  # bytes
ALIGNMENT: Final = 64  # bytes; what vector instructions like
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode  # made once, as is the reader
_decode: Final = json.JSONDecoder().decode
_CLOSE_ON_EXEC: Final = int(socket.MSG_CMSG_CLOEXEC)
_PEEK: Final = int(socket.MSG_PEEK | socket.MSG_DONTWAIT)
_LENGTH: Final = struct.Struct(">I")
_TRUNCATED: Final = int(socket.MSG_CTRUNC)
_RUN_FIELDS: Final = {"op", "id", "model", "batch", "at"}
_READ_SIZE: Final = 64 * 1024
_RIGHTS_SPACE: Final = socket.CMSG_SPACE(array.array("i").itemsize)


class ProtocolError(Exception):
    """The other side does not keep to the protocol; the connection is of no further use."""


@dataclass(frozen=True)
class StatusRequest:
    """Ask for the engine's health."""

    id: int


@dataclass(frozen=True)
class ArenaRequest:
    """Announce the shared memory whose descriptor comes along, and the service class of all that follows."""

    id: int
    size: int
    service: Service = "interactive"


@dataclass(frozen=True)
class RunRequest:
    """Run a model on `batch` items; `at` is the byte offset of its tensors in the arena."""

    id: int
    model: str
    batch: int
    at: int


@dataclass(frozen=True)
class Layout:
    """Where the tensors of a run lie: byte offsets behind its `at`, by name, and the bytes of them all."""

    inputs: Mapping[str, int]
    outputs: Mapping[str, int]
    size: int


Request = StatusRequest | ArenaRequest | RunRequest


def encode_request(request: Request) -> dict[str, Any]:
    """The header of a request."""
    match request:
        case StatusRequest(id=number):
            return {"op": "status", "id": number}
        case ArenaRequest(id=number, size=size, service=service):
            return {"op": "arena", "id": number, "size": size, "service": service}
        case RunRequest():
            return {"op": "run", "id": request.id, "model": request.model, "batch": request.batch, "at": request.at}


def decode_request(header: Mapping[str, Any]) -> Request:
    """Read an untrusted header: field names, types and ranges are checked here, the contract by `check_place`."""
    if header.get("op") == "run" and header.keys() == _RUN_FIELDS and isinstance(header["model"], str):
        return RunRequest(
            _integer(header["id"]),
            header["model"],
            _integer(header["batch"], 1, MAX_BATCH),
            _integer(header["at"], 0, MAX_ARENA),
        )
    match header:
        case {"op": "status", "id": number, **rest} if not rest:
            return StatusRequest(_integer(number))
        case {
            "op": "arena",
            "id": number,
            "size": size,
            "service": ("interactive" | "offline") as service,
            **rest,
        } if not rest:
            return ArenaRequest(_integer(number), _integer(size, 1, MAX_ARENA), service)
        case _:
            raise ProtocolError("not a known request")


def layout(contract: ModelContract, batch: int) -> Layout:
    """Place the tensors of a run one behind the other, aligned: inputs in the contract's order, then outputs."""
    end = 0
    places: list[dict[str, int]] = []
    for shapes, type_of in ((contract.inputs, contract.input_type), (contract.outputs, contract.output_type)):
        places.append({})
        for name, shape in shapes.items():
            places[-1][name] = end
            end += -(-tensor_bytes(shape, batch, type_of(name).itemsize) // ALIGNMENT) * ALIGNMENT
    return Layout(places[0], places[1], end)


def check_place(request: RunRequest, size: int, arena_size: int) -> None:
    """The tensors of a run, `size` bytes in all, lie aligned and whole inside the arena; else ProtocolError."""
    if request.at % ALIGNMENT or request.at + size > arena_size:
        raise ProtocolError("the place of the tensors is not aligned or not inside the arena")


def tensor_bytes(shape: tuple[int, ...], batch: int, size: int) -> int:
    """Bytes of a tensor with this contract shape and batch size whose numbers take `size` bytes."""
    return size * batch * math.prod(shape)


def encode_frame(header: Mapping[str, Any]) -> bytes:
    """A header as it goes over the socket."""
    body = _encode(header).encode("utf-8")
    return _LENGTH.pack(len(body)) + body


def encode_success(number: int) -> bytes:
    """The frame that says that run `number` ended well."""
    body = b'{"id":%d,"ok":true}' % number
    return _LENGTH.pack(len(body)) + body


def send(sock: socket.socket, header: Mapping[str, Any], descriptor: int | None = None) -> None:
    """Send one frame; the descriptor, if any, rides on its first bytes. Raises OSError."""
    send_bytes(sock, encode_frame(header), descriptor)


def send_bytes(sock: socket.socket, data: bytes, descriptor: int | None = None) -> None:
    """Send an encoded frame, as `send`."""
    if descriptor is not None:
        rights = array.array("i", [descriptor])
        sent = sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        data = data[sent:]
    if data:  # sending nothing would still fail on a socket whose other end is closed by now
        sock.sendall(data)


class FrameReader:
    """Reads the frames of one connection, as many at once as have come. Not thread-safe.

    Descriptors that came along lie in `descriptors` until somebody takes them (at most one, ours to close).
    """

    def __init__(self, sock: socket.socket, *, limit: int = MAX_HEADER, timeout: float | None = None) -> None:
        """`timeout` bounds the seconds that a begun frame may take, so that half a frame cannot hold a thread."""
        self.descriptors: Final[list[int]] = []
        self._sock = sock
        self._limit = limit
        self._timeout = timeout
        self._data = bytearray()

    @property
    def buffered(self) -> bool:
        """Whether bytes of a further frame were read already."""
        return bool(self._data)

    @property
    def ready(self) -> bool:
        """Whether a further frame has begun to come."""
        if self._data:
            return True
        try:
            return bool(self._sock.recv(1, _PEEK))
        except BlockingIOError:
            return False

    def read(self) -> dict[str, Any] | None:
        """Wait for the next frame: its header; None if the other side closed between frames.

        Raises ProtocolError, OSError.
        """
        header = self._cut()
        if header is None and not self._data:
            if not self._receive():
                return None
            header = self._cut()
        return self._read_rest() if header is None else header

    def close(self) -> None:
        """Close descriptors that nobody took."""
        close_all(self.descriptors)
        self.descriptors.clear()

    def _read_rest(self) -> dict[str, Any]:
        waiting = self._sock.gettimeout()
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        try:
            while True:
                if deadline is not None:
                    self._sock.settimeout(max(0.001, deadline - time.monotonic()))
                if not self._receive():
                    raise ProtocolError("the connection closed inside a frame")
                header = self._cut()
                if header is not None:
                    return header
        finally:
            self._sock.settimeout(waiting)

    def _cut(self) -> dict[str, Any] | None:
        """The next frame of the bytes that are here, if it is whole."""
        if len(self._data) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._data)
        if not 0 < length <= self._limit:
            raise ProtocolError(f"a header of {length} bytes")
        end = _LENGTH.size + length
        if len(self._data) < end:
            return None
        body = bytes(self._data[_LENGTH.size : end])
        del self._data[:end]
        try:
            header = _decode(body.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise ProtocolError("a header that is not JSON") from error
        if not isinstance(header, dict):
            raise ProtocolError("a header that is not an object")
        return header

    def _receive(self) -> bool:
        """Take what has come, at least one byte; False if the other side closed."""
        part, ancillary, flags, _ = self._sock.recvmsg(_READ_SIZE, _RIGHTS_SPACE, _CLOSE_ON_EXEC)
        for level, kind, payload in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                received = array.array("i")
                received.frombytes(payload[: len(payload) - len(payload) % received.itemsize])
                self.descriptors.extend(received)
        if flags & _TRUNCATED or len(self.descriptors) > 1:
            raise ProtocolError("more than one descriptor")
        self._data += part
        return bool(part)


def receive(sock: socket.socket) -> dict[str, Any] | None:
    """One frame of a connection on which no other is on its way; as `FrameReader.read`."""
    reader = FrameReader(sock, limit=MAX_ANSWER)
    try:
        return reader.read()
    finally:
        reader.close()


def close_all(descriptors: list[int]) -> None:
    """Close received descriptors that are not wanted."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _integer(value: object, least: int = 0, most: int = 2**53) -> int:
    if type(value) is not int or not least <= value <= most:  # bool is an int to isinstance
        raise ProtocolError("a number that is not a whole number in its range")
    return value
