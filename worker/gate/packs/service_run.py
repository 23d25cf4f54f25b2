"""A service outside of this house among the packs of a kind: asked when the looks of this house are done."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from worker.gate.looks.detectors import Seen
from worker.gate.looks.sampling import Sample
from worker.gate.packs.outside import Outside, OutsideError
from worker.gate.packs.standing import Standing
from worker.gate.upload import Upload

log = logging.getLogger(__name__)

_SLACK = 5.0  # seconds after the service's own deadline, for a thread that has just to say so


class ServiceRun:
    """One service on one upload; see `detectors.PackRun`. It gets the file, not the pictures."""

    def __init__(
        self, standing: Standing, outside: Outside | None, upload: Upload, *, may_leave: Callable[[], bool]
    ) -> None:
        """`standing` has a service; without `outside` it cannot be reached. `may_leave` is asked just before."""
        assert standing.service is not None
        self.standing, self._service, self._upload, self._outside = standing, standing.service, upload, outside
        self._may_leave = may_leave
        self._seen: Seen | None = None
        self._thread: threading.Thread | None = None

    def take(self, sample: Sample) -> None:
        """Nothing: the service looks by itself."""

    def start(self) -> None:
        """See `detectors.AskedRun.start`."""
        if self.standing.role == "refused":
            self._seen = Seen((), 0, self.standing.code)
        elif not self._may_leave():
            self._seen = Seen((), 0, "service_not_asked")
        elif self._outside is None:
            self._seen = Seen((), 0, "service_unreachable")
        else:
            # Its own deadline ends it; a process that has to end does not wait for it.
            self._thread = threading.Thread(target=self._ask, args=(self._outside,), name="service", daemon=True)
            self._thread.start()

    def finish(self) -> Seen:
        """What the service said, or why it said nothing."""
        if self._thread is not None and self._outside is not None:
            self._thread.join(self._outside.seconds + _SLACK)
        return self._seen or Seen((), 0, "timeout")

    def _ask(self, outside: Outside) -> None:
        try:
            answer = self._service.ask(outside, self._upload)
        except OutsideError as error:
            log.warning("The service %s gave no answer: %s [%s]", self._service.id, error, error.code)
            self._seen = Seen((), 0, error.code)
        except Exception:  # it runs in a thread of its own, where an error would pass unseen
            log.exception("The service %s could not be asked.", self._service.id)
            self._seen = Seen((), 0, "service_answer")
        else:
            found = answer.timeline or (((0.0, answer.score),) if answer.score is not None else ())
            self._seen = Seen(found, int(answer.score is None), score=answer.score, told=answer.told)
