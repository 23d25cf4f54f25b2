"""Run one function of ours on untrusted media in a fresh, limited process, and survive whatever becomes of it.

The process is forked by `worker.media.forkserver`, which has the libraries loaded and has seen no media.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Self

from worker.media import forkserver
from worker.media.confine import Limits
from worker.media.errors import CODES, ChildError, MediaError
from worker.media.folders import PrivateFolder
from worker.media.wire import Link, WireError

__all__ = ["Child", "Limits", "call", "isolation", "processor_seconds"]

_ROOT: Final = Path(__file__).resolve().parents[2]
_CODE: Final = ("worker", "watermark")  # the only rooms of the house a child reads
_GRACE_SECONDS: Final = 0.6
"""How long a child that was asked to stop may take to clean up before it is killed."""
_TICK_SECONDS: Final = 0.25


class Child:
    """One running media child. Use as a context manager: leaving it kills the process and removes its folder.

    `reads` and `writes` are the paths it may open by name, besides interpreter, libraries and our code; a descriptor
    in `fds` works whatever its path. `compiled` is a folder for the machine code of compiled loops, which the fork
    server loads or makes before the child is forked; no child may write there. The child is killed when the process
    that started it ends.
    """

    def __init__(
        self,
        target: str,
        payload: Mapping[str, Any],
        *,
        fds: Sequence[int] = (),
        limits: Limits | None = None,
        reads: Sequence[Path] = (),
        writes: Sequence[Path] = (),
        compiled: Path | None = None,
    ) -> None:
        limits = limits or Limits()
        self._folder = PrivateFolder()
        folder = str(self._folder.path)
        ours, theirs = socket.socketpair()
        self._link = Link(ours)
        self._log = self._folder.path / "stderr"
        self.result: dict[str, Any] | None = None
        try:
            with theirs, self._log.open("wb") as log:
                self._process = forkserver.SERVER.start(
                    target,
                    link=theirs.fileno(),
                    log=log.fileno(),
                    fds=fds,
                    folder=folder,
                    environment=_environment(folder, limits.threads),
                    compiled=compiled,
                )
            self._link.send(
                {
                    "target": target,
                    "payload": dict(payload),
                    "limits": asdict(limits),
                    "reads": [str(_ROOT / room) for room in _CODE] + [str(path) for path in reads],
                    "writes": [folder, *map(str, writes)],
                }
            )
        except BaseException as error:
            self.close()
            if isinstance(error, BrokenPipeError | forkserver.ForkServerError):
                raise MediaError("child_died", f"The child ended before it was told what to do. {error}") from error
            raise

    @property
    def pid(self) -> int:
        """Process id; it is also the id of the child's own session and process group."""
        return self._process.pid

    def grant(self, count: int = 1) -> None:
        """Tell the child that `count` more of its messages may come (`Channel.wait_for_credit`)."""
        with suppress(OSError):
            self._link.send({"credit": count})

    def order(self, wish: Mapping[str, Any]) -> None:
        """Tell the child what is wanted next (`Channel.next_order`)."""
        with suppress(OSError):
            self._link.send({"order": dict(wish)})

    def ask(self, target: str, payload: Mapping[str, Any], timeout: float) -> dict[str, Any]:
        """Have a child that serves calls (`worker.media.child:serve_calls`) run a function, and return its result.

        Errors as `messages`; a child that refused or failed can be asked again, one that died cannot.
        """
        self.order({"target": target, "payload": dict(payload)})
        for answer in self.messages(timeout):
            return answer
        raise MediaError("child_died", "no answer")

    def messages(self, timeout: float, should_stop: Callable[[], bool] | None = None) -> Iterator[dict[str, Any]]:
        """Yield the child's messages until it is done; `result` is set afterwards.

        Arrays of a message or result stand under its key "arrays". Raises MediaError (the child's own refusal,
        `child_died`, `child_timeout`, `child_out_of_memory`, `canceled`) or ChildError for another package's error.
        """
        deadline = time.monotonic() + timeout
        stop_at: float | None = None
        poll = select.poll()
        poll.register(self._link.fileno(), select.POLLIN)
        while True:
            now = time.monotonic()
            if now > deadline:
                self.kill()
                raise MediaError("child_timeout", f"no answer within {timeout:g} s")
            if stop_at is None and should_stop is not None and should_stop():
                stop_at = now + _GRACE_SECONDS
                with suppress(OSError):
                    self._link.send({"stop": True})
            if stop_at is not None and now > stop_at:
                self.kill()
                raise MediaError("canceled")
            try:
                received = self._link.buffered()
                if received is None:
                    if not poll.poll(_TICK_SECONDS * 1000):
                        continue
                    received = self._link.receive()
            except (OSError, EOFError):
                raise self._death() from None
            except WireError as error:
                self.kill()
                raise MediaError("child_died", f"protocol: {error}") from error
            if received is None:
                continue
            message, arrays = received
            if "done" in message:
                if self.result is None:
                    raise MediaError("child_died", "done without a result")
                return
            body = self._take(message)
            if arrays:
                body["arrays"] = arrays
            if "result" in message:
                self.result = body
            else:
                yield body

    def kill(self) -> None:
        """End the child and whatever it started, now."""
        self._process.kill()
        with suppress(TimeoutError):
            self._process.wait(5)

    def close(self) -> None:
        """Kill the child if it still runs, and remove its folder."""
        if hasattr(self, "_process"):
            self.kill()
            self._process.close()
        self._link.close()
        self._folder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def _take(message: Mapping[str, Any]) -> dict[str, Any]:
        if "refused" in message:
            code = str(message["refused"]["code"])
            raise MediaError(code if code in CODES else "child_failed", str(message["refused"]["detail"]))
        if "failed" in message:
            failed = message["failed"]
            raise ChildError(str(failed["code"]), str(failed["message"]), str(failed["kind"]), str(failed["trace"]))
        body = message.get("result", message.get("message"))
        if not isinstance(body, dict):
            raise MediaError("child_died", "a message without a body")
        return body

    def _death(self) -> MediaError:
        try:
            code = self._process.wait(5)
        except TimeoutError:
            self.kill()
            return MediaError("child_died", "closed its connection and hung")
        tail = ""
        with suppress(OSError):
            tail = self._log.read_bytes()[-2000:].decode(errors="replace")
        if code == -signal.SIGXCPU:
            return MediaError("child_timeout", "processor time used up")
        if any(word in tail for word in ("MemoryError", "bad_alloc", "Cannot allocate memory", "out of memory")):
            return MediaError("child_out_of_memory", tail)
        return MediaError("child_died", f"exit status {code}: {tail}")


def call(
    target: str,
    payload: Mapping[str, Any],
    *,
    fds: Sequence[int] = (),
    limits: Limits | None = None,
    timeout: float,
    on_message: Callable[[Mapping[str, Any]], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    reads: Sequence[Path] = (),
    writes: Sequence[Path] = (),
    compiled: Path | None = None,
) -> dict[str, Any]:
    """Run `target` ("package.module:function") on `payload` in a fresh limited process and return its result.

    The function gets the payload, and a `worker.media.child.Channel` if it takes a second argument; it returns a
    JSON-able mapping or a `Reply` with arrays, which come back under "arrays". `timeout` is in seconds of wall clock;
    `should_stop` is asked four times a second. Errors: see `Child.messages`.
    """
    with Child(target, payload, fds=fds, limits=limits, reads=reads, writes=writes, compiled=compiled) as child:
        for message in child.messages(timeout, should_stop):
            if on_message is not None:
                on_message(message)
        if child.result is None:
            raise MediaError("child_died", "no result")
        return child.result


def processor_seconds() -> float:
    """Processor time that media children of this process used so far, with their start; for benchmarks.

    A fork server that had to be replaced is no longer counted.
    """
    return forkserver.SERVER.seconds


def isolation() -> dict[str, Any]:
    """Start a child and report what the kernel granted of the isolation (see `confine`), and its start in seconds."""
    begin = time.monotonic()
    granted = call("worker.media.child:report_isolation", {}, timeout=30)
    return {**granted, "start_seconds": round(time.monotonic() - begin, 3)}


def _environment(folder: str, threads: int) -> dict[str, str]:
    # Nothing else is inherited: the task process holds secrets in its environment.
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": folder,
        "TMPDIR": folder,
        "OMP_NUM_THREADS": str(threads),
        **({} if chosen is None else {"CUDA_VISIBLE_DEVICES": chosen}),
    }
