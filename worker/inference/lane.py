"""The state of one device as the batcher sees it: what runs on it, when it will be free, and how busy it was."""

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

_WINDOW: Final = 60.0  # seconds over which the busy share is told


@dataclass(frozen=True)
class LaneShape:
    """How a device takes runs. `serial`: one after the other, `width` of them handed in; else `width` at a time."""

    width: int
    serial: bool

    @property
    def threads(self) -> int:
        """Threads that serve it; one more on a serial device, to hand results out while two batches are in flight."""
        return self.width + self.serial


class Lane:
    """All methods with the batcher's lock held, which the conditions share."""

    def __init__(self, shape: LaneShape, lock: threading.Lock) -> None:
        self.shape: Final = shape
        self.watched = False  # whether a thread waits on `changed`
        self.turn: Final = threading.Condition(lock)  # for the threads that do not watch the queues
        self.changed: Final = threading.Condition(lock)  # for the one that does
        self._timed = False  # whether it will look again by itself
        self._running: deque[tuple[int, float]] = deque()  # identity of a batch, expected seconds
        self._head_began = 0.0
        self._last_end = 0.0
        self._busy = 0.0
        self._first: float | None = None
        self._recent: deque[tuple[float, float]] = deque()  # (end, busy seconds), at most one entry per half second

    @property
    def in_flight(self) -> int:
        """Batches that were closed and whose run has not ended."""
        return len(self._running)

    @property
    def room(self) -> int:
        """Batches that may still be closed now."""
        return self.shape.width - len(self._running)

    def free_in(self, now: float) -> float:
        """Seconds until a serial device has nothing to do; 0 for one that takes runs side by side."""
        if not self.shape.serial or not self._running:
            return 0.0
        return max(0.0, self._head_began + sum(expected for _, expected in self._running) - now)

    def wait(self, delay: float | None) -> None:
        """Wait, as the thread that watches, for so many seconds or a call of `came`."""
        self._timed = delay is not None
        self.changed.wait(delay)

    def came(self) -> None:
        """Something was queued, or room was made: wake a thread, if there is anything for it to decide now."""
        if not self.room:
            return  # the end of a run will ask again
        if not self.watched:
            self.turn.notify()
        elif not (self._timed and self.shape.serial and self._running):
            # On a busy device the thread looks again just before it is free, which is early enough.
            self.changed.notify()

    def begin(self, batch: object, expected: float, now: float) -> None:
        """A batch was closed; its run is expected to take so many seconds."""
        if not self._running:
            self._head_began = now
        if self._first is None:
            self._first = now
        self._running.append((id(batch), expected))

    def end(self, batch: object, now: float) -> None:
        """The run of a batch that `begin` was told of ended."""
        self._running = deque(entry for entry in self._running if entry[0] != id(batch))
        self._head_began = now

    def computed(self, start: float, end: float) -> float:
        """Account a run that was handed in at `start` and ended at `end`: the seconds the device worked on it."""
        seconds = end - (max(start, self._last_end) if self.shape.serial else start)
        self._last_end = max(self._last_end, end)
        busy = seconds if self.shape.serial else seconds / self.shape.width
        self._busy += busy
        if self._recent and end - self._recent[-1][0] < 0.5:
            busy += self._recent.pop()[1]
        self._recent.append((end, busy))
        while end - self._recent[0][0] > _WINDOW:
            self._recent.popleft()
        return max(0.0, seconds)

    def status(self, now: float) -> dict[str, Any]:
        """Plain values: in_flight, busy_seconds since the start, busy_share of the last minute."""
        window = min(_WINDOW, now - self._first) if self._first is not None else 0.0
        recent = sum(busy for end, busy in self._recent if now - end <= window)
        return {
            "in_flight": len(self._running),
            "width": self.shape.width,
            "busy_seconds": round(self._busy, 6),
            "busy_share": round(min(1.0, recent / window), 4) if window > 0 else 0.0,
        }

    def wake_all(self) -> None:
        """Make every thread look again."""
        self.turn.notify_all()
        self.changed.notify_all()
