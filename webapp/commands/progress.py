"""A progress bar for the terminal; plain lines where the output is not one (CI logs, pipes)."""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType
from typing import Self, TextIO

REFRESH_SECONDS = 0.1


class ProgressBar:
    """Shows one line that fills up: `[#####.....] 52 % swapping, 63/125 frames`.

    On something that is not a terminal it prints a line whenever the words change, so that a log stays short.
    """

    def __init__(self, title: str, stream: TextIO | None = None) -> None:
        self.title = title
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self._last = ""
        self._drawn = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def clear(self) -> None:
        """Take the bar off the terminal, so that a line can be written; the next `show` draws it again."""
        if self.live and self._last:
            self.stream.write("\r\033[K")
            self.stream.flush()
            self._drawn = 0.0

    def show(self, words: str, fraction: float) -> None:
        """Draw the bar at `fraction` (0 to 1) with `words` behind it."""
        fraction = min(max(fraction, 0.0), 1.0)
        now = time.monotonic()
        if self.live:
            if now - self._drawn < REFRESH_SECONDS and fraction < 1.0:
                return
            filled = round(24 * fraction)
            line = f"{self.title} [{'#' * filled}{'.' * (24 - filled)}] {fraction:4.0%} {words}"
            self.stream.write("\r\033[K" + line[: shutil.get_terminal_size().columns - 1])
            self.stream.flush()
            self._drawn, self._last = now, words
        elif words != self._last:
            self.stream.write(f"{self.title}: {words}\n")
            self.stream.flush()
            self._last = words
