"""How large a batch should be and how long to wait for it: arithmetic on measured times, without threads or a clock.

A batch of n takes L(n) seconds. On a GPU L grows far slower than n, on a CPU core nearly as fast, and no model tells
beforehand; so both sizes and waits follow from what was measured, and an unknown model begins with single runs.
"""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from worker.inference.types import Service

RUNGS: Final = (1, 2, 4, 8, 16, 32)  # the sizes that are compared; a batch that lacks items may have any size below
LEAST_GAIN: Final = 0.05  # a larger batch must save this share per item to be worth its latency
LONGEST_RUN: Final = 0.5  # seconds; a longer run would keep an interactive one from the device for too long
_SAMPLES: Final = 3  # runs of a size before it is judged
_PROBE_EVERY: Final = 64  # runs between two looks at the size above the chosen one
_WEIGHT: Final = 0.2  # of the newest measurement
_SLACK: Final = 0.0005  # seconds that a batch is closed earlier than needed, so that the device never waits for it
_LONGEST_GAP: Final = 1.0  # seconds; a longer pause says nothing about the rhythm of arrivals


@dataclass(frozen=True)
class ServiceLimits:
    """The bounds of a service class: items of a batch, and seconds an item may wait beside an idle device."""

    most: int
    wait: float


LIMITS: Final[Mapping[Service, ServiceLimits]] = MappingProxyType(
    {"interactive": ServiceLimits(4, 0.005), "offline": ServiceLimits(32, 0.020)}
)


class LatencyCurve:
    """Seconds of a run by batch size, as measured lately."""

    def __init__(self) -> None:
        self._sizes: list[int] = []
        self._seconds: dict[int, float] = {}
        self._samples: dict[int, int] = {}

    def add(self, size: int, seconds: float) -> None:
        """Take in one measured run."""
        samples = self._samples.get(size, 0)
        if not samples:
            self._sizes.insert(bisect_left(self._sizes, size), size)
            self._seconds[size] = seconds
        elif samples == 1:  # the first run of a size also pays for memory and the choice of kernels
            self._seconds[size] = min(self._seconds[size], seconds)
        else:
            self._seconds[size] += _WEIGHT * (seconds - self._seconds[size])
        self._samples[size] = samples + 1

    def settled(self, size: int) -> bool:
        """Whether this very size was measured often enough to be judged."""
        return self._samples.get(size, 0) >= _SAMPLES

    def predict(self, size: int) -> float | None:
        """Seconds of a run of `size` items: measured, else on the line through the nearest two sizes; None: unknown.

        Beyond a single known size the time is taken as proportional, so nothing is promised that was not seen.
        """
        if size in self._seconds:
            return self._seconds[size]
        if not self._sizes:
            return None
        if len(self._sizes) == 1:
            (known,) = self._sizes
            return self._seconds[known] * size / known
        upper = min(max(bisect_left(self._sizes, size), 1), len(self._sizes) - 1)
        low, high = self._sizes[upper - 1], self._sizes[upper]
        slope = max(0.0, (self._seconds[high] - self._seconds[low]) / (high - low))
        return max(0.0, self._seconds[low] + slope * (size - low))

    def measured(self) -> dict[int, float]:
        """Seconds by batch size of all sizes seen so far."""
        return {size: self._seconds[size] for size in self._sizes}


class ModelPolicy:
    """The controller of one model: its curve, the rhythm of its arrivals, and the largest batch that has room."""

    def __init__(self, most: int) -> None:
        """`most` is 1 for a graph with a fixed batch."""
        self.curve: Final = LatencyCurve()
        self.most = most
        self._runs = 0
        self._gap: dict[Service, float] = {}
        self._last: dict[Service, float] = {}

    def arrived(self, service: Service, now: float) -> None:
        """An item, or several at once, came in."""
        last = self._last.get(service)
        self._last[service] = now
        if last is not None:
            gap = min(now - last, _LONGEST_GAP)
            self._gap[service] = self._gap.get(service, gap) + _WEIGHT * (gap - self._gap.get(service, gap))

    def ran(self, size: int, seconds: float) -> None:
        """A batch of `size` items took `seconds` of its device."""
        self._runs += 1
        self.curve.add(size, seconds)

    def ran_out_of_memory(self, size: int) -> None:
        """A batch of `size` items had no room: from now on at most half as many."""
        self.most = min(self.most, max(1, size // 2))

    def target(self, service: Service) -> int:
        """The size at which waiting for more items stops paying: climbs while a larger batch costs less per item."""
        most = min(self.most, LIMITS[service].most)
        best = 1
        for rung in RUNGS[1:]:
            if rung > most or not self.curve.settled(best):
                break
            expected = self.curve.predict(rung)
            if expected is None or expected > LONGEST_RUN:
                break
            if not self.curve.settled(rung):
                return rung  # nothing speaks against it, so it is measured
            here = self.curve.predict(best)
            if here is None or expected / rung > (1 - LEAST_GAIN) * here / best:
                return rung if self._runs % _PROBE_EVERY == 0 else best  # things change: look again at times
            best = rung
        return best

    def delay(
        self, service: Service, now: float, queued: int, oldest: float, *, free_in: float = 0.0, assembly: float = 0.0
    ) -> float:
        """Seconds for which a batch of the `queued` items should still be kept open; 0 means close it now.

        `oldest` is when the first of them came, `free_in` the seconds until the device has nothing to do, `assembly`
        the seconds it takes to put the batch together. A busy device makes waiting free, so the batch stays open
        until it is only just in time. An idle one makes waiting cost what the device does not do meanwhile: it
        pays as long as the next item is expected sooner than what joining it to this run would save.
        """
        target = self.target(service)
        if free_in > 0:
            # A full batch can gain nothing more, so it need not be cut so fine.
            early = 0.5 * (self.curve.predict(target) or 0.0) if queued >= target else 0.0
            return max(0.0, free_in - assembly - _SLACK - early)
        gap = self._gap.get(service)
        saved = self._saved_by_one_more(queued)
        if queued >= target or gap is None or gap >= saved:
            return 0.0
        last = self._last[service]
        # Twice the usual gap without an arrival: the burst is over.
        until = min(oldest + LIMITS[service].wait, last + saved, last + 2 * gap)
        return max(0.0, until - now)

    def _saved_by_one_more(self, size: int) -> float:
        curve = self.curve
        alone, now, then = curve.predict(1), curve.predict(size), curve.predict(size + 1)
        return 0.0 if alone is None or now is None or then is None else alone + now - then
