"""The analysis of an asset: faces, tracks, landmarks and cuts, found once and used by every later step.

One file, written and read front to back in constant memory whatever the length:

    magic | { u32 length | zlib(frame records) }* | u32 0 | JSON summary | u64 offset and u32 CRC-32 of the JSON | magic

A frame record is `index u32, seconds f64, faces u16`, a face record `track i32, score f32, box 4 f32, low 3 f32,
step 3 f32, landmarks u16 [478, 3]` (little endian); a landmark is `low + step * value`. Sixteen bits over the extent
of one face place a point of a 1000-pixel face within 0.01 pixel, at a quarter of the size of text.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import numpy as np
from numpy.typing import NDArray

_MAGIC: Final = b"IMPANL01"
_FRAME: Final = struct.Struct("<IdH")
_FACE: Final = struct.Struct("<if4f3f3f")
_FOOTER: Final = struct.Struct("<QI8s")
_LANDMARKS: Final = 478
_DESCRIPTOR: Final = 128
_LANDMARK_BYTES: Final = _LANDMARKS * 3 * 2
_FRAMES_PER_CHUNK: Final = 32
_MAX_CHUNK: Final = 64 << 20
_MAX_SUMMARY: Final = 64 << 20


class AnalysisError(Exception):
    """The file is not an analysis, or not a whole one."""

    code = "analysis_invalid"

    def __init__(self, detail: str) -> None:
        self.message = f"The stored analysis cannot be read ({detail}). The file itself is intact. Analyse it again."
        super().__init__(self.message)


@dataclass(frozen=True)
class FrameFace:
    """One face in one frame: `box` float32 [4] x, y, width, height, `landmarks` float32 [478, 3], both in pixels."""

    track: int
    score: float
    box: NDArray[np.float32]
    landmarks: NDArray[np.float32]


@dataclass(frozen=True)
class AnalysedFrame:
    """One frame; `seconds` counts from the first frame of the video, 0 for a photo."""

    index: int
    seconds: float
    faces: tuple[FrameFace, ...]


@dataclass(frozen=True)
class Track:
    """One person through a shot, or one face of a photo (then `id` is its index, largest first).

    The representative frame is `best_index` at `best_seconds`: there the face has `box` (x, y, width, height in
    pixels) and looks `yaw` degrees aside. `size` is the longer side of that box. `descriptor` holds 128 values.
    """

    id: int
    first_seconds: float
    last_seconds: float
    frames: int
    best_index: int
    best_seconds: float
    box: tuple[float, float, float, float]
    size: float
    yaw: float
    descriptor: tuple[float, ...] | None


@dataclass(frozen=True)
class AnalysisSummary:
    """All of an analysis but the landmarks. `media` is a `MediaInfo` as a dict, `cuts` are seconds of new shots."""

    kind: str
    model_set: str
    width: int
    height: int
    frames: int
    duration: float
    tracks: tuple[Track, ...]
    cuts: tuple[float, ...] = ()
    warnings: tuple[str, ...] = ()
    peak_rss: int = 0

    def to_dict(self, *, descriptors: bool = True) -> dict[str, Any]:
        """A JSON-able copy; without `descriptors` it holds nothing biometric and may be shown or logged."""
        raw = asdict(self)
        if not descriptors:
            for track in raw["tracks"]:
                del track["descriptor"]
        return raw

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote, descriptors or not. Raises AnalysisError.

        Every value is brought to its type here: the file was written by a process that had parsed untrusted media.
        """
        try:
            return cls(
                kind="video" if raw["kind"] == "video" else "photo",
                model_set=str(raw["model_set"]),
                width=int(raw["width"]),
                height=int(raw["height"]),
                frames=int(raw["frames"]),
                duration=float(raw["duration"]),
                tracks=tuple(_track(track) for track in raw["tracks"]),
                cuts=tuple(float(cut) for cut in raw["cuts"]),
                warnings=tuple(str(warning) for warning in raw["warnings"]),
                peak_rss=int(raw.get("peak_rss", 0)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise AnalysisError(str(error)) from error


def _track(raw: Mapping[str, Any]) -> Track:
    left, top, width, height = (float(value) for value in raw["box"])
    descriptor = raw.get("descriptor")
    if descriptor is not None:
        descriptor = tuple(float(value) for value in descriptor)
        if len(descriptor) != _DESCRIPTOR:
            raise ValueError("descriptor length")
    return Track(
        id=int(raw["id"]),
        first_seconds=float(raw["first_seconds"]),
        last_seconds=float(raw["last_seconds"]),
        frames=int(raw["frames"]),
        best_index=int(raw["best_index"]),
        best_seconds=float(raw["best_seconds"]),
        box=(left, top, width, height),
        size=float(raw["size"]),
        yaw=float(raw["yaw"]),
        descriptor=descriptor,
    )


class AnalysisWriter:
    """Write frames as they come, then the summary; the file appears on `finish`, or not at all."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._half = path.with_name(f".{path.name}.part")
        self._file: BinaryIO = self._half.open("wb")
        self._file.write(_MAGIC)
        self._records: list[bytes] = []

    def add(self, frame: AnalysedFrame) -> None:
        """Append one frame; frames come in order, those without faces may be left out."""
        parts = [_FRAME.pack(frame.index, frame.seconds, len(frame.faces))]
        for face in frame.faces:
            low = face.landmarks.min(0).astype(np.float32)
            step = np.maximum((face.landmarks.max(0) - low) / 65535, 1e-9).astype(np.float32)
            values = np.clip(np.rint((face.landmarks - low) / step), 0, 65535).astype("<u2")
            parts.append(_FACE.pack(face.track, face.score, *face.box, *low, *step))
            parts.append(values.tobytes())
        self._records.append(b"".join(parts))
        if len(self._records) >= _FRAMES_PER_CHUNK:
            self._flush()

    def finish(self, summary: AnalysisSummary) -> None:
        """Write the summary and let the file appear. Raises OSError."""
        try:
            self._flush()
            self._file.write(struct.pack("<I", 0))
            text = json.dumps(summary.to_dict(), separators=(",", ":")).encode()
            offset = self._file.tell()
            self._file.write(text + _FOOTER.pack(offset, zlib.crc32(text), _MAGIC))
            self._file.close()
            self._half.replace(self._path)
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Leave nothing behind. May be called twice."""
        with suppress(OSError):  # a full disk: the file is thrown away anyway
            self._file.close()
        self._half.unlink(missing_ok=True)

    def _flush(self) -> None:
        if self._records:
            packed = zlib.compress(b"".join(self._records), 1)
            self._file.write(struct.pack("<I", len(packed)) + packed)
            self._records = []


class Analysis:
    """A stored analysis: the summary in memory, the frames read as they are asked for."""

    def __init__(self, path: Path, summary: AnalysisSummary, part: _Part | None = None) -> None:
        self.path = path
        self._summary = summary
        self._part = part

    @classmethod
    def load(cls, path: Path) -> Self:
        """Open an analysis and read its summary. Raises AnalysisError, OSError."""
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size < len(_MAGIC) + _FOOTER.size:
                raise AnalysisError("too short")
            file.seek(size - _FOOTER.size)
            offset, check, magic = _FOOTER.unpack(file.read(_FOOTER.size))
            length = size - _FOOTER.size - offset
            if magic != _MAGIC or not 0 < length <= _MAX_SUMMARY:
                raise AnalysisError("no end mark")
            file.seek(offset)
            text = file.read(length)
        if zlib.crc32(text) != check:
            raise AnalysisError("checksum")
        try:
            raw = json.loads(text)
        except ValueError as error:
            raise AnalysisError("summary") from error
        return cls(path, AnalysisSummary.from_dict(raw))

    def save(self, path: Path) -> None:
        """Write a copy of this analysis to `path`; it appears whole or not at all."""
        writer = AnalysisWriter(path)
        try:
            for frame in self.frames():
                writer.add(frame)
        except BaseException:
            writer.abort()
            raise
        writer.finish(self._summary)

    def part(self, holds: Callable[[float], bool], size: tuple[int, int]) -> Analysis:
        """The same analysis whose `frames` are those that `holds` (of seconds), scaled to `size` (width, height).

        Numbers and times of frames, and the summary, stay those of the whole.
        """
        factors = np.array([size[0] / self._summary.width, size[1] / self._summary.height], np.float32)
        return Analysis(self.path, self._summary, _Part(holds, factors))

    @property
    def tracks(self) -> tuple[Track, ...]:
        return self._summary.tracks

    @property
    def info(self) -> AnalysisSummary:
        """The summary as an object."""
        return self._summary

    def summary(self) -> dict[str, Any]:
        """Return what a page may show: faces or tracks with box, times, size and yaw, nothing biometric."""
        return self._summary.to_dict(descriptors=False)

    def frames(self) -> Iterator[AnalysedFrame]:
        """Yield the frames in order, holding one chunk at a time. Raises AnalysisError."""
        with self.path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise AnalysisError("not an analysis")
            while True:
                head = file.read(4)
                if len(head) < 4:
                    raise AnalysisError("ends early")
                (length,) = struct.unpack("<I", head)
                if length == 0:
                    return
                if length > _MAX_CHUNK:
                    raise AnalysisError("chunk size")
                found = _unpack(file.read(length))
                yield from found if self._part is None else self._part.of(found)


@dataclass(frozen=True)
class _Part:
    holds: Callable[[float], bool]
    factors: NDArray[np.float32]

    def of(self, frames: Iterator[AnalysedFrame]) -> Iterator[AnalysedFrame]:
        for frame in frames:
            if self.holds(frame.seconds):
                yield AnalysedFrame(frame.index, frame.seconds, tuple(self._scaled(face) for face in frame.faces))

    def _scaled(self, face: FrameFace) -> FrameFace:
        across, down = self.factors
        if across == down == 1:
            return face
        box = face.box * np.array([across, down, across, down], np.float32)
        deep = np.array([across, down, np.sqrt(across * down)], np.float32)
        return FrameFace(face.track, face.score, box, face.landmarks * deep)


def _unpack(packed: bytes) -> Iterator[AnalysedFrame]:
    try:
        data = zlib.decompressobj().decompress(packed, _MAX_CHUNK)
        at = 0
        while at < len(data):
            index, seconds, count = _FRAME.unpack_from(data, at)
            at += _FRAME.size
            faces = []
            for _ in range(count):
                track, score, *numbers = _FACE.unpack_from(data, at)
                at += _FACE.size
                values = np.frombuffer(data, "<u2", _LANDMARKS * 3, at).reshape(_LANDMARKS, 3)
                at += _LANDMARK_BYTES
                low, step = np.array(numbers[4:7], np.float32), np.array(numbers[7:10], np.float32)
                landmarks = (low + step * values).astype(np.float32)
                faces.append(FrameFace(track, score, np.array(numbers[:4], np.float32), landmarks))
            yield AnalysedFrame(index, seconds, tuple(faces))
    except (struct.error, ValueError, zlib.error) as error:
        raise AnalysisError(str(error)) from error
