"""A job's inputs as plain files in a work folder, and the one description of it that goes down the pipeline."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings

from webapp import keys_of_house, storage
from webapp.jobs.models import Job
from webapp.jobs.options import Options
from worker.inference.packages import sha256_of
from worker.spec import EXTENSIONS, JobSpec, Kind, SourcePhoto, Swap

SMALL = 480  # pixels of the short side, below which the default mark does not survive a usual re-encoding
# Address space of a media child, in bytes. Of it the encoder alone takes at 4096x2304: x264 1.4 GiB, x265 2.0, SVT-AV1
# 2.6, and up to 2.7, 2.8 and 5.0 at the slower speeds, which look further ahead.
MEMORY = {"h264": 3 << 30, "hevc": 4 << 30, "av1": 5 << 30}
MEMORY_OF_SLOWER = 2 << 30


def materialise(job: Job, folder: Path) -> JobSpec:
    """The job's inputs as plain files in its folder, each checked against the hash that was consented to."""
    target = folder / "target"
    analysis = folder / "analysis"
    fetch(job.target.object_name, job.target.key_id, target, job.target.sha256)
    storage.materialise(job.target.analysis_name, job.target.key_id, analysis)
    swaps = []
    for swap in job.swaps.all():
        photos = []
        for each in swap.photos.select_related("asset"):
            path = folder / f"source-{swap.position}-{each.position}"
            fetch(each.asset.object_name, each.asset.key_id, path, each.asset.sha256)
            photos.append(SourcePhoto(path=path, sha256=each.asset.sha256, face=each.face))
        swaps.append(Swap(target=swap.target_face, sources=tuple(photos)))
    writable = folder / "out"
    writable.mkdir(mode=0o700)
    options = Options.from_mapping(job.options)
    kind: Kind = "photo" if job.target.kind == "photo" else "video"
    mime = options.mime_for(kind)
    width, height = int(job.target.media["width"]), int(job.target.media["height"])
    width, height = options.size_of(width, height, kind=kind)
    return JobSpec(
        job_id=job.pk,
        kind=kind,
        target_path=target,
        target_sha256=job.target.sha256,
        analysis_path=analysis,
        output_path=writable / f"output.{EXTENSIONS[mime]}",
        output_mime=mime,
        swaps=tuple(swaps),
        mark_mode="durable" if min(width, height) < SMALL else options.mark_mode,
        label=options.label(),
        aigc=keys_of_house.aigc(bytes(job.mark_id or b"")) if options.notice().aigc else "",
        codec=options.codec,
        crf=options.crf,
        swapper=options.swapper,
        enhancer=options.enhancer,
        blend=options.blend,
        colour_match=options.colour_match,
        others=options.others,
        enhancer_blend=options.enhancer_blend,
        masking=options.masking(),
        upscaler=options.upscaler,
        pixel_boost=options.pixel_boost,
        preset=options.preset,
        hardware="decode" if settings.VIDEO_DEVICE == "auto" else "off",
        scale=options.scale,
        height=options.height,
        fps=options.fps,
        trim_start=options.trim_start,
        trim_end=options.trim_end,
        memory_limit=MEMORY[options.codec] + (0 if options.preset == "fast" else MEMORY_OF_SLOWER),
        jpeg_quality=options.jpeg_quality,
    )


def fetch(object_name: str, key_id: str, dest: Path, sha256: str) -> None:
    """Decrypt a stored file and make sure it is the very one the hash was taken of; StorageError else."""
    storage.materialise(object_name, key_id, dest)
    if sha256_of(dest) != sha256:
        raise storage.StorageError("object_changed", "A stored file is not the one that was uploaded. Upload it again.")
