"""Damaged copies of published files, through the whole verifier."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.watermark.provenance.test_mutants import SEED, content, mutant
from tests.webapp import publishing
from tests.webapp.conftest import Stage
from watermark.manifest_request import FORMATS
from webapp.jobs.models import Output
from webapp.verify import services
from worker.media.sample_clip import make_clip
from worker.spec import EXTENSIONS

pytestmark = pytest.mark.django_db


def published(stage: Stage, mime: str, rgb: NDArray[np.uint8], samples: Path, folder: Path) -> Path:
    """A published file whose SHA-256 our records do not know: manifest, mark and content have to say what it is."""
    job = publishing.at_work(stage)
    path, mark_id = folder / f"output.{EXTENSIONS[mime]}", bytes(job.mark_id or b"")
    if mime.startswith("image/"):
        made = publishing.marked_photo(path, mime, rgb, mark_id)
    else:
        make_clip(samples / "astronaut.jpg", folder / "clip.mp4", seconds=1.0, size=(320, 240))
        made = publishing.marked_video(path, mime, folder / "clip.mp4", mark_id)
    output, signed = publishing.published(stage, job, made)
    Output.objects.filter(pk=output.pk).update(sha256="0" * 64)
    return signed


def test_a_file_whose_picture_cannot_be_decoded_is_not_intact_though_its_manifest_holds(
    stage: Stage, grace: NDArray[np.uint8], samples: Path, tmp_path: Path
) -> None:
    path = published(stage, "image/png", grace, samples, tmp_path)
    data = bytearray(path.read_bytes())
    start = data.index(b"caBX")
    end = start + 4 + int.from_bytes(data[start - 4 : start], "big")
    data[end] ^= 1  # the checksum of the manifest's own chunk: no hash covers it, and a decoder stops there
    path.write_bytes(data)
    found = services.verify_file(path)
    assert found.evidence.credentials is not None
    assert found.evidence.credentials.bytes_match
    assert found.code == "unreadable"


@pytest.mark.soak
@pytest.mark.parametrize("mime", FORMATS)
def test_no_damaged_copy_is_called_intact_by_the_whole_verifier(
    stage: Stage, mime: str, grace: NDArray[np.uint8], samples: Path, tmp_path: Path
) -> None:
    path = published(stage, mime, grace, samples, tmp_path)
    data, before = path.read_bytes(), content(path, mime)
    start = data.index(b"c2pa")
    rng = random.Random(f"{SEED} {mime}")
    for number in range(60):
        damaged = mutant(data, rng, range(max(0, start - 40), min(len(data), start + 16_000)))
        path.write_bytes(damaged)
        if services.verify_file(path).code == "ours_intact":
            assert content(path, mime) == before, f"mutant {number}"
