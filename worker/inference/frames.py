"""Memory for batches, kept from run to run: fresh pages would cost as much as the copy that fills them."""

import contextlib
import ctypes
import logging
import threading
import time
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from worker.inference.contracts import ModelContract

log = logging.getLogger(__name__)

_PAGE: Final = 4096
_CUDA_RUNTIMES: Final = ("libcudart.so.12", "libcudart.so.13", "libcudart.so")


class BatchFrame:
    """Inputs, and for a device that copies its results out also outputs: [capacity, *shape] by name."""

    def __init__(self, contract: ModelContract, capacity: int, *, outputs: bool, pinned: bool) -> None:
        self.capacity: Final = capacity
        self._pins: list[_Pin] = []
        self.inputs: Final = {
            name: self._array((capacity, *shape), contract.input_type(name), pinned)
            for name, shape in contract.inputs.items()
        }
        self.outputs: Final[dict[str, NDArray[Any]]] = (
            {
                name: self._array((capacity, *shape), contract.output_type(name), pinned)
                for name, shape in contract.outputs.items()
            }
            if outputs
            else {}
        )

    def _array(self, shape: tuple[int, ...], dtype: np.dtype[Any], pinned: bool) -> NDArray[Any]:
        size = dtype.itemsize * int(np.prod(shape))
        raw = np.empty(size + _PAGE, np.uint8)
        start = -raw.ctypes.data % _PAGE
        array: NDArray[Any] = raw[start : start + size].view(dtype).reshape(shape)
        if pinned:
            self._pins.append(_Pin(array))
        return array


class FramePool:
    """The frames of one loaded model. Thread-safe."""

    def __init__(self, contract: ModelContract, *, kept: int, outputs: bool, pinned: bool) -> None:
        """`kept` frames at most lie ready: as many as batches of the model are in flight at once.

        The frame of a batch whose results are being handed out is one more, now and then. To keep that too would be
        memory that only grows: in a long film each frame meets the largest batch in the end.
        """
        self._contract = contract
        self._kept = kept
        self._outputs = outputs
        self._pinned = pinned
        self._free: list[BatchFrame] = []
        self._last_use = time.monotonic()
        self._lock = threading.Lock()

    def take(self, size: int) -> BatchFrame:
        """A frame for at least `size` items."""
        with self._lock:
            self._last_use = time.monotonic()
            for index, frame in enumerate(self._free):
                if frame.capacity >= size:
                    return self._free.pop(index)
        capacity = 1 << (size - 1).bit_length()
        return BatchFrame(self._contract, capacity, outputs=self._outputs, pinned=self._pinned)

    def give_back(self, frame: BatchFrame) -> None:
        """Keep a frame for the next batch; the smallest goes if there are too many."""
        with self._lock:
            self._free.append(frame)
            self._free.sort(key=lambda kept: kept.capacity)
            del self._free[: -self._kept]

    def let_go(self, unused_for: float) -> bool:
        """Free what lies ready, if no frame was taken for so many seconds; whether there was anything."""
        with self._lock:
            idle = bool(self._free) and time.monotonic() - self._last_use >= unused_for
            if idle:
                self._free = []
        return idle


class _Pin:
    """Page-locks an array's memory as long as it lives, so that a GPU copies it by itself, beside its computing."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._runtime = _cuda_runtime()
        self._pointer = ctypes.c_void_p(array.ctypes.data)
        self._held = False
        if self._runtime is not None:
            status = self._runtime.cudaHostRegister(self._pointer, ctypes.c_size_t(array.nbytes), ctypes.c_uint(0))
            self._held = status == 0
            if status:
                log.info("memory for a batch could not be page-locked (CUDA status %d); copies are slower", status)

    def __del__(self) -> None:
        if self._held and self._runtime is not None:
            self._runtime.cudaHostUnregister(self._pointer)


def _cuda_runtime() -> Any:
    for name in _CUDA_RUNTIMES:
        with contextlib.suppress(OSError):
            return ctypes.CDLL(name)
    return None
