"""Carry sound, subtitles and chapters of a video over into its result. Runs inside the media child only.

Used wherever a result is put together: `Kept` says what there is and how times move, `Tracks` writes it into an open
output. What the container takes is copied packet by packet; other sound becomes AAC, other text becomes mov_text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any, Final, Protocol

import av

from worker.media.encoders import Container
from worker.media.errors import MediaError
from worker.media.timing import Timeline
from worker.media.types import MAX_CHAPTERS
from worker.media.video import VideoReader

COPIED: Final[Mapping[Container, frozenset[str]]] = {
    "mp4": frozenset({"aac", "aac_latm", "ac3", "eac3", "opus", "libopus"}),
    "mov": frozenset({"aac", "aac_latm", "ac3", "eac3"}),
}
"""Sound that goes into the container as it is; the names are those of FFmpeg's decoders."""
_AAC_RATES: Final = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
_DISPOSITIONS: Final = (
    av.stream.Disposition.default
    | av.stream.Disposition.dub
    | av.stream.Disposition.original
    | av.stream.Disposition.comment
    | av.stream.Disposition.forced
    | av.stream.Disposition.hearing_impaired
    | av.stream.Disposition.visual_impaired
    | av.stream.Disposition.captions
    | av.stream.Disposition.descriptions
)
_OPUS_ROLL: Final = Fraction(80, 1000)
"""What an Opus decoder wants to hear before the place it is to play (RFC 7845, section 4.6)."""
_CUE_SECONDS: Final = 4
"""For a subtitle that does not say how long it stands and has none after it."""
_QUICKTIME_LANGUAGES: Final = {
    "deu": "ger",
    "nld": "dut",
    "ell": "gre",
    "isl": "ice",
    "zho": "chi",
    "sqi": "alb",
    "mkd": "mac",
    "swe": "sve",
    "rum": "ron",
    "cze": "ces",
    "slo": "slk",
    "fre": "fra",
}
"""Languages that QuickTime's closed list has under another code (FFmpeg, mov_mdhd_language_map)."""
_MOST_TITLE: Final = 200
_TITLE_VOCABULARY: Final = """
    ac3 aac opus audio track sound stereo mono surround 2.0 5.1 7.1 original dubbed dub commentary director
    directors director's description descriptive captions closed cc sdh subtitles subtitle forced full signs songs
    music effects and for the hard of hearing impaired visually hearing-impaired simplified traditional brazilian
    european latin american british castilian english german french spanish italian portuguese dutch chinese mandarin
    cantonese japanese korean arabic russian polish turkish hindi danish swedish norwegian finnish czech greek hebrew
    hungarian romanian thai vietnamese ukrainian indonesian
"""
_TITLE_WORDS: Final = frozenset(_TITLE_VOCABULARY.split())
"""A track's title is kept if it says nothing but what kind of track it is: any other word may name a person."""


@dataclass(frozen=True)
class Chapter:
    """`start` and `end` in seconds of the result."""

    start: Fraction
    end: Fraction
    title: str


@dataclass(frozen=True)
class Kept:
    """What of a video is carried over. `shift` is taken off all times; what begins at or after `end` is left out.

    Both are seconds on the source's clock; with a `shift` of 0 and no `end` all times stay as they are.
    """

    sounds: tuple[Any, ...] = ()
    texts: tuple[Any, ...] = ()
    chapters: tuple[Chapter, ...] = ()
    shift: Fraction = Fraction(0)
    end: Fraction | None = None
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, reader: VideoReader, timeline: Timeline) -> Kept:
        """Everything of an open video that can be kept."""
        raw = reader.chapters()
        chapters = _chapters(raw[:MAX_CHAPTERS], timeline)
        warnings = ("chapters_dropped",) if len(raw) > MAX_CHAPTERS else ()
        return cls(reader.sounds, reader.texts, chapters, timeline.shift, timeline.end, warnings)


class _Track(Protocol):
    stream: Any

    def write(self, packet: Any) -> None: ...

    def flush(self) -> None: ...


class Tracks:
    """The other tracks of one output. Made before the header is written; `write` takes packets in the file's order.

    `warnings`: `subtitles_dropped` where text could not be converted, `chapters_dropped` where there were too many.
    Raises MediaError `audio_unreadable`.
    """

    def __init__(self, container: Any, name: Container, kept: Kept) -> None:
        """`container` is an output of FFmpeg that has its picture track already; `name` is its kind."""
        self._kept = kept
        self.warnings = list(kept.warnings)
        self._tracks: dict[int, _Track] = {}
        renamed = _QUICKTIME_LANGUAGES if name == "mov" else {}
        for source in kept.sounds:
            if _is_copied(source, name):
                track: _Track = _Copy(container, source)
            else:
                track = _Reencoded(container, source)
            _describe(track.stream, source, renamed)
            self._tracks[source.index] = track
        for source in kept.texts:
            text = _Text(container, source, self._warn)
            _describe(text.stream, source, renamed)
            self._tracks[source.index] = text
        if kept.chapters:
            container.set_chapters(
                [
                    {
                        "id": number,
                        "start": round(one.start * 1000),
                        "end": round(one.end * 1000),
                        "time_base": Fraction(1, 1000),
                        "metadata": {"title": one.title},
                    }
                    for number, one in enumerate(kept.chapters)
                ]
            )

    def write(self, packet: Any) -> None:
        """Move one packet of a kept track in time and write it, unless it lies outside what is kept."""
        track = self._tracks.get(packet.stream.index)
        if track is not None and self._moved(packet):
            track.write(packet)

    def flush(self) -> None:
        """Write what encoders still hold."""
        for track in self._tracks.values():
            track.flush()

    def _moved(self, packet: Any) -> bool:
        """Set the packet's times for the result; False for one that is not kept.

        The packet before the first is kept with a negative time, which the container's edit list hides: what is decoded
        from it makes the first one sound right.
        """
        kept = self._kept
        if not kept.shift and kept.end is None:
            return True
        base = packet.time_base
        time = packet.dts if packet.pts is None else packet.pts
        begin = time * base
        length = (packet.duration or 0) * base
        if kept.end is not None and begin >= kept.end:
            return False
        shift = round(kept.shift / base)
        if packet.stream.type == "subtitle":
            first = max(time, shift)
            last = time + (packet.duration or 0)
            if kept.end is not None:
                last = min(last, round(kept.end / base))
            if packet.duration and last <= first:
                return False
            packet.pts = packet.dts = first - shift
            packet.duration = max(0, last - first)
            return True
        roll = max(length, _OPUS_ROLL if "opus" in packet.stream.codec_context.name else Fraction(0))
        if kept.shift and begin + length + roll <= kept.shift:
            return False
        packet.dts -= shift
        if packet.pts is not None:
            packet.pts -= shift
        return True

    def _warn(self, code: str) -> None:
        if code not in self.warnings:
            self.warnings.append(code)


class _Copy:
    """Sound that the container takes as it is."""

    def __init__(self, container: Any, source: Any) -> None:
        self._container = container
        self.stream = container.add_stream_from_template(source)
        self._last: int | None = None

    def write(self, packet: Any) -> None:
        # A file whose sound runs backwards for a moment plays everywhere; a muxer refuses it.
        if self._last is not None and packet.dts < self._last:
            packet.dts = packet.pts = self._last
        self._last = packet.dts
        packet.stream = self.stream
        self._container.mux(packet)

    def flush(self) -> None:
        """Nothing is held back."""


class _Reencoded:
    """Sound that becomes AAC: mono or stereo."""

    def __init__(self, container: Any, source: Any) -> None:
        self._container = container
        self._source = source
        rate = source.codec_context.sample_rate
        self.stream = container.add_stream("aac", rate=rate if rate in _AAC_RATES else 48000)
        self.stream.layout = "stereo" if source.codec_context.channels >= 2 else "mono"
        self._resampler = av.AudioResampler(
            format="fltp", layout=self.stream.layout, rate=self.stream.rate, frame_size=1024
        )

    def write(self, packet: Any) -> None:
        try:
            frames = packet.decode()
        except (av.FFmpegError, ValueError) as error:
            raise MediaError("audio_unreadable", str(error)) from error
        for frame in frames:
            self._encode(frame)

    def flush(self) -> None:
        for frame in self._source.codec_context.decode(None):
            self._encode(frame)
        self._encode(None)
        for packet in self.stream.encode(None):
            self._container.mux(packet)

    def _encode(self, frame: Any) -> None:
        for ready in self._resampler.resample(frame):
            for packet in self.stream.encode(ready):
                self._container.mux(packet)


class _Text:
    """Subtitles as mov_text (3GPP TS 26.245): copied, or decoded and encoded again with their bold and italics."""

    def __init__(self, container: Any, source: Any, warn: Callable[[str], None]) -> None:
        self._container = container
        self._source = source
        self._warn = warn
        self._copied = source.codec_context.name == "mov_text"
        self._last = -1
        if self._copied:
            self.stream = container.add_stream_from_template(source)
        else:
            decoder = source.codec_context
            decoder.open(strict=False)
            self.stream = container.add_stream("mov_text")
            self.stream.codec_context.subtitle_header = decoder.subtitle_header
            self.stream.codec_context.time_base = Fraction(1, 1000)

    def write(self, packet: Any) -> None:
        if self._copied:
            if packet.size > 2:  # shorter ones are silence, which the muxer writes by itself
                self._mux(packet, packet.pts, packet.duration, packet.time_base)
            return
        try:
            found = self._source.codec_context.decode2(packet)
            made = [] if found is None or not len(found) else [self.stream.codec_context.encode_subtitle(found)]
        except (av.FFmpegError, ValueError):
            self._warn("subtitles_dropped")
            return
        for text in made:
            self._mux(text, packet.pts, packet.duration or round(_CUE_SECONDS / packet.time_base), packet.time_base)

    def flush(self) -> None:
        """Nothing is held back."""

    def _mux(self, packet: Any, pts: int, duration: int, base: Fraction) -> None:
        pts = max(pts, self._last + 1)  # those that overlap or run backwards follow one another
        self._last = pts
        packet.pts = packet.dts = pts
        packet.duration, packet.time_base = duration, base
        packet.stream = self.stream
        self._container.mux(packet)


def _is_copied(source: Any, name: Container) -> bool:
    codec = source.codec_context
    if codec.name not in COPIED[name]:
        return False
    return bool(codec.extradata) or codec.name in ("ac3", "eac3")


def _describe(stream: Any, source: Any, renamed: Mapping[str, str]) -> None:
    """Give `stream` the language, the role and, if it is harmless, the title of `source`."""
    language = (source.metadata.get("language") or "").lower()
    if re.fullmatch(r"[a-z]{3}", language):
        stream.metadata["language"] = renamed.get(language, language)
    title = source.metadata.get("title") or source.metadata.get("name") or ""
    if title and _is_plain(title):
        stream.metadata["title"] = title
    stream.disposition = source.disposition & _DISPOSITIONS


def _is_plain(title: str) -> bool:
    words = re.sub(r"[()\[\]/,:&+-]", " ", title).lower().split()
    return len(title) <= _MOST_TITLE and all(word in _TITLE_WORDS for word in words)


def _chapters(raw: Sequence[Mapping[str, Any]], timeline: Timeline) -> tuple[Chapter, ...]:
    """Chapters of the result: cut to what is kept, in order, without overlaps."""
    found = []
    for one in raw:
        base = one["time_base"] or Fraction(1, 1000)
        start, end = one["start"] * base, one["end"] * base
        if timeline.end is not None:
            end = min(end, timeline.end)
        start, end = max(Fraction(0), start - timeline.shift), end - timeline.shift
        if end > start:
            found.append(Chapter(start, end, _title(one)))
    found.sort(key=lambda one: one.start)
    ends = [min(one.end, later.start) for one, later in pairwise(found)] + [one.end for one in found[-1:]]
    return tuple(Chapter(one.start, end, one.title) for one, end in zip(found, ends, strict=True) if end > one.start)


def _title(raw: Mapping[str, Any]) -> str:
    """A chapter's title on one line: it is part of the work, as the subtitles are."""
    text = str(raw.get("metadata", {}).get("title", ""))
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())[:_MOST_TITLE]
