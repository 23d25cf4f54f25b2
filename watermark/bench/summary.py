"""What the rows of a run add up to: rates with their intervals, fidelity, times; as values and as a table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median, quantiles
from typing import Any

from watermark.bench import goals
from watermark.bench.attack_kit import GROUPS
from watermark.bench.quality import wilson
from watermark.bench.suite import Row
from watermark.embedding import MarkMode

MODES: tuple[MarkMode, ...] = ("default", "durable")
_WORST = 6


@dataclass(frozen=True)
class Rate:
    """`hits` of `tries` were read, `wrong` ids were accepted; of the hits, `ours` were judged ours by their content."""

    hits: int
    tries: int
    wrong: int
    ours: int

    @property
    def percent(self) -> float:
        """Recovered, in per cent."""
        return 100 * self.hits / self.tries if self.tries else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval, in per cent."""
        low, high = wilson(self.hits, self.tries)
        return 100 * low, 100 * high

    @property
    def content_percent(self) -> float | None:
        """Judged ours, in per cent of what was read."""
        return 100 * self.ours / self.hits if self.hits else None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        low, high = self.interval
        return {
            "recovered_percent": round(self.percent, 2),
            "low_percent": round(low, 2),
            "high_percent": round(high, 2),
            "read": self.hits,
            "tries": self.tries,
            "wrong": self.wrong,
            "content_ours_percent": None if self.content_percent is None else round(self.content_percent, 2),
        }


def rate(rows: Iterable[Row]) -> Rate:
    """Count `rows`."""
    rows = list(rows)
    read = [row for row in rows if row.outcome == "read"]
    wrong = sum(row.outcome == "wrong" for row in rows)
    return Rate(len(read), len(rows), wrong, sum(row.content is True for row in read))


def rates(rows: Sequence[Row], by: str) -> dict[str, dict[MarkMode, Rate]]:
    """Rates by a field of the rows ("attack", "group", "kind", ...) and mode, in the order of first appearance."""
    cells: dict[str, dict[MarkMode, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        cells[getattr(row, by)][row.mode].append(row)
    return {name: {mode: rate(found) for mode, found in modes.items()} for name, modes in cells.items()}


def fidelity(rows: Sequence[Row]) -> dict[MarkMode, dict[str, float]]:
    """PSNR (dB) and SSIM of the marked pictures per mode: mean and worst."""
    result: dict[MarkMode, dict[str, float]] = {}
    for mode in MODES:
        seen = {row.picture: row for row in rows if row.mode == mode}.values()
        if seen:
            result[mode] = {
                "psnr_mean": fmean(row.psnr for row in seen),
                "psnr_min": min(row.psnr for row in seen),
                "ssim_mean": fmean(row.ssim for row in seen),
                "ssim_min": min(row.ssim for row in seen),
            }
    return result


def read_times(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Processor milliseconds of the reader by what it took to read, "none" where nothing was found."""
    by_effort: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        by_effort[row.spent or "none"].append(row.read_ms)
    return {
        effort: {
            "readings": len(times),
            "median_ms": median(times),
            "p95_ms": quantiles(times, n=20)[-1] if len(times) > 1 else times[0],
        }
        for effort in ("fast", "full", "deep", "none")
        if (times := by_effort.get(effort))
    }


def to_json(rows: Sequence[Row]) -> dict[str, Any]:
    """Everything the table shows, as plain values."""

    def plain(cells: dict[str, dict[MarkMode, Rate]]) -> dict[str, Any]:
        return {name: {mode: cell.to_json() for mode, cell in modes.items()} for name, modes in cells.items()}

    return {
        "pictures": len({row.picture for row in rows}),
        "fidelity": fidelity(rows),
        "all": {mode: rate(row for row in rows if row.mode == mode).to_json() for mode in modes_of(rows)},
        "groups": plain(rates(rows, "group")),
        "attacks": plain(rates(rows, "attack")),
        "kinds": plain(rates(rows, "kind")),
        "by_picture": plain(rates(rows, "picture")),
        "read_times": read_times(rows),
    }


def modes_of(rows: Sequence[Row]) -> list[MarkMode]:
    """The modes that occur, in their usual order."""
    return [mode for mode in MODES if any(row.mode == mode for row in rows)]


def _cell(found: Rate | None, least: float | None) -> str:
    if found is None:
        return " " * 27
    low, high = found.interval
    # Below the goal for sure, or only as far as so few pictures can tell.
    flag = " " if least is None or found.percent >= least else ("!" if high < least else "?")
    wrong = f" {found.wrong} WRONG" if found.wrong else ""
    return f"{found.percent:6.1f}{flag} [{low:5.1f},{high:6.1f}]{wrong}".ljust(27)


def table(rows: Sequence[Row]) -> str:
    """The table for the terminal: a line an attack, then groups and totals."""
    if not rows:
        return "No picture of those given can carry a mark; nothing was measured."
    modes = modes_of(rows)
    group_of = {row.attack: row.group for row in rows}
    lines = [
        f"{'group':<12}{'attack':<22}"
        + "".join(f"{mode + ' %   95 % interval':<27}" for mode in modes)
        + "content ours %"
    ]
    for attack, cells in rates(rows, "attack").items():
        group = group_of[attack]
        shown = "".join(_cell(cells.get(mode), goals.goal(attack, group, mode)) for mode in modes)
        lines.append(f"{group:<12}{attack:<22}{shown}{_content(cells, modes, goals.content_goal(attack))}")
    lines.append("")
    groups = rates(rows, "group")
    for name in GROUPS:
        if name in groups:
            least = goals.CHAIN_MEAN if name == "chain" else None
            shown = "".join(_cell(groups[name].get(mode), least and least[mode != "default"]) for mode in modes)
            lines.append(f"{name:<12}{'all of the group':<22}{shown}{_content(groups[name], modes)}")
    total = {mode: rate(row for row in rows if row.mode == mode) for mode in modes}
    shown = "".join(_cell(total[mode], goals.ALL_ATTACKS[mode != "default"]) for mode in modes)
    lines += [f"{'all':<12}{'':<22}{shown}{_content(total, modes)}", ""]
    for mode, found in fidelity(rows).items():
        place = mode != "default"
        mean = _flagged(f"{found['psnr_mean']:.2f} dB", found["psnr_mean"] >= goals.MEAN_PSNR[place])
        least_one = _flagged(f"{found['psnr_min']:.2f}", found["psnr_min"] >= goals.LEAST_PSNR[place])
        likeness = _flagged(f"{found['ssim_mean']:.4f}", found["ssim_mean"] >= goals.MEAN_SSIM[place])
        lines.append(f"{mode}: PSNR {mean} (least {least_one}), RGB-SSIM {likeness} (least {found['ssim_min']:.4f})")
    for effort, times in read_times(rows).items():
        what = "nothing found" if effort == "none" else f'read by "{effort}"'
        lines.append(
            f"{what}: {times['readings']:.0f} times, median {times['median_ms']:.0f} ms, "
            f"95 % within {times['p95_ms']:.0f} ms of processor time"
        )
    worst = sorted(rates(rows, "picture").items(), key=_all_modes)[:_WORST]
    missed = [f"{name} {_all_modes((name, cells)):.0f} %" for name, cells in worst if _all_modes((name, cells)) < 100]
    if missed:
        lines.append(f"pictures read least: {', '.join(missed)}")
    lines.append("! below the goal, ? below it but within chance for so few pictures")
    return "\n".join(line.rstrip() for line in lines)


def _all_modes(item: tuple[str, dict[MarkMode, Rate]]) -> float:
    return 100 * sum(cell.hits for cell in item[1].values()) / sum(cell.tries for cell in item[1].values())


def _flagged(said: str, reached: bool) -> str:
    return said if reached else f"{said} !"


def _content(cells: dict[MarkMode, Rate], modes: Sequence[MarkMode], least: float = 0.0) -> str:
    shares = [cells[mode].content_percent for mode in modes if mode in cells]
    return "  ".join("    - " if share is None else f"{share:5.1f}{' ' if share >= least else '!'}" for share in shares)
