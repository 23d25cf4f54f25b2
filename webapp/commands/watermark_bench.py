"""`manage.py bench watermark`: a run from its options to tables, JSON and a folder of figures."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from watermark.bench import negatives as hard_negatives
from watermark.bench import plots, report, security, speed, summary, video_cases
from watermark.bench.attacks import ATTACKS, GROUPS, Attack, chosen
from watermark.bench.clips import CLIPS
from watermark.bench.corpus import LEAST_FILE_SIDE, Picture, corpus
from watermark.bench.suite import Row, bench_keys, run_parallel, warm_up
from watermark.embedding import MarkMode
from watermark.keys import MarkKey
from webapp.commands.progress import ProgressBar

_PARTS = ("negatives", "collusion", "copy", "speed", "video", "sweep")


def run(options: dict[str, Any]) -> Iterator[str]:
    """Do what the options (see watermark_options) ask for; gives the texts to print. Raises CommandError."""
    if options["list"]:
        yield "\n".join(f"{one.group:<12} {one.name:<22} {one.what}" for one in ATTACKS.values())
        yield "\n".join(f"{'video':<12} {one.name:<22} {one.what}" for one in video_cases.CASES.values())
        return
    if options["out"] and not plots.available():
        raise CommandError(
            "Figures need matplotlib, which is not installed. Nothing was measured. "
            "Install it (pip install matplotlib), or leave out --out."
        )
    if options["out"]:
        _make_folder(options["out"])
    for number in ("limit", "negatives", "collusion", "tries", "keys", "jobs"):
        if options[number] is not None and options[number] < 1:
            raise CommandError(f"--{number} takes a number from 1 up, not {options[number]}. Nothing was measured.")
    index = None
    with ProgressBar("bench") as bar:
        findings = _Run(options, bar)
        findings.measure()
        if options["out"]:
            bar.show("drawing the report", 1.0)
            index = findings.report(options["out"])
    yield json.dumps(findings.values, indent=1) if options["json"] else "\n\n".join(findings.words)
    if index and not options["json"]:
        yield f"\nFigures and difference pictures: {index}"


@dataclass
class _Run:
    """What a run measures and came to: `values` for JSON, `words` for people."""

    options: dict[str, Any]
    bar: ProgressBar
    values: dict[str, Any] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    negatives: list[hard_negatives.Negative] = field(default_factory=list)
    swept: dict[float, list[Row]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        mode = self.options["mode"]
        self.modes: list[MarkMode] = list(summary.MODES) if mode == "both" else [mode]
        self.attacks = _attacks(self.options)
        self.cases = _cases(self.options)
        self.pictures = _pictures(self.options)
        self.values["run"] = {
            "seed": self.options["seed"],
            "effort": self.options["effort"],
            "keys": self.options["keys"],
            "modes": self.modes,
            "role": "tune" if self.options["tune"] else "report",
            "pictures": [picture.name for picture in self.pictures],
        }

    def measure(self) -> None:
        """Measure the parts asked for, the suite if none is."""
        options = self.options
        alone = any(options[part] not in (None, False) for part in _PARTS)
        if not alone or options["attacks"] or options["groups"]:
            self.suite()
        if options["sweep"]:
            self.sweep()
        if options["negatives"]:
            self.check_negatives()
        if options["collusion"] or options["copy"]:
            # These parts run in this process.
            warm_up(bench_keys(options["keys"]))
        if options["collusion"]:
            self.collusion()
        if options["copy"]:
            self.copy()
        if options["speed"]:
            self.speed()
        if options["video"] is not None:
            self.video()

    def suite(self) -> None:
        """Every attack on every picture in every mode."""
        self.rows = self._rows("suite", self.modes, None)
        unmarkable = sorted({picture.name for picture in self.pictures} - {row.picture for row in self.rows})
        words = summary.table(self.rows)
        if unmarkable:
            words += f"\nleft out, since they cannot carry a mark: {', '.join(unmarkable)}"
        self._add("suite", {**summary.to_json(self.rows), "unmarkable": unmarkable}, words)

    def _rows(self, what: str, modes: Sequence[MarkMode], target_db: float | None) -> list[Row]:
        units = len(self.pictures) * len(modes)
        rows: list[Row] = []
        self.bar.show(f"{what}: {len(self.pictures)} pictures, {len(self.attacks)} attacks", 0.0)
        found = run_parallel(
            self.pictures,
            self.attacks,
            modes,
            seed=self.options["seed"],
            effort=self.options["effort"],
            jobs=self.options["jobs"],
            keys=self.options["keys"],
            target_db=target_db,
        )
        for done, more in enumerate(found, 1):
            rows += more
            name = more[0].picture if more else "left one out"
            self.bar.show(f"{what}: {name}, {done}/{units}", done / units)
        # As they come, rows depend on which process was quicker.
        order = {attack.name: place for place, attack in enumerate(self.attacks)}
        names = {picture.name: place for place, picture in enumerate(self.pictures)}
        return sorted(rows, key=lambda row: (names[row.picture], row.mode, order[row.attack]))

    def sweep(self) -> None:
        """The suite at other PSNRs."""
        lines, values = ["aimed at, dB   PSNR, dB   recovered, %"], {}
        for decibels in self.options["sweep"]:
            rows = self._rows(f"sweep {decibels:g} dB", ["default"], decibels)
            if not rows:
                continue
            self.swept[decibels] = rows
            found, mean = summary.rate(rows), summary.fidelity(rows)["default"]["psnr_mean"]
            lines.append(f"{decibels:12.1f}{mean:11.2f}{found.percent:15.2f}")
            values[f"{decibels:g}"] = {**found.to_json(), "psnr_mean": mean}
        self._add("sweep", values, "\n".join(lines))
        if not self.rows and self.swept:
            self.rows = self.swept[self.options["sweep"][0]]

    def check_negatives(self) -> None:
        """False alarms."""
        count = self.options["negatives"]
        self.bar.show(f"negatives: {count} from seed {self.options['seed_from']}", 0.0)
        found = hard_negatives.run_negatives(
            self.pictures,
            count,
            seed_from=self.options["seed_from"],
            effort=self.options["effort"],
            jobs=self.options["jobs"],
            keys=self.options["keys"],
        )
        for done, one in enumerate(found, 1):
            self.negatives.append(one)
            if done % max(1, count // 50) == 0 or done == count:
                self.bar.show(f"negatives: {done}/{count}", done / count)
        alarms = hard_negatives.false_alarms(self.negatives)
        last = self.options["seed_from"] + count - 1
        lines = [
            f"{alarms.checks} negatives (seeds {self.options['seed_from']} to {last}), "
            f"{alarms.foreign} of them with another key's mark",
            f"accepted: {alarms.accepted}",
            f"attempts to decode: {alarms.attempts / alarms.checks:.2f} a check, at most {alarms.most_attempts}; "
            f"false-alarm bound 1e{alarms.bound_log10:.2f} a check",
            f"best lock: {alarms.best:.1f} deviations; reading takes {alarms.mean_read_ms:.0f} ms on average",
            "best lock of a check: " + ", ".join(f"{edge:g}: {count}" for edge, count in alarms.histogram),
        ]
        found_ones = [one.seed for one in self.negatives if one.accepted]
        if found_ones:
            lines.append(f"FALSE ALARMS at the seeds {found_ones}")
        self._add("negatives", {**alarms.to_json(), "seed_from": self.options["seed_from"]}, "\n".join(lines))

    def collusion(self) -> None:
        """Averages of many outputs."""
        outputs, tries = self.options["collusion"], self.options["tries"]
        values, lines = [], [f"averaging {outputs} outputs, then notching what stands out"]
        lines.append(f"{'mode':<10}{'averaged':<18}{'bins':>7}{'still read':>14}{'PSNR lost to':>14}")
        for place, mode in enumerate(self.modes):
            self.bar.show(f"collusion, {mode}", place / len(self.modes))
            for one in security.collusion(self.pictures, self._keys, mode, outputs=outputs, tries=tries, **self._how):
                values.append(one.to_json())
                read = f"{one.still_read}/{one.tries}"
                lines.append(f"{mode:<10}{one.method:<18}{one.bins:>7}{read:>14}{one.lost_db:>11.1f} dB")
        self._add("collusion", values, "\n".join(lines))

    def copy(self) -> None:
        """Marks laid on other pictures."""
        values, lines = [], ["marks taken off one picture and laid on another"]
        lines.append(f"{'mode':<10}{'method':<24}{'mark read':>10}{'judged ours':>13}{'PSNR':>9}")
        for place, mode in enumerate(self.modes):
            self.bar.show(f"copy, {mode}", place / len(self.modes))
            for one in security.copies(self.pictures, self._keys, mode, tries=self.options["tries"], **self._how):
                values.append(one.to_json())
                read, ours = f"{one.read}/{one.tries}", f"{one.ours}/{one.tries}"
                lines.append(f"{mode:<10}{one.method:<24}{read:>10}{ours:>13}{one.psnr:>9.1f}")
        self._add("copy", values, "\n".join(lines))

    def speed(self) -> None:
        """Processor time."""
        lines, values = [f"{'what, at 1920 x 1080':<46}{'median':>10}{'worst':>10}{'goal':>8}"], []
        for one in speed.timings(bench_keys(self.options["keys"])):
            self.bar.show(f"speed: {one.what}", 0.5)
            values.append(one.to_json())
            late = " !" if one.median_ms > one.goal_ms else ""
            lines.append(
                f"{one.what:<46}{one.median_ms:>7.1f} ms{one.worst_ms:>7.1f} ms{one.goal_ms:>5.0f} ms{late}"
                + (f"   {one.note}" if one.what.startswith(("read", "no")) else "")
            )
        self._add("speed", values, "\n".join(lines))

    def video(self) -> None:
        """Moving clips through codecs."""
        found: list[video_cases.VideoRow] = []
        total = len(CLIPS) * len(self.cases) * len(self.modes)
        self.bar.show(f"video: {len(self.cases)} cases", 0.0)
        rows = video_cases.run_cases(
            self.cases, self.modes, seed=self.options["seed"], jobs=self.options["jobs"], keys=self.options["keys"]
        )
        for done, row in enumerate(rows, 1):
            found.append(row)
            self.bar.show(f"video: {row.case}, {row.clip}, {row.mode}, {done}/{total}", done / total)
        self._add("video", [row.to_json() for row in found], video_cases.table(found))

    def report(self, folder: Path) -> Path:
        """Write figures, difference pictures, index.html and bench.json; returns the page."""
        (folder / "bench.json").write_text(json.dumps(self.values, indent=1))
        return report.write(
            folder, self.pictures, self.rows, words=self.words, negatives=self.negatives, sweep=self.swept
        )

    def _add(self, name: str, values: Any, words: str) -> None:
        self.values[name] = values
        self.words.append(words)

    @property
    def _keys(self) -> list[MarkKey]:
        return bench_keys(self.options["keys"])

    @property
    def _how(self) -> dict[str, Any]:
        return {"seed": self.options["seed"], "effort": self.options["effort"]}


def _make_folder(folder: Path) -> None:
    """Before hours of measuring and not after them."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "bench.json").touch()
    except OSError as error:
        raise CommandError(
            f"{folder} cannot be written ({os.strerror(error.errno or 0)}). Nothing was measured. Name another folder."
        ) from error


def _cases(options: dict[str, Any]) -> list[video_cases.VideoCase]:
    try:
        return video_cases.chosen(options["video"] or [])
    except KeyError as error:
        raise CommandError(
            f"There is no video case {error.args[0]!r}. Nothing was measured. See `manage.py bench watermark --list`."
        ) from error


def _attacks(options: dict[str, Any]) -> list[Attack]:
    for group in options["groups"]:
        if group not in GROUPS:
            raise CommandError(
                f"There is no group {group!r}. Nothing was measured. The groups are {', '.join(GROUPS)}."
            )
    try:
        return chosen(options["attacks"], options["groups"])
    except KeyError as error:
        raise CommandError(
            f"There is no attack {error.args[0]!r}. Nothing was measured. See `manage.py bench watermark --list`."
        ) from error


def _pictures(options: dict[str, Any]) -> list[Picture]:
    try:
        return corpus(options["images"] or (), role="tune" if options["tune"] else "report", limit=options["limit"])
    except FileNotFoundError as error:
        raise CommandError(
            f"{error.args[0]} holds no picture of at least {LEAST_FILE_SIDE} pixels a side. Nothing was measured. "
            "Name another folder."
        ) from error
