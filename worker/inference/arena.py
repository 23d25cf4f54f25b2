"""The shared memory through which tensors cross: an anonymous, sealed memfd made by the client.

It has no name that others could open, goes away with its last user, and is sealed against shrinking, so that the
engine cannot be killed (SIGBUS) by a client that truncates it in the middle of a run.
"""

import fcntl
import math
import mmap
import os
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from worker.inference.contracts import ModelContract
from worker.inference.wire import MAX_ARENA, Layout, ProtocolError

_FLOAT32: Final = np.dtype(np.float32)
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Arena:
    """A mapped piece of shared memory; tensors are views into it."""

    def __init__(self, descriptor: int, size: int) -> None:
        self.size: Final = size
        self._memory = mmap.mmap(descriptor, size)
        self._bytes = np.frombuffer(self._memory, np.uint8, size)

    @classmethod
    def create(cls, size: int) -> tuple["Arena", int]:
        """The client's side: new sealed memory and its descriptor, which the caller closes. Pages cost on first use."""
        descriptor = os.memfd_create("imprimatur-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(descriptor, size)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            return cls(descriptor, size), descriptor
        except BaseException:
            os.close(descriptor)
            raise

    @classmethod
    def accept(cls, descriptor: int, size: int) -> "Arena":
        """The engine's side: map a descriptor from a client, if it is memory that cannot shrink. ProtocolError else."""
        try:
            # Fails on everything but a memfd: files, pipes, devices and network file systems never get mapped.
            seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
            real = os.fstat(descriptor).st_size
            page = os.fstatvfs(descriptor).f_bsize
        except OSError as error:
            raise ProtocolError("the arena is not a memfd") from error
        if page != mmap.PAGESIZE:
            raise ProtocolError("the arena has not ordinary pages")  # huge ones can run out: SIGBUS in the engine
        if not seals & fcntl.F_SEAL_SHRINK:
            raise ProtocolError("the arena is not sealed against shrinking")
        if not 0 < size <= min(real, MAX_ARENA):
            raise ProtocolError("the arena is not as large as announced")
        try:
            return cls(descriptor, size)
        except (OSError, ValueError) as error:
            raise ProtocolError("the arena cannot be mapped") from error

    def view(self, offset: int, batch: int, shape: tuple[int, ...], dtype: np.dtype[Any] = _FLOAT32) -> NDArray[Any]:
        """`dtype` [batch, *shape] at an aligned byte offset, shared with the other side: it may change at any time."""
        end = offset + dtype.itemsize * batch * math.prod(shape)
        return self._bytes[offset:end].view(dtype).reshape(batch, *shape)

    def inputs(self, contract: ModelContract, places: Layout, at: int, batch: int) -> dict[str, NDArray[Any]]:
        """Views of a run's inputs by name; `places` lie behind `at`."""
        return {
            name: self.view(at + places.inputs[name], batch, shape, contract.input_type(name))
            for name, shape in contract.inputs.items()
        }

    def outputs(self, contract: ModelContract, places: Layout, at: int, batch: int) -> dict[str, NDArray[Any]]:
        """Views of its outputs."""
        return {
            name: self.view(at + places.outputs[name], batch, shape, contract.output_type(name))
            for name, shape in contract.outputs.items()
        }


class Allocator:
    """Hands out regions of an arena; first fit, so that few calls keep few pages warm. The caller holds a lock."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._free = [(0, size)]  # (offset, bytes), by offset, never adjacent

    def take(self, size: int) -> int | None:
        """The offset of a free region of `size` bytes (a multiple of 64), or None. ValueError if it never fits."""
        if size > self._size:
            raise ValueError(f"{size} bytes never fit into an arena of {self._size}")
        for index, (offset, room) in enumerate(self._free):
            if room >= size:
                self._free[index : index + 1] = [(offset + size, room - size)] if room > size else []
                return offset
        return None

    def give_back(self, offset: int, size: int) -> None:
        """Free a region that `take` gave out."""
        merged: list[tuple[int, int]] = []
        for start, room in sorted([*self._free, (offset, size)]):
            if merged and sum(merged[-1]) == start:
                merged[-1] = (merged[-1][0], merged[-1][1] + room)
            else:
                merged.append((start, room))
        self._free = merged
