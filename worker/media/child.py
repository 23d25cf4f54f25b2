"""The inside of a media child: give up rights, find one function by name, run it, report.

The process is forked by `worker.media.forkserver`; its only connection is an inherited socket.
"""

from __future__ import annotations

import errno
import importlib
import os
import queue
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from worker.media.confine import Limits, confine, die_with
from worker.media.errors import FULL_DISK, MediaError
from worker.media.wire import Link, Pixels, WireError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Channel:
    """What a function in the child gets besides its payload: messages out, the wish to stop in, passed descriptors."""

    def __init__(self, link: Link, fds: Sequence[int]) -> None:
        self.fds = tuple(fds)
        self._link = link
        self._stop = threading.Event()
        self._credit = threading.Semaphore(0)
        self._orders: queue.SimpleQueue[Mapping[str, Any]] = queue.SimpleQueue()

    def send(self, message: Mapping[str, Any], arrays: Sequence[NDArray[Any] | Pixels] = ()) -> None:
        """Send a message, with arrays if given, to the caller's `on_message`."""
        self._link.send({"message": dict(message)}, arrays)

    def refuse(self, outcome: Mapping[str, Any]) -> None:
        """Send an error of one call, which the caller raises; the process goes on."""
        self._link.send(outcome)

    def should_stop(self) -> bool:
        """True once the caller wants the work to end; ask at least every tenth of a second."""
        return self._stop.is_set()

    def raise_if_stopped(self) -> None:
        """Raise MediaError `canceled` once the caller wants the work to end."""
        if self.should_stop():
            raise MediaError("canceled")

    def wait_for_credit(self, *, unless_ordered: bool = False) -> bool:
        """Wait until the caller took one more message (`Child.grant`), so that a slow reader holds few arrays.

        False, with `unless_ordered`, when an order came first.
        """
        while not self._credit.acquire(timeout=0.05):
            self.raise_if_stopped()
            if unless_ordered and not self._orders.empty():
                return False
        return True

    def next_order(self) -> Mapping[str, Any]:
        """Wait for the caller's next wish (`Child.order`)."""
        while True:
            self.raise_if_stopped()
            try:
                return self._orders.get(timeout=0.05)
            except queue.Empty:
                continue

    def listen(self) -> None:
        """Follow the caller's side for ever; end the process when the caller is gone."""
        try:
            while True:
                received = self._link.receive()
                if received is None:
                    continue
                if received[0].get("stop"):
                    self._stop.set()
                if "order" in received[0]:
                    self._orders.put(received[0]["order"])
                for _ in range(int(received[0].get("credit", 0))):
                    self._credit.release()
        except (OSError, EOFError, WireError):
            os._exit(1)


class Reply:
    """A result with arrays; a plain mapping is enough for a result without."""

    def __init__(self, value: Mapping[str, Any], arrays: Sequence[NDArray[Any] | Pixels] = ()) -> None:
        self.value = value
        self.arrays = arrays


def peak_memory() -> int:
    """Return the largest resident set of this process so far, in bytes (`VmHWM`, proc(5))."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def main(link_number: int, fds: Sequence[int], parent: int) -> None:
    """Serve one call on the socket `link_number`, with the descriptors `fds`, and exit. Dies with process `parent`."""
    die_with(parent)
    link = Link(socket.socket(fileno=link_number))
    order = None
    while order is None:
        received = link.receive()
        order = received[0] if received else None
    granted = confine(Limits.from_dict(order["limits"]), reads=order["reads"], writes=order["writes"])
    _allow_threads(int(order["limits"]["threads"]))
    channel = Channel(link, fds)
    threading.Thread(target=channel.listen, daemon=True).start()
    outcome, arrays = _outcome(order["target"], {**order["payload"], "isolation": granted}, channel)
    link.send(outcome, arrays)
    link.send({"done": True})
    os._exit(0)  # destructors of native libraries have nothing left to do here and may hang


def _allow_threads(count: int) -> None:
    """Undo the fork server's single thread where OpenCV is loaded at all."""
    cv2 = sys.modules.get("cv2")
    if cv2 is not None:
        cv2.setNumThreads(count)


def serve_calls(payload: Mapping[str, Any], channel: Channel) -> dict[str, Any]:
    """Answer one call after another, each an order {"target", "payload"}, until the caller goes away."""
    while True:
        order = channel.next_order()
        outcome, arrays = _outcome(order["target"], order["payload"], channel)
        if "result" in outcome:
            channel.send(outcome["result"], arrays)
        else:
            channel.refuse(outcome)


def report_isolation(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what this process gave up: the target of `sandbox.isolation`."""
    return dict(payload["isolation"])


def _outcome(
    target: str, payload: Mapping[str, Any], channel: Channel
) -> tuple[dict[str, Any], Sequence[NDArray[Any] | Pixels]]:
    try:
        result = _resolve(target, channel)(payload)
    except MediaError as error:
        return _refusal(error.code, error.detail), ()
    except MemoryError:
        return _refusal("child_out_of_memory", traceback.format_exc(limit=-3)), ()
    except OSError as error:
        if error.errno in FULL_DISK:
            return _refusal("disk_full", str(error)), ()
        if error.errno == errno.ENOMEM:
            return _refusal("child_out_of_memory", str(error)), ()
        return _failure(error), ()
    except Exception as error:
        return _failure(error), ()
    if isinstance(result, Reply):
        return {"result": dict(result.value)}, result.arrays
    return {"result": dict(result)}, ()


def _refusal(code: str, detail: str) -> dict[str, Any]:
    return {"refused": {"code": code, "detail": detail}}


def _failure(error: Exception) -> dict[str, Any]:
    text = str(error)
    if "Insufficient memory" in text or "bad_alloc" in text:  # how OpenCV says it
        return _refusal("child_out_of_memory", text)
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    if isinstance(error, PermissionError):
        text += " (a child opens by name only what its caller grants by `reads` and `writes`)"
    code = getattr(error, "code", None)
    return {
        "failed": {
            "code": code if isinstance(code, str) else "child_failed",
            "message": str(getattr(error, "message", text)),
            "kind": kind,
            "trace": "".join(traceback.format_exception(error))[-6000:],
        }
    }


def _resolve(target: str, channel: Channel) -> Callable[[Mapping[str, Any]], Any]:
    module, _, name = target.partition(":")
    function = getattr(importlib.import_module(module), name)
    if function.__code__.co_argcount > 1:
        return lambda payload: function(payload, channel)
    return function  # type: ignore[no-any-return]


if __name__ == "__main__":
    sys.exit("This module is started by worker.media.forkserver.")
