"""A service outside of this house among the packs of a kind: asked while pictures are looked at, heard at the end."""

from __future__ import annotations

import logging
import threading

from worker.gate.detectors import Seen
from worker.gate.outside import Outside, OutsideError, Upload
from worker.gate.pack_store import Standing
from worker.gate.sampling import Sample

log = logging.getLogger(__name__)

_SLACK = 5.0  # seconds after the service's own deadline, for a thread that has just to say so


class ServiceRun:
    """One service on one upload; see `detectors.PackRun`. It gets the file, not the pictures."""

    def __init__(self, standing: Standing, outside: Outside | None, upload: Upload) -> None:
        """`standing` has a service; without `outside` it cannot be reached."""
        assert standing.service is not None
        self.standing, self._service, self._upload, self._outside = standing, standing.service, upload, outside
        self._seen: Seen | None = None
        self._thread: threading.Thread | None = None
        if standing.role == "refused":
            self._seen = Seen((), 0, standing.code)
        elif outside is None:
            self._seen = Seen((), 0, "service_unreachable")
        else:
            # Its own deadline ends it; a process that has to end does not wait for it.
            self._thread = threading.Thread(target=self._ask, args=(outside,), name="service", daemon=True)
            self._thread.start()

    def take(self, sample: Sample) -> None:
        """Nothing: the service looks by itself."""

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
