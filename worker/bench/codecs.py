"""What decoding, encoding and marking a video cost by themselves, all threads of the codecs counted.

In a job they run beside one another and beside the rest; here one after the other, with the same readers, writers and
settings, so that a job's processor time can be divided. Runs inside a media child.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from watermark.pattern import MarkPattern
from watermark.video import Embedder
from worker.media.encode import EncoderChoice, VideoWriter
from worker.media.magic import HEAD_BYTES, sniff
from worker.media.planes import Planes
from worker.media.sandbox import Limits, call
from worker.media.video import VideoReader
from worker.pipeline.segments import ENCODER_THREADS
from worker.spec import JobSpec

FRAMES: Final = 72
"""That many are held at once: 230 MB at 1080p."""
_SECONDS: Final = 600.0
_LIMITS: Final = Limits(memory=3 << 30, cpu_seconds=1200)


def codec_milliseconds(clip: Path, work_dir: Path, spec: JobSpec, pattern: bytes, threads: int) -> dict[str, float]:
    """Processor milliseconds per frame of "decode", "convert", "mark", "encode" and "encode_unmarked".

    The mark is fine grain, which an encoder has to write down: what it costs beside its own work is told by encoding
    the same frames before and after it. Raises MediaError.
    """
    found = call(
        "worker.bench.codecs:measure_entry",
        {
            "path": str(clip),
            "out": str(work_dir / "encoded.mp4"),
            "pattern": pattern.hex(),
            "mode": spec.mark_mode,
            "codec": spec.codec,
            "crf": spec.crf,
            "preset": spec.preset,
            "threads": threads,
        },
        limits=_LIMITS,
        timeout=_SECONDS,
        reads=[clip],
        writes=[work_dir],
    )
    return {name: float(found[name]) for name in ("decode", "convert", "mark", "encode", "encode_unmarked")}


def measure_entry(payload: Mapping[str, Any]) -> dict[str, float]:
    """The child's side: decode up to FRAMES frames, mark them, encode them."""
    path, out = Path(payload["path"]), Path(payload["out"])
    with path.open("rb") as file:
        container = sniff(file.read(HEAD_BYTES), path.name).container
        file.seek(0)
        with VideoReader(file, container, threads=int(payload["threads"])) as reader:
            held: list[Planes] = []
            convert, begin = 0.0, time.process_time()
            for _, frame in reader.pictures():
                planes, start = Planes(reader.size), time.thread_time()
                reader.fill(frame, planes)
                convert += time.thread_time() - start
                held.append(planes)
                if len(held) == FRAMES:
                    break
            decode = time.process_time() - begin - convert
            embedder = Embedder.from_pattern(
                MarkPattern.from_bytes(bytes.fromhex(payload["pattern"])), reader.size, payload["mode"]
            )
            unmarked = _encode(held, reader, out, payload)
            begin = time.process_time()
            for planes in held:
                embedder.embed_yuv420(planes.y, planes.u, planes.v)
            mark = time.process_time() - begin
            encode = _encode(held, reader, out, payload)
    out.unlink()
    parts = {"decode": decode, "convert": convert, "mark": mark, "encode": encode, "encode_unmarked": unmarked}
    return {name: 1000 * seconds / len(held) for name, seconds in parts.items()}


def _encode(held: Sequence[Planes], reader: VideoReader, out: Path, payload: Mapping[str, Any]) -> float:
    """Encode the frames into `out` as a job does; processor seconds."""
    begin = time.process_time()
    writer = VideoWriter(
        out,
        size=reader.size,
        time_base=reader.time_base,
        rate=reader.rate,
        choice=EncoderChoice(payload["codec"], payload["crf"], payload["preset"]),
        threads=ENCODER_THREADS,
    )
    step = round(1 / (float(reader.rate) * float(reader.time_base)))
    for index, planes in enumerate(held):
        writer.write(planes, index * step)
    writer.finish()
    return time.process_time() - begin
