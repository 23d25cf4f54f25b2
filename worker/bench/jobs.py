"""Run a real analysis and a real job, on the real engine, media child and codecs, and account for every process."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from watermark.keys import derive_mark_key
from watermark.pattern import derive
from watermark.payload import new_mark_id
from worker.bench.meter import Meter, Reading, forget_peak, peak_bytes
from worker.inference.client import connect
from worker.inference.endpoint import owner
from worker.inference.registry import BUILTIN, ModelSet
from worker.media.client import probe
from worker.model_choice import MESH
from worker.pipeline.run import JobResult, analyse, run_job
from worker.spec import JobSpec, SourcePhoto, Swap

_REST_SECONDS: Final = 0.5
"""After which the engine has freed what the last pass alone needed; between an analysis and a job people are asked."""


class NoFaceError(ValueError):
    """There is nothing to swap."""


@dataclass(frozen=True)
class Cost:
    """What one pass (an analysis, a job) took. `inference` is processor time inside models, in the engine, in seconds;
    `items` counts what each model ran; `stages` are seconds of each stage's own thread; `peak` is the largest resident
    set of the media child, `engine_peak` that of the engine meanwhile, in bytes. Models ran on `devices`, which were
    `busy` for so many seconds. `codecs` is what decoders and encoders took, where they ran."""

    frames: int
    used: Reading
    inference: float
    items: Mapping[str, int]
    stages: Mapping[str, float]
    peak: int
    engine_peak: int
    busy: float = 0.0
    devices: tuple[str, ...] = ("cpu",)
    codecs: float = 0.0

    @property
    def host(self) -> float:
        """Processor time outside the models: media child, caller, and what the engine took beyond them. Seconds."""
        return self.used.children + self.used.caller + self.crossing

    @property
    def crossing(self) -> float:
        """What the engine took beyond the models, in seconds."""
        return max(0.0, self.used.engine - self.inference)

    @property
    def total(self) -> float:
        """All processor time, in seconds."""
        return self.used.children + self.used.caller + self.used.engine

    def minus(self, other: Cost) -> Cost:
        """What this took beyond `other`: of a longer clip less a shorter one, the steady state without the start."""
        return Cost(
            self.frames - other.frames,
            self.used.minus(other.used),
            self.inference - other.inference,
            {name: count - other.items.get(name, 0) for name, count in self.items.items()},
            {name: seconds - other.stages.get(name, 0.0) for name, seconds in self.stages.items()},
            self.peak,
            self.engine_peak,
            self.busy - other.busy,
            self.devices,
            self.codecs - other.codecs,
        )

    def plus(self, other: Cost) -> Cost:
        """Both passes over the same frames."""
        return Cost(
            self.frames,
            self.used.plus(other.used),
            self.inference + other.inference,
            {name: self.items.get(name, 0) + other.items.get(name, 0) for name in {**self.items, **other.items}},
            {**self.stages, **other.stages},
            max(self.peak, other.peak),
            max(self.engine_peak, other.engine_peak),
            self.busy + other.busy,
            tuple(sorted({*self.devices, *other.devices})),
            self.codecs + other.codecs,
        )


@dataclass(frozen=True)
class Measured:
    """An analysis and the job after it, and what describes the job."""

    analysis: Cost
    job: Cost
    spec: JobSpec
    pattern: bytes
    result: JobResult

    @property
    def both(self) -> Cost:
        """The two passes together."""
        return self.analysis.plus(self.job)

    @property
    def swapped(self) -> int:
        """Frames of the film in which the face was replaced."""
        return sum(int(record.get("frames_replaced", 0)) for record in self.result.quality.values())

    @property
    def memory(self) -> int:
        """The largest resident sets of media child and engine together in one of the passes, in bytes."""
        return max(one.peak + one.engine_peak for one in (self.analysis, self.job))


@dataclass(frozen=True)
class Choice:
    """What swaps: as in `JobSpec`; `cards` are the models of the engine."""

    swapper: str = MESH
    enhancer: str = ""
    cards: ModelSet = BUILTIN

    @classmethod
    def of(cls, models: ModelSet, swapper: str, enhancer: str = "") -> Choice:
        """A neural swapper and what it works with. Raises ModelError "model_missing"."""
        return cls(swapper, enhancer, models.only(models.neural_set(swapper, enhancer).names))


BUILT_IN: Final = Choice()


def run(target: Path, source: Path, folder: Path, engine: Path, choice: Choice = BUILT_IN) -> Measured:
    """Analyse the photo or video `target`, put the face of the photo `source` on its largest track, and measure both.

    Results lie in `folder`. Raises what `analyse` and `run_job` raise, NoFaceError if `target` shows none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    photo = folder / f"source{source.suffix}"
    shutil.copyfile(source, photo)
    info = probe(target)
    before = _Account(engine)
    summary = analyse(
        target,
        folder / "analysis",
        engine_socket=engine,
        work_dir=folder,
        cards=choice.cards,
        neural=choice.swapper != MESH,
    )
    analysis = before.cost(summary.frames, {}, summary.peak_rss, summary.codec_seconds)
    if not summary.tracks:
        raise NoFaceError(f"{target.name} shows no face")
    longest = max(summary.tracks, key=lambda track: track.frames)
    video = info.kind == "video"
    spec = JobSpec(
        job_id="bench",
        kind="video" if video else "photo",
        target_path=target.resolve(),
        target_sha256=info.sha256,
        analysis_path=folder / "analysis",
        output_path=folder / ("out.mp4" if video else "out.jpg"),
        output_mime="video/mp4" if video else "image/jpeg",
        swaps=(Swap(longest.id, (SourcePhoto(photo, hashlib.sha256(photo.read_bytes()).hexdigest()),)),),
        swapper=choice.swapper,
        enhancer=choice.enhancer,
        model_set=choice.cards.id(),
    )
    pattern = derive(new_mark_id(), derive_mark_key(os.urandom(32), deployment="bench", year=2000)).to_bytes()
    before = _Account(engine)
    result = run_job(spec, pattern=pattern, engine_socket=engine, cards=choice.cards)
    own = {name.removesuffix("_cpu"): value for name, value in result.timings.items() if name.endswith("_cpu")}
    return Measured(
        analysis, before.cost(result.frames, own, result.peak_rss, result.codec_seconds), spec, pattern, result
    )


class _Account:
    """What the engine and the machine had done at the beginning of a pass."""

    def __init__(self, engine: Path) -> None:
        self._engine = engine
        self._before = _asked(engine)
        pid = owner(engine)
        if pid is not None:
            time.sleep(_REST_SECONDS)
            forget_peak(pid)
        self._meter = Meter(engine)

    def cost(self, frames: int, stages: Mapping[str, float], peak: int, codecs: float) -> Cost:
        used = self._meter.read()
        now, before = _asked(self._engine), self._before
        done = {name: count - before.items.get(name, 0) for name, count in now.items.items()}
        pid = owner(self._engine)
        return Cost(
            frames=frames,
            used=used,
            inference=now.seconds - before.seconds,
            items={name: count for name, count in done.items() if count},
            stages=stages,
            peak=peak,
            engine_peak=peak_bytes(pid) if pid is not None else 0,
            busy=now.busy - before.busy,
            devices=now.devices,
            codecs=codecs,
        )


@dataclass(frozen=True)
class _Engine:
    """What the engine says it did so far."""

    seconds: float
    busy: float
    items: Mapping[str, int]
    devices: tuple[str, ...]


def _asked(engine: Path) -> _Engine:
    with connect(engine) as client:
        status = client.status()
    models: list[dict[str, Any]] = status["models"]
    return _Engine(
        seconds=sum(float(one["cpu_seconds"]) for one in models),
        busy=sum(float(lane["busy_seconds"]) for lane in status["lanes"].values()),
        items={one["name"]: int(one["items"]) for one in models},
        devices=tuple(status["providers"]),
    )
