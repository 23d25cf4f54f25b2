"""The analysis of an asset: faces, tracks, landmarks and cuts, found once and used by every later step.

One file, written and read front to back in constant memory whatever the length:

    magic | form | { u32 length | zlib(frame records) }* | u32 0 | JSON summary | u64 offset, u32 CRC-32 of it | magic

The form says what a face holds: `points u16, axes u16, numbers u16`, so N landmarks in 2 or 3 dimensions and
descriptors of D numbers. A frame record is `index u32, seconds f64, faces u16`, a face record `track i32, score f32,
box 4 f32, low 3 f32, step 3 f32, landmarks u16 [points, axes]` (little endian); a landmark is `low + step * value`.
Sixteen bits over the extent of one face place a point of a 1000-pixel face within 0.01 pixel, at a quarter of the size
of text. The first version had no form: 478 points of the mesh, 3 axes, 128 numbers; it is still read.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import numpy as np
from numpy.typing import NDArray

from worker.pipeline.analysed import (
    MESH,
    AnalysedFrame,
    AnalysisError,
    AnalysisSummary,
    Form,
    FrameFace,
    Track,
)

_FIRST_MAGIC: Final = b"IMPANL01"
_MAGIC: Final = b"IMPANL02"
_FORM: Final = struct.Struct("<HHH")
_FRAME: Final = struct.Struct("<IdH")
_FACE: Final = struct.Struct("<if4f3f3f")
_FOOTER: Final = struct.Struct("<QI8s")
_FRAMES_PER_CHUNK: Final = 32
_MAX_CHUNK: Final = 64 << 20
_MAX_SUMMARY: Final = 64 << 20


class AnalysisWriter:
    """Write frames as they come, then the summary; the file appears on `finish`, or not at all."""

    def __init__(self, path: Path, form: Form = MESH) -> None:
        """Every face that is added has landmarks of this form."""
        self._path = path
        self._form = form
        self._half = path.with_name(f".{path.name}.part")
        self._file: BinaryIO = self._half.open("wb")
        self._file.write(_MAGIC + _FORM.pack(form.points, form.axes, form.numbers))
        self._records: list[bytes] = []

    def add(self, frame: AnalysedFrame) -> None:
        """Append one frame; frames come in order. Those without faces carry the times that segments are found by."""
        parts = [_FRAME.pack(frame.index, frame.seconds, len(frame.faces))]
        for face in frame.faces:
            if face.landmarks.shape != (self._form.points, self._form.axes):
                raise ValueError(f"landmarks {face.landmarks.shape} do not have the form of this analysis")
            low = face.landmarks.min(0).astype(np.float32)
            step = np.maximum((face.landmarks.max(0) - low) / 65535, 1e-9).astype(np.float32)
            values = np.clip(np.rint((face.landmarks - low) / step), 0, 65535).astype("<u2")
            unused = (0.0,) * (3 - self._form.axes)
            parts.append(_FACE.pack(face.track, face.score, *face.box, *low, *unused, *step, *unused))
            parts.append(values.tobytes())
        self._records.append(b"".join(parts))
        if len(self._records) >= _FRAMES_PER_CHUNK:
            self._flush()

    def finish(self, summary: AnalysisSummary) -> None:
        """Write the summary and let the file appear. Raises OSError."""
        try:
            self._flush()
            self._file.write(struct.pack("<I", 0))
            text = json.dumps(replace(summary, form=self._form).to_dict(), separators=(",", ":")).encode()
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
            if magic not in (_MAGIC, _FIRST_MAGIC) or not 0 < length <= _MAX_SUMMARY:
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
        writer = AnalysisWriter(path, self._summary.form)
        try:
            for frame in self.frames():
                writer.add(frame)
        except BaseException:
            writer.abort()
            raise
        writer.finish(replace(self._summary, persons={}))  # the frames were read with their tracks' numbers

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

    def frames(self, first: int = 0) -> Iterator[AnalysedFrame]:
        """Yield the frames from number `first` on in order, holding one chunk at a time. Raises AnalysisError.

        Of the chunks before `first` only the heads are unpacked, so that to begin late costs little.
        """
        found = self._found(first)
        yield from found if self._part is None else self._part.of(found)

    def _found(self, first: int) -> Iterator[AnalysedFrame]:
        """As `frames`, of the whole file."""
        waiting, summary = b"", self._summary
        for packed in self._chunks():
            if first and waiting and _first_index(packed) > first:
                yield from (frame for frame in _unpack(waiting, summary) if frame.index >= first)
                first, waiting = 0, b""
            if first:
                waiting = packed
            else:
                yield from _unpack(packed, summary)
        if waiting:
            yield from (frame for frame in _unpack(waiting, summary) if frame.index >= first)

    def times(self) -> NDArray[np.float64] | None:
        """Seconds of every frame, float64 [frames]; None where frames without faces were left out (older analyses).

        Raises AnalysisError.
        """
        seconds: list[float] = []
        face_bytes = _FACE.size + 2 * self._summary.form.points * self._summary.form.axes
        for packed in self._chunks():
            data = _inflate(packed)
            at = 0
            while at < len(data):
                index, when, count = _record(data, at)
                if index != len(seconds):
                    return None
                seconds.append(when)
                at += _FRAME.size + count * face_bytes
        return np.array(seconds, np.float64) if len(seconds) == self._summary.frames else None

    def _chunks(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            form = _read_form(file)
            if form != self._summary.form:
                raise AnalysisError("form")
            while True:
                head = file.read(4)
                if len(head) < 4:
                    raise AnalysisError("ends early")
                (length,) = struct.unpack("<I", head)
                if length == 0:
                    return
                if length > _MAX_CHUNK:
                    raise AnalysisError("chunk size")
                yield file.read(length)


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


def _inflate(packed: bytes, most: int = _MAX_CHUNK) -> bytes:
    try:
        return zlib.decompressobj().decompress(packed, most)
    except zlib.error as error:
        raise AnalysisError(str(error)) from error


def _record(data: bytes, at: int) -> tuple[int, float, int]:
    try:
        index, seconds, count = _FRAME.unpack_from(data, at)
    except struct.error as error:
        raise AnalysisError(str(error)) from error
    return int(index), float(seconds), int(count)


def _first_index(packed: bytes) -> int:
    return _record(_inflate(packed, _FRAME.size), 0)[0]


def _read_form(file: BinaryIO) -> Form:
    """The form that the file begins with. Raises AnalysisError."""
    magic = file.read(len(_MAGIC))
    if magic == _FIRST_MAGIC:
        return MESH
    if magic != _MAGIC:
        raise AnalysisError("not an analysis")
    try:
        return Form(*_FORM.unpack(file.read(_FORM.size)))
    except (struct.error, ValueError) as error:
        raise AnalysisError("form") from error


def _unpack(packed: bytes, summary: AnalysisSummary) -> Iterator[AnalysedFrame]:
    form, persons = summary.form, summary.persons
    try:
        data = _inflate(packed)
        at = 0
        while at < len(data):
            index, seconds, count = _FRAME.unpack_from(data, at)
            at += _FRAME.size
            faces = []
            for _ in range(count):
                track, score, *numbers = _FACE.unpack_from(data, at)
                at += _FACE.size
                values = np.frombuffer(data, "<u2", form.points * form.axes, at).reshape(form.points, form.axes)
                at += values.nbytes
                low, step = np.array(numbers[4:7], np.float32), np.array(numbers[7:10], np.float32)
                low, step = low[: form.axes], step[: form.axes]
                landmarks = (low + step * values).astype(np.float32)
                faces.append(FrameFace(persons.get(track, track), score, np.array(numbers[:4], np.float32), landmarks))
            yield AnalysedFrame(index, seconds, tuple(faces))
    except (struct.error, ValueError) as error:
        raise AnalysisError(str(error)) from error
