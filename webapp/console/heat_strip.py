"""What a detector said over the time of a video, as a strip of cells: the stronger the colour, the more it found."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from webapp.console.evidence_rows import name, number

MOST_CELLS: Final = 120
WIDTH: Final = 1000.0  # of the drawing, in its own units
FAINTEST: Final = 0.06  # a cell that holds next to nothing is still seen
OLD: Final = 40.0  # estimated years from which a cell of ages is as faint as can be

Point = tuple[float, float]


@dataclass(frozen=True)
class Cell:
    """A stretch of time with the worst value in it. `x` and `width` in the drawing's units, `shade` 0..1."""

    at: str
    value: str
    x: str
    width: str
    shade: str
    over: bool


@dataclass(frozen=True)
class Strip:
    """One timeline, drawn and in words."""

    id: str
    title: str
    words: str
    begin: str
    end: str
    held: str
    cells: tuple[Cell, ...]


def strips(signals: Sequence[Mapping[str, Any]], key: str) -> list[Strip]:
    """A strip for each timeline of at least two moments in the signals; `key` makes their ids unique on the page."""
    found: list[Strip] = []
    for title, points, limit, younger in _timelines(signals):
        if len(points) > 1:
            found.append(_strip(f"{key}-strip-{len(found)}", title, points, limit, younger=younger))
    return found


def clock(seconds: float) -> str:
    """`0:07`, `12:30`, `1:02:03`."""
    whole = int(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def _timelines(signals: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[Point], float | None, bool]]:
    """(title, moments, from where it counts, whether less is worse) of each timeline."""
    for signal in signals:
        kind, value = str(signal.get("kind", "")), signal.get("value")
        if not isinstance(value, Mapping):
            continue
        younger = kind == "age"
        bands = value.get("bands") or []
        limit = _float(bands[-1 if younger else 0] if bands else value.get("review"))
        yield name(kind), _points(value.get("timeline")), limit, younger
        for pack in value.get("packs") or []:
            title = f"{name(kind)}: {pack.get('title') or pack.get('id')}"
            yield title, _points(pack.get("timeline")), _float(pack.get("review")), False
        for track in value.get("tracks") or []:
            yield f"{name(kind)}: person {track.get('track')}", _points(track.get("timeline")), limit, younger


def _points(raw: object) -> list[Point]:
    """Moments in order of time, from [seconds, score] or {"seconds", "score"}; what is neither is passed over."""
    found = []
    for each in raw if isinstance(raw, Sequence) and not isinstance(raw, str) else ():
        if isinstance(each, Mapping):
            pair = (each.get("seconds"), each.get("score"))
        else:
            pair = tuple(each) if isinstance(each, Sequence) and len(each) == 2 else (None, None)
        seconds, score = _float(pair[0]), _float(pair[1])
        if seconds is not None and score is not None:
            found.append((seconds, score))
    return sorted(found)


def _float(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _strip(key: str, title: str, points: list[Point], limit: float | None, *, younger: bool) -> Strip:
    worst = min if younger else max
    begin, end = points[0][0], points[-1][0]
    span = max(end - begin, 0.01)
    count = min(MOST_CELLS, len(points))
    parts: dict[int, list[Point]] = {}
    for seconds, score in points:
        parts.setdefault(min(int((seconds - begin) / span * count), count - 1), []).append((seconds, score))
    starts = sorted(parts)
    cells = []
    for place, number_ in enumerate(starts):
        seconds, score = worst(parts[number_], key=lambda point: point[1])
        following = starts[place + 1] if place + 1 < len(starts) else count
        cells.append(
            Cell(
                at=clock(seconds),
                value=number(score),
                x=f"{WIDTH * number_ / count:.1f}",
                width=f"{WIDTH * (following - number_) / count:.1f}",
                shade=f"{_shade(score, younger=younger):.2f}",
                over=_over(score, limit, younger=younger),
            )
        )
    at, extreme = worst(points, key=lambda point: point[1])
    many = sum(_over(score, limit, younger=younger) for _, score in points)
    sentence = f"{len(points)} moments from {clock(begin)} to {clock(end)}; "
    sentence += f"{'lowest' if younger else 'highest'} {number(extreme)} at {clock(at)}."
    held = ""
    if limit is not None:
        held = f"{'below' if younger else 'at or above'} {number(limit)}"
        sentence += f" {many} of them {held}."
    return Strip(key, title, sentence, clock(begin), clock(end), held, tuple(cells))


def _shade(score: float, *, younger: bool) -> float:
    strength = (OLD - score) / OLD if younger else score
    return FAINTEST + (1 - FAINTEST) * min(max(strength, 0.0), 1.0)


def _over(score: float, limit: float | None, *, younger: bool) -> bool:
    return limit is not None and (score < limit if younger else score >= limit)
