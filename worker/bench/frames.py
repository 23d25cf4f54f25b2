"""Films to measure on, and where the processor time of a frame goes: what both parts of `bench pipeline` share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from worker.bench.codecs import codec_milliseconds
from worker.bench.jobs import Cost, Measured
from worker.bench.report import Row, Table
from worker.media.client import probe
from worker.media.sample_clip import make_clip

SIZE: Final = (1920, 1080)
CORES: Final = 2
"""What "per 2 cores" means."""
_SETTLED: Final = 9.9
"""Seconds of film after which a job's memory has come to what it stays at."""


@dataclass(frozen=True)
class Material:
    """What is worked on: a photo of the donor, one of the target, and `clips` by length, the shortest first."""

    source: Path
    target: Path
    clips: tuple[Path, ...]
    names: tuple[str, ...]
    size: tuple[int, int] = SIZE


@dataclass(frozen=True)
class Frames:
    """The steady state: processor time per frame of analysis and job, and what the codecs and the mark are of it.

    `decode`, `convert`, `mark`, `encode`: milliseconds of one pass, each measured alone; a frame is decoded for the
    analysis and for the job. `encode_unmarked` is `encode` of the same frames before the mark.
    """

    analysis: Cost
    job: Cost
    decode: float
    convert: float
    mark: float
    encode: float
    encode_unmarked: float

    @property
    def both(self) -> Cost:
        return self.analysis.plus(self.job)

    def per_frame(self, seconds: float) -> float:
        """Seconds over all frames as milliseconds a frame."""
        return 1000 * seconds / self.job.frames

    @property
    def host(self) -> float:
        """Milliseconds a frame outside the models, in all processes."""
        return self.per_frame(self.both.host)

    @property
    def marking(self) -> float:
        """Milliseconds of the mark: as measured alone, but no more than its stage, which does little else, took."""
        return min(self.mark, self.per_frame(self.job.stages.get("mark", 0.0)))

    @property
    def unmarked(self) -> float:
        """`host` less the mark and what its grain costs the encoder."""
        return self.host - self.marking - (self.encode - self.encode_unmarked)

    @property
    def python(self) -> float:
        """`host` without codecs (as measured where they ran) and mark: our own code and the way to the engine."""
        return self.host - self.per_frame(self.both.codecs) - self.marking

    def parts(self) -> dict[str, float]:
        """Milliseconds a frame by part of the work; they add up to all processor time."""
        analysis, job, per = self.analysis, self.job, self.per_frame
        live = {name: per(seconds) for name, seconds in job.stages.items() if name not in ("decode", "encode")}
        parts = {
            "analysis: decode": per(analysis.codecs),
            "analysis: faces, tracks, the rest": per(analysis.used.children - analysis.codecs),
            "analysis: engine beyond the models": per(analysis.crossing),
            "analysis: models": per(analysis.inference),
            "job: decode and encode": per(job.codecs),
            **{f"job: {name}": value for name, value in live.items()},
            "job: the rest of the child": per(job.used.children - job.codecs) - sum(live.values()),
            "job: engine beyond the models": per(job.crossing),
            "job: models": per(job.inference),
            "the calling process": per(self.both.used.caller),
        }
        return {name: round(value, 2) for name, value in parts.items()}


def material(
    folder: Path, source: Path, target: Path, *, films: Sequence[Path], seconds: Sequence[float], size: tuple[int, int]
) -> Material:
    """The `films` of the operator, the shortest first, or films of `seconds` made of the portrait `target` in `folder`.

    Raises MediaError for a film that cannot be read.
    """
    if films:
        shortest = sorted((film.resolve() for film in films), key=lambda film: probe(film).duration or 0.0)
        return Material(source, target, tuple(shortest), tuple(film.name for film in shortest), size)
    lengths = sorted(set(seconds))
    clips = []
    for length in lengths:
        clips.append(folder / f"clip-{length:g}.mp4")
        make_clip(target, clips[-1], seconds=length, size=size)
    return Material(source, target, tuple(clips), tuple(f"{length:g} s" for length in lengths), size)


def steady(runs: Sequence[Measured], folder: Path) -> Frames:
    """What a frame costs once a run is under way: the longest run less the shortest, or the only one. Codecs apart."""
    last = runs[-1]
    alone = codec_milliseconds(last.spec.target_path, folder, last.spec, last.pattern, threads=CORES)
    if len(runs) == 1:
        return Frames(last.analysis, last.job, **alone)
    return Frames(last.analysis.minus(runs[0].analysis), last.job.minus(runs[0].job), **alone)


def parts_table(name: str, frames: Frames) -> Table:
    """`Frames.parts` to read, with their sum."""
    parts = frames.parts()
    lines = (*parts.items(), ("all", round(sum(parts.values()), 2)))
    return Table(f"{name}: processor milliseconds a frame", ("part", "ms"), lines)


def host_rows(name: str, frames: Frames) -> list[Row]:
    """All that is not a model, with and without what is asked about apart."""
    unit, mark, encode = "ms a frame", frames.marking, frames.encode
    note = "analysis and job together; a frame is decoded for each"
    return [
        Row(f"{name}, host, encode and mark included", round(frames.host, 2), unit, note=note),
        Row(f"{name}, host, mark excluded, its grain encoded", round(frames.host - mark, 2), unit),
        Row(f"{name}, host, mark and what its grain costs the encoder excluded", round(frames.unmarked, 2), unit),
        Row(f"{name}, host, encode and mark excluded", round(frames.host - mark - encode, 2), unit),
        Row(f"{name}, host, codecs and mark excluded", round(frames.python, 2), unit),
    ]


def of_whole_film(row: Row, runs: Sequence[Measured]) -> Row:
    """The row; without its number where a film was not swapped in all of its frames, for then it is of something else.

    A track ends at a cut, and so where a film that was repeated begins anew.
    """
    for run in runs:
        if run.swapped < run.job.frames:
            note = f"{run.swapped} of {run.job.frames} frames were swapped: give a film of one shot that shows the face"
            return replace(row, measured=None, note=note)
    return row


def memory_row(name: str, lengths: Sequence[str], runs: Sequence[Measured]) -> Row:
    """The largest resident sets of the longest film over those of the shortest: media child and engine together."""
    if len(runs) < 2:
        note = "needs two films of different length"
        return Row(f"{name}, peak memory, long film over short", None, required=1.1, goal=1.0, note=note)
    peaks = [run.memory for run in (runs[0], runs[-1])]
    found = round(peaks[1] / peaks[0], 3)
    note = f"{found:g}: {peaks[0] / 2**20:.0f} and {peaks[1] / 2**20:.0f} MiB"
    row = Row(f"{name}, peak memory, {lengths[-1]} over {lengths[0]}", found, required=1.1, goal=1.0, note=note)
    if (runs[0].result.duration or 0.0) < _SETTLED:
        note += "; films so short are not at their peak yet: give --seconds 10 600"
        return replace(row, measured=None, note=note)
    return of_whole_film(row, runs)


def passes_table(name: str, lengths: Sequence[str], runs: Sequence[Measured]) -> Table:
    """Each pass by the clock, its start included."""
    lines: list[tuple[str | float | None, ...]] = []
    for length, run in zip(lengths, runs, strict=True):
        for what, cost, swapped in (("analysis", run.analysis, None), ("job", run.job, run.swapped)):
            used = cost.used
            lines.append(
                (f"{length}, {what}", cost.frames, swapped, used.wall, cost.frames / used.wall, cost.total, used.others,
                 round(cost.peak / 2**20))
            )  # fmt: skip
    columns = (
        "pass", "frames", "swapped", "s by the clock", "frames/s", "processor s", "of other programs", "peak MiB",
    )  # fmt: skip
    return Table(f"{name}: whole passes, their start included", columns, tuple(lines))
