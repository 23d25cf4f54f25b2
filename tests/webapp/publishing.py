"""Outputs made by the real end of the line: marked, labelled, signed in a child, re-read, published.

Only what the pipeline would have put into the picture is missing: the swap.
"""

from __future__ import annotations

import time
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from watermark.fingerprint import take
from watermark.image import embed
from watermark.video import Embedder
from webapp import keys_of_house
from webapp.jobs import finishing, running
from webapp.jobs.models import Job, Output
from webapp.screening.models import ScreeningRecord
from worker.media import image
from worker.media.encode import VideoWriter
from worker.media.planes import Planes
from worker.media.video import VideoReader
from worker.spec import JobSpec, SourcePhoto, Swap

if TYPE_CHECKING:
    from tests.webapp.conftest import Stage

SAMPLE = Path(__file__).parents[1] / "samples" / "astronaut.jpg"


def marked_photo(path: Path, mime: str, rgb: NDArray[np.uint8], mark_id: bytes) -> finishing.Rendered:
    """The picture with the mark in it, as the pipeline writes it."""
    marked = embed(rgb, mark_id, keys_of_house.mark_keys()[0])
    image.write(marked, path, mime, quality=95)
    frames = [{"seconds": 0.0, "fingerprint": take(marked).to_json()}]
    return rendered(path, mime, {"kind": "photo", "frames": frames})


def marked_video(path: Path, mime: str, clip: Path, mark_id: bytes) -> finishing.Rendered:
    """The clip with the mark in every frame, and a fingerprint per second."""
    frames: list[dict[str, Any]] = []
    with clip.open("rb") as file, VideoReader(file, "mov") as reader:
        planes = Planes(reader.size)
        embedder = Embedder(mark_id, keys_of_house.mark_keys()[0], reader.size)
        writer = VideoWriter(
            path,
            size=reader.size,
            time_base=reader.time_base,
            rate=Fraction(reader.rate),
            container="mov" if mime == "video/quicktime" else "mp4",
            sound=reader.sound,
        )
        for kind, item in reader.items():
            if kind == "sound":
                writer.write_sound(item)
                continue
            stamp, frame = item
            reader.fill(frame, planes)
            embedder.embed_yuv420(planes.y, planes.u, planes.v)
            if stamp.seconds >= len(frames) - 1e-3:
                frames.append({"seconds": stamp.seconds, "fingerprint": take(planes.to_rgb()).to_json()})
            writer.write(planes, stamp.pts)
        writer.finish()
    return rendered(path, mime, {"kind": "video", "frames": frames})


def rendered(path: Path, mime: str, fingerprint: dict[str, Any]) -> finishing.Rendered:
    """What the pipeline says about its file."""
    return finishing.Rendered(path, mime, None, None, {"swap": 1.0}, {}, fingerprint, [])


def at_work(stage: Stage, **changes: Any) -> Job:
    """A job a worker has taken and may run."""
    return stage.run(stage.screened(stage.submit(**changes)))


def published(stage: Stage, job: Job, made: finishing.Rendered, *, target: Path = SAMPLE) -> tuple[Output, Path]:
    """Finish and publish; the output's row and its file as it lies before it is stored."""
    spec = JobSpec(
        job_id=job.pk,
        kind="photo" if made.mime.startswith("image/") else "video",
        target_path=target,
        target_sha256="0" * 64,
        analysis_path=target,
        output_path=made.path,
        output_mime=made.mime,
        swaps=(Swap(0, (SourcePhoto(SAMPLE, "0" * 64),)),),
    )
    evidence = ScreeningRecord.objects.get(job=job)
    assert running.begin_finishing(job.pk, "worker")
    draft = finishing.finish(job, spec, made, evidence, keys_of_house.mark_keys()[0], pause=time.sleep)
    output = running.publish_output(job.pk, "worker", draft)
    return output, made.path.with_name(f"signed{finishing.SUFFIXES[made.mime]}")
