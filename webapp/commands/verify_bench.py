"""What checking a file costs: processor time of one check, media child included, and whether memory stays flat.

The files are made for the purpose, marked and signed under keys of their own; no record of the deployment is asked.
"""

from __future__ import annotations

import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from django.conf import settings
from numpy.typing import NDArray
from PIL import Image

from watermark.fingerprint import take
from watermark.image import embed
from watermark.keys import MarkKey, derive_mark_key
from watermark.manifest import sign_file
from watermark.manifest_request import ConsentRef, IngredientFile, ManifestRequest
from watermark.payload import new_mark_id
from watermark.signers import DevelopmentAuthority
from watermark.verdict import OutputRecord
from watermark.video import Embedder
from webapp.commands.progress import ProgressBar
from webapp.jobs.signing import sign_in_child
from webapp.verify import services
from worker.media import image
from worker.media.encode import VideoWriter
from worker.media.planes import Planes
from worker.media.sample_clip import make_clip
from worker.media.sandbox import processor_seconds
from worker.media.timing import Timeline
from worker.media.tracks import Kept
from worker.media.video import VideoReader

SAMPLES = settings.BASE_DIR / "tests" / "samples"
SIZE = (1920, 1080)


@dataclass(frozen=True)
class Case:
    """A file to check, the house that checks it, what it must answer, and the goal in seconds of processor time."""

    name: str
    path: Path
    house: services.House
    code: str
    goal: float


class Records:
    """One published output."""

    def __init__(self, record: OutputRecord, store: bytes) -> None:
        self._record = record
        self._store = store
        self._claim_of: Callable[[bytes], str] = lambda store: ""

    def __call__(self, claim_of: Callable[[bytes], str]) -> Records:
        self._claim_of = claim_of
        return self

    def by_mark(self, mark_id: bytes) -> OutputRecord | None:
        return self._record if mark_id == self._record.mark_id else None

    def by_manifest(self, label: str) -> OutputRecord | None:
        if label != self._record.manifest_label:
            return None
        if not self._record.claim_sha256:
            self._record = replace(self._record, claim_sha256=self._claim_of(self._store))
        return self._record


def run(*, seconds: float, rounds: int) -> Iterator[str]:
    """Make the files, check each `rounds` times, and yield what is to be said. Work runs on one processor core."""
    cores = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory(prefix="imprimatur-bench-") as folder, ProgressBar("bench verify") as bar:
        bar.show("making a photo and a film", 0.0)
        cases = list(_cases(Path(folder), seconds))
        os.sched_setaffinity(0, {min(cores)})
        cv2.setNumThreads(1)
        try:
            for number, case in enumerate(cases):
                bar.show(case.name, (number + 1) / (len(cases) + 1))
                yield _measured(case, rounds)
            yield _memory(cases[0], 10 * rounds)
        finally:
            os.sched_setaffinity(0, cores)


def _measured(case: Case, rounds: int) -> str:
    spent, waited = [], []
    for number in range(rounds):
        house = case.house
        if case.code == "nothing_found":
            # How far a vain search goes is chance, and another one under each key.
            house = replace(house, keys=[derive_mark_key(os.urandom(32), deployment="bench", year=2026)])
        if number == 0 or house is not case.house:
            services.verify_file(case.path, house=house)  # imports, compiled code, and what is worked out once a key
        before, begin = _processor(), time.perf_counter()
        found = services.verify_file(case.path, house=house)
        spent.append(_processor() - before)
        waited.append(time.perf_counter() - begin)
        if found.code != case.code:
            return f"{case.name}: answered {found.code} {found.reason} instead of {case.code}"
    middle, least, most = statistics.median(spent), min(spent), max(spent)
    return (
        f"{case.name:<28} {1000 * middle:6.0f} ms of one core in the middle, {1000 * least:.0f} to {1000 * most:.0f}, "
        f"{1000 * statistics.median(waited):.0f} ms by the clock   (goal {1000 * case.goal:g} ms)"
    )


def _memory(case: Case, rounds: int) -> str:
    """Resident memory before and after many checks."""
    services.verify_file(case.path, house=case.house)
    before = _resident()
    for _ in range(rounds):
        services.verify_file(case.path, house=case.house)
    after = _resident()
    return f"memory of the checking process: {before / 2**20:.0f} MiB, {after / 2**20:.0f} MiB after {rounds} checks"


def _processor() -> float:
    """Seconds of processor time of this process and of its media children that have ended."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_utime + own.ru_stime + processor_seconds()


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _cases(folder: Path, seconds: float) -> Iterator[Case]:
    key = derive_mark_key(os.urandom(32), deployment="bench", year=2026)
    authority = DevelopmentAuthority.create(folder / "signer")
    plain = _photo()
    mark_id = new_mark_id()
    marked = embed(plain, mark_id, key)
    for name, rgb, quality in (("marked", marked, 92), ("stripped", marked, 80), ("foreign", plain, 92)):
        image.write(rgb, folder / f"{name}.jpg", "image/jpeg", quality=quality)
    fingerprint = {"kind": "photo", "frames": [{"seconds": 0.0, "fingerprint": take(marked).to_json()}]}
    house = _house(folder / "marked.jpg", mark_id, key, authority=authority, fingerprint=fingerprint)
    yield Case("intact 1080p JPEG", folder / "marked.jpg.signed", house, "ours_intact", 0.15)
    yield Case("stripped 1080p JPEG", folder / "stripped.jpg", house, "ours_recovered", 0.6)
    yield Case("foreign 1080p JPEG", folder / "foreign.jpg", house, "nothing_found", 0.6)
    make_clip(SAMPLES / "astronaut.jpg", folder / "foreign.mp4", seconds=seconds, size=SIZE)
    mark_id = new_mark_id()
    fingerprint = mark_film(folder / "foreign.mp4", folder / "marked.mp4", mark_id, key)
    house = _house(folder / "marked.mp4", mark_id, key, authority=authority, fingerprint=fingerprint)
    film = f"{seconds:g} s 1080p MP4"
    yield Case(f"intact {film}", folder / "marked.mp4.signed", house, "ours_intact", 3.0)
    yield Case(f"stripped {film}", folder / "marked.mp4", house, "ours_recovered", 8.0)
    yield Case(f"foreign {film}", folder / "foreign.mp4", house, "nothing_found", 8.0)


def _photo() -> NDArray[np.uint8]:
    """Two portraits side by side, 1920 x 1080."""
    canvas = Image.new("RGB", SIZE)
    for name, place, size in (("astronaut", (0, 0), (1080, 1080)), ("grace_hopper", (1080, 0), (840, 1080))):
        with Image.open(SAMPLES / f"{name}.jpg") as picture:
            canvas.paste(picture.convert("RGB").resize(size), place)
    return np.asarray(canvas)


def mark_film(
    source: Path, out: Path, mark_id: bytes, key: MarkKey, container: Literal["mp4", "mov"] = "mp4"
) -> dict[str, Any]:
    """Mark every frame of a film, and return its record: a fingerprint per second."""
    frames: list[dict[str, Any]] = []
    with source.open("rb") as file, VideoReader(file, "mov") as reader:
        planes = Planes(reader.size)
        embedder = Embedder(mark_id, key, reader.size)
        writer = VideoWriter(
            out,
            size=reader.size,
            time_base=reader.time_base,
            rate=Fraction(reader.rate),
            container=container,
            kept=Kept.of(reader, Timeline.of(reader)),
        )
        for kind, item in reader.items():
            if kind != "picture":
                writer.write_track(item)
                continue
            stamp, frame = item
            reader.fill(frame, planes)
            embedder.embed_yuv420(planes.y, planes.u, planes.v)
            if stamp.seconds >= len(frames) - 1e-3:
                frames.append({"seconds": stamp.seconds, "fingerprint": take(planes.to_rgb()).to_json()})
            writer.write(planes, stamp.pts)
        writer.finish()
    return {"kind": "video", "frames": frames}


def _house(
    path: Path,
    mark_id: bytes,
    key: MarkKey,
    *,
    authority: DevelopmentAuthority,
    fingerprint: dict[str, Any],
) -> services.House:
    """Sign the file beside itself and return a house whose one output it is."""
    mime = "image/jpeg" if path.suffix == ".jpg" else "video/mp4"
    request = ManifestRequest(
        mime=mime,
        target=IngredientFile(mime),
        sources=(IngredientFile("image/jpeg"),),
        mark_id=mark_id,
        consent_refs=(ConsentRef("cns_bench", "face_donor"),),
        policy_version="bench",
        livemode=False,
        status_url="http://127.0.0.1/verify",
    )
    signed = sign_file(
        path,
        path.with_name(f"{path.name}.signed"),
        request,
        authority.signer(),
        anchors_pem=authority.root_pem,
        native=sign_in_child,
    )
    record = OutputRecord("out_bench", mark_id, signed.label, "in_force", livemode=True, fingerprint=fingerprint)
    return services.House([key], authority.root_pem, Records(record, signed.store))
