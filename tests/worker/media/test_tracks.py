"""Sound in several languages, subtitles and chapters: kept in their places, cut with the picture, bounded."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from worker.media import client
from worker.media.encode import VideoWriter
from worker.media.errors import MediaError
from worker.media.planes import Planes
from worker.media.timing import Timeline, Window, first_frame
from worker.media.tracks import Kept
from worker.media.types import MAX_CHAPTERS, MAX_CUE_BYTES, MAX_TRACKS
from worker.media.video import VideoReader

Cue = tuple[float, float, str]
CUES: list[Cue] = [(0.2, 0.8, "Hello <i>you</i>"), (1.0, 1.5, "Zweite\nZeile"), (1.6, 1.9, "再见")]
CHAPTERS = [(0.0, 1.0, "Begin"), (1.0, 2.0, "Zwei ü")]


@pytest.fixture
def film(tmp_path: Path) -> Callable[..., Path]:
    """Return a maker of films of two seconds with several tracks."""

    def make(
        name: str = "film.mkv",
        *,
        sounds: tuple[tuple[str, str, str], ...] = (("aac", "eng", ""), ("libopus", "deu", "Commentary")),
        cues: list[Cue] | None = None,
        subtitles: tuple[str, ...] = ("fra",),
        chapters: list[tuple[float, float, str]] | None = None,
    ) -> Path:
        path = tmp_path / name
        text = "mov_text" if path.suffix == ".mp4" else "subrip"
        with av.open(str(path), "w") as out:
            picture: Any = out.add_stream("libx264", rate=25, options={"preset": "ultrafast", "g": "10"})
            picture.width, picture.height, picture.pix_fmt = 128, 96, "yuv420p"
            tones: list[Any] = []
            for codec, language, title in sounds:
                tone: Any = out.add_stream(codec, rate=48000, layout="stereo")
                tone.metadata.update({"language": language} | ({"title": title} if title else {}))
                tones.append(tone)
            if len(tones) > 1:
                tones[1].disposition = av.stream.Disposition.comment
            words: list[Any] = []
            for language in subtitles:
                one: Any = out.add_mux_stream(text)
                one.metadata["language"] = language
                words.append(one)
            out.set_chapters(
                [
                    {
                        "id": number,
                        "start": round(start * 1000),
                        "end": round(end * 1000),
                        "time_base": Fraction(1, 1000),
                        "metadata": {"title": title},
                    }
                    for number, (start, end, title) in enumerate(CHAPTERS if chapters is None else chapters)
                ]
            )
            out.start_encoding()
            for word in words:
                for start, end, said in CUES if cues is None else cues:
                    packet = av.Packet(said.encode())
                    packet.stream, packet.time_base = word, Fraction(1, 1000)
                    packet.pts = packet.dts = round(start * 1000)
                    packet.duration = round((end - start) * 1000)
                    out.mux(packet)
            for index in range(50):
                frame = av.VideoFrame.from_ndarray(np.full((96, 128, 3), index * 5, np.uint8), "rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 25)
                out.mux(picture.encode(frame))
            for number, tone in enumerate(tones):
                _sing(out, tone, 300 + 200 * number)
            for stream in (picture, *tones):
                out.mux(stream.encode(None))
        return path

    return make


def _sing(out: Any, stream: Any, pitch: int) -> None:
    """Two seconds of a tone that is silent in its first second."""
    size = stream.codec_context.frame_size or 960
    form = stream.codec_context.format.name
    for start in range(0, 96000, size):
        time = (start + np.arange(size)) / 48000
        wave = 0.3 * np.sin(2 * np.pi * pitch * time) * (time >= 1)
        samples = np.stack([wave, wave]) if form.endswith("p") else np.repeat(wave, 2)[None]
        values = samples.astype(np.float32) if form.startswith("flt") else (samples * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(values), form, "stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        out.mux(stream.encode(frame))


def _again(path: Path, out: Path, window: Window | None = None) -> list[str]:
    """Write the film again and return the warnings."""
    window = window or Window()
    container = "mov" if path.suffix in (".mp4", ".mov") else "matroska"
    first = None
    if window.start:
        with path.open("rb") as file:
            first = first_frame(file, container, window.start)
    with path.open("rb") as file, VideoReader(file, container) as reader:
        timeline = Timeline.of(reader, window, first=first)
        shape = {"size": reader.size, "time_base": timeline.time_base, "rate": timeline.rate}
        kind = "mov" if out.suffix == ".mov" else "mp4"
        writer = VideoWriter(out, **shape, container=kind, kept=Kept.of(reader, timeline))
        planes = Planes(reader.size)
        try:
            for what, item in timeline.items(reader.items()):
                if what == "picture":
                    reader.fill(item[1], planes)
                    writer.write(planes, *item[0].pts)
                else:
                    writer.write_track(item)
            writer.finish()
        finally:
            writer.abort()
        return [*reader.warnings, *writer.warnings]


def _cues(path: Path) -> list[Cue]:
    found = []
    with av.open(str(path)) as source:
        for packet in source.demux(subtitles=0):
            data = bytes(packet) if packet.size else b""
            length = int.from_bytes(data[:2], "big")
            if length:
                start = packet.pts * packet.time_base
                end = start + packet.duration * packet.time_base
                found.append((round(float(start), 3), round(float(end), 3), data[2 : 2 + length].decode()))
    return found


def _wave(path: Path, track: int = 0) -> tuple[np.ndarray, int, float]:
    """Samples of one channel from time 0 on, the rate, and the time of the first sample."""
    with av.open(str(path)) as source:
        frames = list(source.decode(audio=track))
        rate = frames[0].sample_rate
        first = float(frames[0].pts * frames[0].time_base)
        return np.concatenate([frame.to_ndarray().astype(float).reshape(2, -1)[0] for frame in frames]), rate, first


def _pitch(path: Path, track: int) -> float:
    wave, rate, _ = _wave(path, track)
    last = wave[-rate // 2 - 2048 : -2048]
    return float(np.abs(np.fft.rfft(last)).argmax() * rate / len(last))


@pytest.mark.parametrize(("into", "second"), [("mp4", "opus"), ("mov", "aac")])
def test_two_sounds_subtitles_and_chapters_survive(film, tmp_path, into, second):
    source = film()
    out = tmp_path / f"out.{into}"
    assert _again(source, out) == []
    with av.open(str(out)) as result:
        sounds, (text,) = result.streams.audio, result.streams.subtitles
        assert [one.codec_context.name.removeprefix("lib") for one in sounds] == ["aac", second]
        # QuickTime has a list of its own, in which German goes by its English name.
        german = "ger" if into == "mov" else "deu"
        assert [one.language for one in (*sounds, text)] == ["eng", german, "fra"]
        assert sounds[0].disposition & av.stream.Disposition.default
        assert sounds[1].metadata.get("name") == "Commentary"
        chapters = [
            (float(one["start"] * one["time_base"]), float(one["end"] * one["time_base"]), one["metadata"]["title"])
            for one in result.chapters()
        ]
    assert chapters == CHAPTERS
    assert _cues(out) == [(start, end, said.replace("<i>", "").replace("</i>", "")) for start, end, said in CUES]
    assert [_pitch(out, track) for track in (0, 1)] == pytest.approx([300, 500], abs=4)
    assert client.probe(out).frames == 50


def test_a_second_way_through_changes_nothing_more(film, tmp_path):
    once, twice = tmp_path / "once.mp4", tmp_path / "twice.mp4"
    _again(film(), once)
    assert _again(once, twice) == []
    assert _cues(once) == _cues(twice)
    for track in (0, 1):
        packets = []
        for path in (once, twice):
            with av.open(str(path)) as source:
                packets.append([bytes(packet) for packet in source.demux(audio=track) if packet.size])
        assert packets[0] == packets[1]


@pytest.mark.parametrize("codec", ["ac3", "libopus"])
def test_sound_that_the_container_holds_is_copied_bit_for_bit(film, tmp_path, codec):
    source, out = film(sounds=((codec, "eng", ""),)), tmp_path / "out.mp4"
    _again(source, out)
    packets = []
    for path in (source, out):
        with av.open(str(path)) as opened:
            packets.append([bytes(packet) for packet in opened.demux(audio=0) if packet.size])
    assert packets[0] == packets[1]


@pytest.mark.parametrize("codec", ["aac", "libopus", "ac3", "flac"])
def test_a_part_cuts_sound_subtitles_and_chapters_at_the_same_place(film, tmp_path, codec):
    out = tmp_path / "part.mp4"
    _again(film(sounds=((codec, "eng", ""),)), out, Window(0.6, 1.7))
    assert _cues(out) == [(0.0, 0.2, "Hello you"), (0.4, 0.9, "Zweite\nZeile"), (1.0, 1.1, "再见")]
    with av.open(str(out)) as result:
        assert [
            (float(one["start"] * one["time_base"]), float(one["end"] * one["time_base"])) for one in result.chapters()
        ] == [(0.0, 0.4), (0.4, 1.1)]
    wave, rate, first = _wave(out)
    # The tone begins at 1.0 s of the source, which is 0.4 s of the part.
    loud = first + float(np.flatnonzero(np.abs(wave) > 0.1)[0]) / rate
    assert loud == pytest.approx(0.4, abs=0.02)
    assert first + len(wave) / rate == pytest.approx(1.1, abs=0.1)


def test_a_title_that_may_name_somebody_is_left_out_and_one_that_tells_the_kind_is_kept(film, tmp_path):
    titles = ("Director's Commentary (Stereo)", "Recorded by Ada Lovelace")
    out = tmp_path / "out.mp4"
    _again(film(sounds=(("aac", "eng", titles[0]), ("aac", "not a language", titles[1]))), out)
    with av.open(str(out)) as result:
        assert [one.metadata.get("name") for one in result.streams.audio] == [titles[0], None]
        assert [one.language for one in result.streams.audio] == ["eng", "und"]
    assert b"Lovelace" not in out.read_bytes()


def test_subtitles_that_stand_at_once_follow_one_another(film, tmp_path):
    out = tmp_path / "out.mp4"
    _again(film(cues=[(0.5, 1.5, "one"), (0.5, 1.0, "two"), (0.5, 0.7, "three")]), out)
    found = _cues(out)
    assert [said for _, _, said in found] == ["one", "two", "three"]
    assert [start for start, _, _ in found] == sorted({start for start, _, _ in found})


def test_more_tracks_than_a_file_may_have_are_refused(film):
    with pytest.raises(MediaError) as caught:
        client.probe(film(sounds=(), subtitles=("fra",) * (MAX_TRACKS + 1)))
    assert caught.value.code == "too_many_streams"


def test_one_giant_subtitle_and_too_many_of_them_are_refused(film, tmp_path, monkeypatch):
    giant = film("giant.mkv", cues=[(0.1, 0.5, "x" * (MAX_CUE_BYTES + 1))])
    with pytest.raises(MediaError) as caught:
        _again(giant, tmp_path / "out.mp4")
    assert caught.value.code == "subtitles_too_large"
    monkeypatch.setattr("worker.media.video.MAX_CUES", 500)
    many = film("many.mkv", cues=[(0.003 * number, 0.003 * number + 0.002, "x") for number in range(600)])
    with pytest.raises(MediaError) as caught:
        _again(many, tmp_path / "out.mp4")
    assert caught.value.code == "subtitles_too_large"
    assert not (tmp_path / "out.mp4").exists()
    assert not list(tmp_path.glob(".*.part"))


def test_more_chapters_than_fit_are_left_out_and_that_is_said(film, tmp_path):
    step = 2 / (MAX_CHAPTERS + 50)
    many = [(step * number, step * (number + 1), f"{number}") for number in range(MAX_CHAPTERS + 50)]
    out = tmp_path / "out.mp4"
    assert _again(film(chapters=many), out) == ["chapters_dropped"]
    with av.open(str(out)) as result:
        assert len(result.chapters()) == MAX_CHAPTERS


def test_chapter_titles_are_one_short_line(film, tmp_path):
    out = tmp_path / "out.mp4"
    _again(film(chapters=[(0, 1, "a\nb\x07c"), (1, 2, "y" * 5000)]), out)
    with av.open(str(out)) as result:
        assert [one["metadata"]["title"] for one in result.chapters()] == ["a b c", "y" * 200]


def test_subtitles_that_are_pictures_are_left_out_and_that_is_said(film, tmp_path):
    source, path = film(subtitles=()), tmp_path / "pictures.mkv"
    with av.open(str(source)) as opened, av.open(str(path), "w") as out:
        picture = out.add_stream_from_template(opened.streams.video[0], opaque=True)
        out.add_mux_stream("dvb_subtitle")
        for packet in opened.demux(video=0):
            if packet.dts is not None:
                packet.stream = picture
                out.mux(packet)
    assert "subtitles_dropped" in client.probe(path).warnings
    assert "subtitles_dropped" in _again(path, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as result:
        assert not result.streams.subtitles
