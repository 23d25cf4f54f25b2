"""Outputs made by the real end of the line: marked, labelled, signed in a child, re-read, published.

Only what the pipeline would have put into the picture is missing: the swap.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from watermark.fingerprint import take
from watermark.image import embed
from webapp import keys_of_house
from webapp.commands.verify_bench import mark_film
from webapp.jobs import finishing, running
from webapp.jobs.models import Job, Output
from webapp.screening.models import ScreeningRecord
from worker.media import image
from worker.spec import EXTENSIONS, JobSpec, SourcePhoto, Swap

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
    container: Literal["mp4", "mov"] = "mov" if mime == "video/quicktime" else "mp4"
    return rendered(path, mime, mark_film(clip, path, mark_id, keys_of_house.mark_keys()[0], container))


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
        swaps=tuple(
            Swap(swap.target_face, tuple(SourcePhoto(SAMPLE, photo.asset.sha256) for photo in swap.photos.all()))
            for swap in job.swaps.all()
        ),
    )
    evidence = ScreeningRecord.objects.get(job=job)
    assert running.begin_finishing(job.pk, "worker")
    draft = finishing.finish(job, spec, made, evidence, keys_of_house.mark_keys()[0], pause=time.sleep)
    output = running.publish_output(job.pk, "worker", draft)
    return output, made.path.with_name(f"signed.{EXTENSIONS[made.mime]}")
