"""The figures of a run as PNG files. matplotlib is asked for only here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from watermark.bench import summary
from watermark.bench.attack_kit import GROUPS
from watermark.bench.negatives import Negative
from watermark.bench.quality import wilson
from watermark.bench.suite import Row
from watermark.embedding import MarkMode

COLOURS: dict[MarkMode, str] = {"default": "#2563a8", "durable": "#c2571a"}


def available() -> bool:
    """Whether figures can be drawn here."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def _axes(title: str, width: float = 8.0) -> tuple[Any, Any]:
    # Without pyplot: no window system is touched, and nothing is kept between figures.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 4.2), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(True, alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def by_group(rows: Sequence[Row], file: Path) -> None:
    """Recovery of each group in each mode, with 95 % intervals."""
    figure, axes = _axes("Full id read, per group of attacks (95 % intervals)")
    found = summary.rates(rows, "group")
    groups = [group for group in GROUPS if group in found]
    modes = summary.modes_of(rows)
    for place, mode in enumerate(modes):
        cells = [found[group][mode] for group in groups]
        shares = np.array([cell.percent for cell in cells])
        low, high = np.array([cell.interval for cell in cells]).T
        x = np.arange(len(groups)) + (place - (len(modes) - 1) / 2) * 0.36
        axes.bar(x, shares, 0.34, color=COLOURS[mode], label=mode)
        axes.errorbar(x, shares, [shares - low, high - shares], fmt="none", ecolor="#222222", capsize=3, lw=1)
    axes.set_xticks(np.arange(len(groups)), groups)
    axes.set_ylabel("recovered, %")
    axes.set_ylim(min(90.0, *(cell.interval[0] for cells in found.values() for cell in cells.values())) - 2, 100.5)
    axes.legend(loc="lower left")
    figure.savefig(file)


def against_psnr(rows: Sequence[Row], sweep: Mapping[float, Sequence[Row]], file: Path) -> None:
    """Recovery against fidelity: runs aimed at several PSNRs where given, else the pictures binned by their own."""
    if sweep:
        figure, axes = _axes("Full id read against PSNR, runs aimed at several values")
        for group in (*GROUPS, None):
            points = []
            for _, found in sorted(sweep.items()):
                part = [row for row in found if group in (None, row.group)]
                if part:
                    points.append((np.mean([row.psnr for row in part]), summary.rate(part).percent))
            if points:
                x, y = zip(*points, strict=True)
                line = {"color": "black", "lw": 2.5} if group is None else {"lw": 1.2}
                axes.plot(x, y, marker="o", ms=4, label=group or "all", **line)
        axes.legend(loc="lower left", fontsize=8)
    else:
        figure, axes = _axes("Full id read against the PSNR each picture came out with")
        for mode in summary.modes_of(rows):
            own = [row for row in rows if row.mode == mode]
            edges = np.unique(np.floor([row.psnr for row in own]))
            for edge in edges:
                part = [row for row in own if np.floor(row.psnr) == edge]
                hits = sum(row.outcome == "read" for row in part)
                low, high = wilson(hits, len(part))
                share = hits / len(part)
                axes.errorbar(
                    float(np.mean([row.psnr for row in part])),
                    100 * share,
                    [[100 * (share - low)], [100 * (high - share)]],
                    fmt="o",
                    color=COLOURS[mode],
                    capsize=3,
                    label=mode if edge == edges[0] else None,
                )
        axes.legend(loc="lower left")
    axes.set_xlabel("PSNR of the marked picture, dB")
    axes.set_ylabel("recovered, %")
    figure.savefig(file)


def false_alarm_curve(rows: Sequence[Row], negatives: Sequence[Negative], file: Path) -> None:
    """Share of checks whose best lock reaches a value: pictures without a mark of ours, and readings of ours."""
    figure, axes = _axes("Locks of pictures without our mark, and of accepted readings")
    kinds = (
        ("no mark at all", [one.best for one in negatives if not one.foreign], "#777777"),
        ("marked under another key", [one.best for one in negatives if one.foreign], "#b03060"),
        ("accepted readings of ours", [row.score for row in rows if row.outcome == "read" and row.score], "#2563a8"),
    )
    for name, scores, colour in kinds:
        if scores:
            x = np.sort(np.array(scores, float))
            axes.step(x, 1 - np.arange(len(x)) / len(x), where="post", color=colour, label=f"{name} ({len(x)})")
    axes.set_yscale("log")
    axes.set_xlabel("lock, standard deviations")
    axes.set_ylabel("share at least as high")
    axes.legend(loc="upper right", fontsize=8)
    accepted = sum(one.accepted for one in negatives)
    axes.text(
        0.01, 0.03, f"accepted of {len(negatives)} negatives: {accepted}; the keyed check decides, not the lock",
        transform=axes.transAxes, fontsize=8,
    )  # fmt: skip
    figure.savefig(file)
