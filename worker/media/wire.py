"""Messages between a task process and its media child: one JSON object per line, arrays as passed descriptors.

An array travels as an anonymous memory file (memfd) whose descriptor rides on the line that names it. The receiver
reads it, instead of mapping it, and checks size, shape and type first: the sender may be a process that a malicious
file has taken over.
"""

from __future__ import annotations

import array
import json
import os
import socket
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_LINE: Final = 8 << 20
MAX_ARRAY_BYTES: Final = 1 << 30
MAX_FDS: Final = 16
_DTYPES: Final = frozenset({"uint8", "uint16", "int32", "int64", "float32", "float64", "bool"})


class Pixels:
    """A picture that was never an array: what reads photos starts faster without numpy."""

    dtype: Final = "uint8"

    def __init__(self, shape: tuple[int, int, int], data: bytes) -> None:
        """`data`: uint8 [H, W, C], row by row."""
        self.shape = shape
        self.data = data


class WireError(Exception):
    """The peer sent something that is not the protocol."""


class Link:
    """One end of the conversation. `send` may be called from several threads, `receive` from one."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()
        self._fds: deque[int] = deque()
        self._lock = threading.Lock()

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, message: Mapping[str, Any], arrays: Sequence[NDArray[Any] | Pixels] = ()) -> None:
        """Send one message. Raises OSError when the peer is gone, ValueError for more than MAX_FDS arrays."""
        if len(arrays) > MAX_FDS:
            raise ValueError(f"At most {MAX_FDS} arrays fit one message.")
        head = dict(message)
        if arrays:
            head["arrays"] = [{"shape": list(item.shape), "dtype": str(item.dtype)} for item in arrays]
        line = json.dumps(head, separators=(",", ":")).encode() + b"\n"
        if len(line) > MAX_LINE:
            raise ValueError("The message is too long.")
        fds = [_memory_file(item) for item in arrays]
        try:
            with self._lock:
                sent = 0
                if fds:
                    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
                    sent = self._sock.sendmsg([line], ancillary)
                self._sock.sendall(line[sent:])
        finally:
            for fd in fds:
                os.close(fd)

    def buffered(self) -> tuple[dict[str, Any], list[NDArray[Any]]] | None:
        """Return the next message if it has arrived already, and read nothing. Raises WireError as `receive`."""
        return self._next()

    def receive(self) -> tuple[dict[str, Any], list[NDArray[Any]]] | None:
        """Read what is there and return the next message, or None when no whole message has arrived yet.

        Blocks only if the socket does and nothing is buffered. Raises EOFError when the peer closed, WireError for a
        malformed message.
        """
        ready = self._next()
        if ready is not None:
            return ready
        data, ancillary, flags, _ = self._sock.recvmsg(1 << 16, socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize))
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
                self._fds.extend(fds)
        if flags & socket.MSG_CTRUNC:
            raise WireError("Too many descriptors in one message.")
        if not data:
            raise EOFError
        self._buffer += data
        return self._next()

    def close(self) -> None:
        """Close the socket and every descriptor that was received and not used."""
        while self._fds:
            os.close(self._fds.popleft())
        self._sock.close()

    def _next(self) -> tuple[dict[str, Any], list[NDArray[Any]]] | None:
        end = self._buffer.find(b"\n")
        if end < 0:
            if len(self._buffer) > MAX_LINE:
                raise WireError("A message has no end.")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            message = json.loads(line)
        except ValueError as error:
            raise WireError("A message is not JSON.") from error
        if not isinstance(message, dict):
            raise WireError("A message is not an object.")
        heads = message.pop("arrays", [])
        arrays = []
        for head in heads:
            if not self._fds:
                raise WireError("A message names an array that did not come.")
            fd = self._fds.popleft()
            try:
                arrays.append(_read_array(fd, head))
            finally:
                os.close(fd)
        return message, arrays


def _memory_file(item: NDArray[Any] | Pixels) -> int:
    fd = os.memfd_create("array", os.MFD_CLOEXEC)
    view = memoryview(item.data) if isinstance(item, Pixels) else _bytes_of(item)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except BaseException:
        os.close(fd)
        raise
    return fd


def _bytes_of(item: NDArray[Any]) -> memoryview:
    import numpy as np

    return np.ascontiguousarray(item).data.cast("B") if item.size else memoryview(b"")


def _read_array(fd: int, head: Any) -> NDArray[Any]:
    import numpy as np

    try:
        shape = tuple(int(side) for side in head["shape"])
        dtype = str(head["dtype"])
    except (TypeError, KeyError, ValueError) as error:
        raise WireError("An array has no shape.") from error
    if dtype not in _DTYPES or len(shape) > 5 or any(side < 0 for side in shape):
        raise WireError(f"An array of {dtype} {shape} is not accepted.")
    size = prod(shape) * np.dtype(dtype).itemsize
    if size > MAX_ARRAY_BYTES or os.fstat(fd).st_size != size:
        raise WireError("An array has another size than it claims.")
    result = np.empty(shape, dtype)
    view = result.reshape(-1).view(np.uint8).data if size else memoryview(bytearray())
    offset = 0
    while offset < size:
        count = os.preadv(fd, [view[offset:]], offset)
        if count <= 0:
            raise WireError("An array ended early.")
        offset += count
    return result
