"""How often the liveness check passes a rendered head, how often an attack gets through, and what a check costs.

The heads are made of two photos with the landmarks the check itself reads: the pass rate says that clips are read right
and how far from the thresholds, not how often real people pass before real cameras.
"""

from __future__ import annotations

import importlib
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from django.conf import settings
from django.core.management.base import CommandError

from webapp.commands.progress import ProgressBar
from worker.gate.live.liveness import ACTIONS, LivenessReport, examine
from worker.gate.live.liveness_judge import shows_depth
from worker.inference.client import EngineClient, connect, ensure_engine, stop_engine
from worker.inference.endpoint import owner
from worker.media.sandbox import processor_seconds

SAMPLES = settings.BASE_DIR / "tests" / "samples"
PEOPLE = ("astronaut", "grace_hopper")
GENUINE = "a person"
# (width, height), frames a second and format of the recordings, as phones and web cameras make them.
CAMERAS = (
    ((640, 480), 20.0, ".live.webm"),
    ((480, 640), 15.0, ".frag.mp4"),
    ((426, 240), 15.0, ".mp4"),
    ((960, 540), 30.0, ".mp4"),
)
LONG = (("turn_left", "look_up", "smile"), {"pause": 0.9, "lead": 1.3, "tail": 0.9})


@dataclass
class Row:
    """The verdicts on one kind of clip, and the codes of those refused."""

    name: str
    verdicts: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    worst: list[float] = field(default_factory=list)
    source: list[float] = field(default_factory=list)
    peaks: dict[str, list[float]] = field(default_factory=dict)

    def add(self, report: LivenessReport) -> None:
        """Count one report."""
        self.verdicts[report.verdict] += 1
        self.codes.update(report.codes[:1])
        self.worst += [] if report.same_face_worst is None else [report.same_face_worst]
        self.source += [] if report.source_distance is None else [report.source_distance]
        for one in report.actions:
            self.peaks.setdefault(one.name, []).append(one.peak)

    def words(self) -> str:
        """One line of the table."""
        count = self.verdicts.total()
        named = ", ".join(f"{code} {n}" for code, n in self.codes.most_common(3))
        return f"{self.name:<16}{count:>6}{self.verdicts['pass']:>8}{self.verdicts['review']:>8}  {named}"


def run(*, rounds: int, attacks: int, seed: int = 0) -> Iterator[str]:
    """Check `rounds` genuine clips and `attacks` clips of each attack; yield the lines of the report."""
    try:
        tool = importlib.import_module("tests.worker.liveness.talking_head")
        enemy = importlib.import_module("tests.worker.liveness.attacks")
    except ImportError as error:
        raise CommandError("The clips are rendered by the tests' own tool; run this in a checkout.") from error
    engine = ensure_engine(settings.HOME)
    try:
        with connect(engine) as models, tempfile.TemporaryDirectory(prefix="bench-") as folder:
            stage = _Stage(tool, enemy, models, engine, Path(folder))
            with ProgressBar("bench") as bar:
                rows = [stage.row(GENUINE, rounds, seed, bar)]
                rows += [stage.row(name, attacks, seed, bar) for name in sorted(enemy.ATTACKS)]
            yield f"{'clip':<16}{'n':>6}{'pass':>8}{'review':>8}  main reason of the others"
            yield from (row.words() for row in rows)
            yield from _margins(rows[0])
            yield stage.cost()
    finally:
        stop_engine(settings.HOME)


class _Stage:
    """The two people and everything it takes to film and check them."""

    def __init__(self, tool: Any, enemy: Any, models: EngineClient, engine: Path, folder: Path) -> None:
        self._tool, self._enemy, self._engine, self._folder = tool, enemy, engine, folder
        self._heads = [tool.Head(SAMPLES / f"{name}.jpg", models) for name in PEOPLE]
        from worker.faces.analyse import analyse_image

        faces = [analyse_image(head.picture, models)[0] for head in self._heads]
        self._known = [face.descriptor for face in faces if face.descriptor is not None]

    def row(self, name: str, count: int, seed: int, bar: ProgressBar) -> Row:
        """Film and check `count` clips of a kind."""
        found = Row(name)
        for number in range(count):
            bar.show(name, number / count)
            found.add(self._check(name, seed + number))
        return found

    def cost(self) -> str:
        """Processor seconds of checking a clip of about seven seconds at 640x480."""
        actions, more = LONG
        played = self._tool.perform(actions, None, **more)
        used, length = [], 0.0
        for number in range(3):
            frames = self._tool.frames_of(self._heads[0], played, fps=20.0, size=(640, 480))
            begin = self._clip(frames, 20.0, number, ".live.webm")
            report = self._examine(begin, actions, 0)
            used.append(self._last_cpu)
            length = report.seconds
        return f"processor time of one check ({length:.1f} s, 640x480): {statistics.median(used):.1f} s"

    def _check(self, name: str, seed: int) -> LivenessReport:
        rng = np.random.default_rng([seed, *name.encode()])
        triples = [one for one in permutations(ACTIONS, 3) if shows_depth(one)]
        actions = triples[int(rng.integers(len(triples)))]
        who = int(rng.integers(2))
        size, fps, ending = CAMERAS[int(rng.integers(len(CAMERAS)))]
        played = self._tool.perform(actions, seed)
        if name == GENUINE:
            frames = self._tool.frames_of(self._heads[who], played, fps=fps, size=size)
        else:
            cast = (self._heads[who], self._heads[1 - who])
            frames = self._enemy.attack(name, cast, played, fps=fps, size=size)
        return self._examine(self._clip(frames, fps, seed, ending), actions, who)

    def _clip(self, frames: Any, fps: float, seed: int, ending: str) -> Path:
        path = self._folder / f"clip{ending}"
        self._tool.write_clip(path, self._tool.filmed(frames, fps, seed), fps)
        return path

    def _examine(self, path: Path, actions: Sequence[str], who: int) -> LivenessReport:
        begin = self._cpu()
        report = examine(
            path,
            actions=actions,
            references=[self._known[who]],
            engine_socket=self._engine,
            work_dir=self._folder,
        )
        self._last_cpu = self._cpu() - begin
        return report

    def _cpu(self) -> float:
        """Processor time so far of this process, its media children and the engine."""
        times = os.times()
        pid = owner(self._engine)
        engine = 0.0
        if pid is not None:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            engine = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return times.user + times.system + processor_seconds() + engine


def _margins(genuine: Row) -> Iterator[str]:
    for name, peaks in sorted(genuine.peaks.items()):
        yield f"  {name:<12} weakest that passed {min(peaks):.3g}, median {statistics.median(peaks):.3g}"
    if genuine.worst and genuine.source:
        yield f"  one face: worst distance {max(genuine.worst):.2f}; source photo: worst {max(genuine.source):.2f}"
    yield f"  ({time.strftime('%Y-%m-%d')}, rendered heads of {len(PEOPLE)} people)"
