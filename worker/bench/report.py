"""What a bench found: rows held against what is required, tables to read, and both as JSON."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

Verdict = Literal["goal reached", "reached", "not reached", "not measured", ""]
Progress = Callable[[str, float], None]
"""Called with what is being done and how much of the whole is (0 to 1)."""

_HEAD: Final = ("", "measured", "required", "goal", "")


@dataclass(frozen=True)
class Row:
    """One number. `required` and `goal` are bounds: at least these with `more_is_better`, else at most.

    A row without `required` is shown and not judged. `measured` is None where it could not be measured, and `note`
    says why, or how to read the number.
    """

    name: str
    measured: float | None
    unit: str = ""
    required: float | None = None
    goal: float | None = None
    more_is_better: bool = False
    note: str = ""

    @property
    def verdict(self) -> Verdict:
        """Whether what is required was reached; nothing for a row that is only shown."""
        if self.required is None:
            return ""
        if self.measured is None or not math.isfinite(self.measured):
            return "not measured"
        if self.goal is not None and self._keeps(self.goal):
            return "goal reached"
        return "reached" if self._keeps(self.required) else "not reached"

    def _keeps(self, bound: float) -> bool:
        assert self.measured is not None
        return self.measured >= bound if self.more_is_better else self.measured <= bound

    def cells(self) -> tuple[str, ...]:
        """Name, measured, required, goal and verdict as text."""
        sign = "≥" if self.more_is_better else "≤"
        bounds = ["" if bound is None else f"{sign} {number(bound)}" for bound in (self.required, self.goal)]
        value = "-" if self.measured is None else f"{number(self.measured)} {self.unit}".rstrip()
        return self.name, value, *bounds, self.verdict


@dataclass(frozen=True)
class Table:
    """Figures to read beside the rows; the first column is text, the others are numbers or text."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str | float | None, ...], ...]

    def words(self) -> str:
        """The table as text."""
        body = [tuple(cell if isinstance(cell, str) else number(cell) for cell in line) for line in self.lines]
        return f"{self.title}\n{_aligned([self.columns, *body])}"


def place() -> dict[str, Any]:
    """Where and when: date, processor, cores that may be used, and the runtime."""
    import onnxruntime

    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "onnxruntime": onnxruntime.__version__,
    }


@dataclass
class Report:
    """All of one bench. `stages` are bars for the plot, in `unit`: values by stage, by the name of what was run."""

    bench: str
    unit: str = "processor milliseconds"
    rows: list[Row] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    stages: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    where: Mapping[str, Any] = field(default_factory=place)

    def words(self) -> str:
        """The report for a terminal."""
        parts = [f"bench {self.bench}: " + ", ".join(f"{key} {value}" for key, value in self.where.items())]
        if self.rows:
            parts.append(_aligned([_HEAD, *(row.cells() for row in self.rows)]))
            parts.append("\n".join(f"  {row.name}: {row.note}" for row in self.rows if row.note))
        parts += [table.words() for table in self.tables]
        parts += self.notes
        return "\n\n".join(part for part in parts if part)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able copy; every row says its verdict."""
        return {
            "bench": self.bench,
            "place": dict(self.where),
            "rows": [{**asdict(row), "verdict": row.verdict} for row in self.rows],
            "tables": [asdict(table) for table in self.tables],
            "stages": self.stages,
            "notes": self.notes,
        }


def number(value: float | None) -> str:
    """A number with as many digits as are worth reading; "-" for none."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return str(value)
    whole = value == round(value) or abs(value) >= 1000
    digits = 0 if whole else 1 if abs(value) >= 100 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}"


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    """Columns side by side, the first to the left and the others to the right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()
