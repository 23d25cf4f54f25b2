"""What screening an upload costs: the faces, nudity and age, the lists, the mark; and whether memory stays flat.

The film goes the way of an upload: analysis, then all that `measure.measure` asks, in the engine and media children
that uploads use. The database stands still: nothing is found in it (a list of results that stay down is compared with).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from watermark.fingerprint import Fingerprint
from watermark.hash_index import SIZE, HashIndex
from watermark.keys import derive_mark_key
from worker.bench.meter import Meter, PeakMemory, process_seconds
from worker.bench.report import Progress, Report, Row, Table
from worker.bench.workspace import Workspace
from worker.gate import measure, screeners
from worker.gate.looks import lists
from worker.gate.looks.looking import Look
from worker.gate.looks.sampling import Sample
from worker.gate.signals import Signal
from worker.gate.upload import Upload
from worker.inference import gate_models
from worker.inference.endpoint import owner
from worker.inference.types import ModelError
from worker.media.client import probe
from worker.media.sample_clip import make_clip, repeat_clip
from worker.pipeline.analysis import Analysis
from worker.pipeline.run import analyse

REQUIRED: Final = 0.5  # processor seconds of nudity and age for a second of film
FLAT: Final = 1.1  # peak memory of the film over that of a film a tenth as long
SHORT: Final = 10.0  # seconds of film, below which memory is not at its peak yet
ALL: Final = "nudity and age"
PARTS: Final = (ALL, "pictures", "nsfw", "age", "faces", "lists", "stay_down", "own_mark", "rest")
LOOKS: Final = ("nsfw", "age", "lists", "stay_down", "own_mark")
SUMMED: Final = (ALL, "faces", "lists", "stay_down", "own_mark", "rest")


@dataclass(frozen=True)
class Pass:
    """One file screened. Processor seconds of all processes by part (`PARTS`), of which `ALL` is the sum of "pictures"
    (decoding what all looks see), "nsfw" and "age"; "own_mark" is a long film's, "rest" credentials, what the file
    declares, and the mark of anything else.

    `seconds` is the file's length, `pictures` how many were looked at, memory in bytes (see `PeakMemory`).
    """

    seconds: float
    pictures: int
    used: Mapping[str, float]
    wall: float
    own: int
    engine: int
    memory: int
    signals: Sequence[Signal]


def bench_gate(
    space: Workspace, photo: Path, folder: Path, *, seconds: float, size: tuple[int, int], entries: int,
    progress: Progress,
) -> Report:  # fmt: skip
    """Screen `photo`, a film made of it of a tenth of `seconds`, and that ten times in a row.

    `size` is that of the films, (width, height) in pixels. `entries` are synthetic hashes on a list that every file is
    compared with; 0 leaves the lists out. `folder` is for what is made on the way. Raises MediaError, FaceError,
    ModelError, PipelineError; ModelError "model_missing" where nudity or age has no model.
    """
    _need_models(space)
    tenth, film = folder / "tenth.mp4", folder / "film.mp4"
    progress("making films", 0.05)
    frames = make_clip(photo, tenth, seconds=seconds / 10, size=size)
    repeat_clip(tenth, film, 10 * frames)  # an encoder would take longer than all that is measured
    installed = _drawn(folder / "drawn.idx", entries) if entries > 0 else None
    progress("warming up", 0.2)
    for path in (photo, tenth):  # what this process keeps after its first film is no growth with length
        _screen(space, path, folder, installed)
    names = ["photo", f"{seconds / 10:g} s", f"{seconds:g} s"]
    passes = []
    for number, (name, path) in enumerate(zip(names, [photo, tenth, film], strict=True)):
        progress(f"screening, {name}", (0.35, 0.4, 0.45)[number])
        passes.append(_screen(space, path, folder, installed))
    report = Report("gate", unit="processor seconds for a second of film")
    report.rows = _rows(*passes)
    report.tables.append(_table(names, passes))
    longest = passes[-1]
    report.stages[names[-1]] = {part: round(longest.used[part] / longest.seconds, 4) for part in PARTS[1:]}
    return report


def _rows(photo: Pass, tenth: Pass, film: Pass) -> list[Row]:
    unit = "s/s"
    shares = {part: round(film.used[part] / film.seconds, 4) for part in PARTS}
    return [
        Row(
            "nudity and age, processor time over the film's length",
            shares[ALL],
            unit,
            required=REQUIRED,
            note=f"{film.used[ALL]:.1f} s for {film.seconds:g} s of film and {film.pictures} pictures, all processes",
        ),
        Row("of it decoding the pictures that are looked at", shares["pictures"], unit),
        Row("of it nudity", shares["nsfw"], unit),
        Row("of it age", shares["age"], unit),
        Row("faces (the analysis that picker and swap use too)", shares["faces"], unit),
        Row("lists of picture hashes", shares["lists"], unit),
        Row("results that stay down", shares["stay_down"], unit),
        Row("mark of this house", shares["own_mark"], unit),
        Row("credentials, what the file declares", shares["rest"], unit),
        Row("all of it", round(sum(shares[part] for part in SUMMED), 4), unit, goal=REQUIRED),
        _memory_row(tenth, film),
        Row("a photo, nudity and age", round(1000 * photo.used[ALL]), "ms"),
        Row("a photo, faces", round(1000 * photo.used["faces"]), "ms"),
        Row("a photo, peak memory", round(photo.memory / 2**20), "MiB", note="caller, media child and engine together"),
    ]


def _memory_row(tenth: Pass, film: Pass) -> Row:
    name = "peak memory, the film over a tenth of its length"
    ratio = round(film.memory / tenth.memory, 3)
    note = f"{ratio:g}: {tenth.memory / 2**20:.0f} and {film.memory / 2**20:.0f} MiB, all processes at one time"
    if tenth.seconds < SHORT:
        note += f"; a tenth under {SHORT:g} s is not at its peak yet: give --seconds {10 * SHORT:g} or more"
        return Row(name, None, required=FLAT, note=note)
    return Row(name, ratio, required=FLAT, note=note)


def _table(names: Sequence[str], passes: Sequence[Pass]) -> Table:
    columns = ("file", "pictures", *PARTS, "s by the clock", "own MiB", "engine MiB", "all MiB")
    lines: list[tuple[str | float | None, ...]] = []
    for name, one in zip(names, passes, strict=True):
        spent = [round(one.used[part], 2) for part in PARTS]
        memory = [round(value / 2**20) for value in (one.own, one.engine, one.memory)]
        lines.append((name, one.pictures, *spent, round(one.wall, 1), *memory))
    return Table("processor seconds by part, and peak memory", columns, tuple(lines))


def _screen(space: Workspace, path: Path, folder: Path, installed: lists.Installed | None) -> Pass:
    """All that the gate does with one file, on an engine of its own, so that each peak is that file's."""
    out = folder / "analysis"
    out.unlink(missing_ok=True)
    info = probe(path)
    with (
        space.engine() as engine,
        screeners.opened(
            engine,
            models_dir=space.models_dir,
            operator_models=space.home / "operator-models",
            gate_packs=space.home / "gate-packs",
            profile="evaluation",
        ) as at_hand,
        PeakMemory(engine) as peak,
    ):
        began, cost = time.perf_counter(), _Cost(engine)
        with cost.of("faces"):
            analyse(path, out, engine_socket=engine, work_dir=folder)
        analysis = Analysis.load(out)
        with cost.of("measured"):
            seen = measure.measure(
                Upload.of(path, info),
                info,
                analysis,
                role="target",
                keys=[derive_mark_key(os.urandom(32), deployment="bench", year=2000)],
                anchors_pem="",
                listed=_NothingLike(),
                outputs=_NoOutputs(),
                screeners=_Watched(**vars(at_hand), cost=cost),
                looks=[lists.ListsLook(installed, analysis)] if installed is not None else [],
            )
        wall = time.perf_counter() - began
    used = cost.parts()
    return Pass(info.duration or 0.0, cost.pictures, used, wall, peak.own, peak.engine, peak.all, seen)


@dataclass
class _Cost:
    """Processor seconds of this process, its media children and the engine, by part."""

    engine: Path
    used: dict[str, float] = field(default_factory=dict)
    by_look: dict[str, float] = field(default_factory=lambda: dict.fromkeys(LOOKS, 0.0))
    pictures: int = 0

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        meter = Meter(self.engine)
        yield
        found = meter.read()
        self.used[part] = found.caller + found.children + found.engine

    def parts(self) -> dict[str, float]:
        """What was used, by `PARTS`."""
        pictures = max(0.0, self.used["looking"] - sum(self.by_look.values()))
        return {
            **self.by_look,
            "pictures": pictures,
            ALL: pictures + self.by_look["nsfw"] + self.by_look["age"],
            "faces": self.used["faces"],
            "rest": self.used["measured"] - self.used["looking"],
        }


@dataclass(frozen=True)
class _Watched(screeners.Screeners):
    """The tools at hand; what looking takes is told to `cost`, of each look apart."""

    cost: _Cost = field(kw_only=True)

    def look(self, upload: Upload, analysis: Analysis, others: Sequence[Look] = ()) -> list[Signal]:
        with self.cost.of("looking"):
            return super().look(upload, analysis, [_Timed(one, self.cost) for one in others])

    def looks(self, upload: Upload, analysis: Analysis) -> list[Look]:
        return [_Timed(one, self.cost) for one in super().looks(upload, analysis)]


class _Timed:
    """A look, and the processor time that it took here and, while it waited, in the engine."""

    def __init__(self, look: Look, cost: _Cost) -> None:
        self._look, self._cost, self._engine = look, cost, owner(cost.engine)
        self.kind = look.kind
        self._taken = 0

    def take(self, sample: Sample) -> None:
        self._taken += 1
        self._cost.pictures = max(self._cost.pictures, self._taken)
        with self._timed():
            self._look.take(sample)

    def finish(self) -> Signal:
        with self._timed():
            return self._look.finish()

    @contextmanager
    def _timed(self) -> Iterator[None]:
        begin = self._now()
        try:
            yield
        finally:
            self._cost.by_look[self.kind] += self._now() - begin

    def _now(self) -> float:
        return time.process_time() + (process_seconds(self._engine) if self._engine is not None else 0.0)


class _NothingLike:
    """What stays down is like nothing here."""

    def empty(self) -> bool:
        return False

    def holds_mark(self, mark_id: bytes) -> bool:
        return False

    def like(self, value: bytes) -> Sequence[Fingerprint | None]:
        return ()


class _NoOutputs:
    """No result is ours."""

    def by_mark(self, mark_id: bytes) -> Mapping[str, str]:
        return {}

    def by_manifest(self, label: str) -> Mapping[str, str]:
        return {}


@dataclass(frozen=True)
class _Hit:
    query: int
    line: int
    distance: int
    list: str = "drawn"
    kind: str = "block"


@dataclass(frozen=True)
class _Drawn:
    """A list of drawn hashes, which no picture is near."""

    index: HashIndex
    entries: int
    names: Sequence[str] = ("drawn",)

    def search(self, asked: Sequence[bytes]) -> Sequence[lists.Hit]:
        return [_Hit(match.query, match.line, match.distance) for match in self.index.search(asked)]


def _drawn(path: Path, entries: int) -> _Drawn:
    rng = np.random.default_rng(0)
    hashes = np.frombuffer(rng.bytes(entries * SIZE), np.uint8).reshape(-1, SIZE)
    HashIndex.build(hashes, np.zeros(entries, np.uint16), np.arange(entries, dtype=np.uint32)).write(path)
    return _Drawn(HashIndex.open(path), entries)


def _need_models(space: Workspace) -> None:
    there = gate_models.present(space.models_dir).gate
    missing = [kind for kind in screeners.BUILT if gate_models.of_role(kind).name not in there]
    if missing:
        raise ModelError(
            "model_missing",
            f"There is no model for {' and '.join(missing)}. Nothing was measured. Run `manage.py models build`; age "
            "needs npm.",
        )
