"""The figures of a bench as a PNG file. matplotlib is asked for only here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

COLOURS: Final = ("#2563a8", "#c2571a", "#3c8d5a", "#7b5aa6", "#8a8a8a")


def available() -> bool:
    """Whether figures can be drawn here."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def bars(title: str, unit: str, series: Mapping[str, Mapping[str, float]], file: Path) -> None:
    """Write a figure of horizontal bars: for each name on the axis one bar a series. Raises OSError."""
    # Without pyplot: no window system is touched, and nothing is kept between figures.
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for values in series.values() for name in values))
    figure = Figure(figsize=(9.0, 1.6 + 0.3 * len(names) * max(1, len(series))), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=11)
    height = 0.8 / max(1, len(series))
    for number, (label, values) in enumerate(series.items()):
        places = [
            index + (number - (len(series) - 1) / 2) * height for index, name in enumerate(names) if name in values
        ]
        drawn = axes.barh(
            places, [values[name] for name in names if name in values], height * 0.92, label=label,
            color=COLOURS[number % len(COLOURS)],
        )  # fmt: skip
        axes.bar_label(drawn, fmt="%.3g", fontsize=8, padding=2)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.grid(True, axis="x", alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if len(series) > 1:
        axes.legend(fontsize=8)
    figure.savefig(file)
