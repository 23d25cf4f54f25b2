"""Signed files of every format, damaged in many ways: read without a crash or a hang, and never called intact."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import pytest
from PIL import Image

from watermark.credentials import Credentials
from watermark.credentials_reader import claim_of_store
from watermark.manifest_request import FORMATS
from watermark.verdict import Evidence, MarkEvidence, OutputRecord, verdict
from worker.media import client
from worker.media.errors import MediaError

SEED = 2026
HANG_SECONDS = 2.0
SAMPLED = 60


@dataclass(frozen=True)
class Published:
    """A signed file and our record of it."""

    data: bytes
    record: OutputRecord

    def by_mark(self, mark_id: bytes) -> OutputRecord | None:
        return self.record if mark_id == self.record.mark_id else None

    def by_manifest(self, label: str) -> OutputRecord | None:
        return self.record if label == self.record.manifest_label else None


@pytest.fixture
def published(sign, mark_id) -> Callable[[str], Published]:
    def make(mime: str) -> Published:
        path, signed = sign(mime)
        record = OutputRecord("out_1", mark_id, signed.label, "in_force", claim_sha256=claim_of_store(signed.store))
        return Published(path.read_bytes(), record)

    return make


def mutant(data: bytes, rng: random.Random, manifest: range) -> bytes:
    """One damage of many kinds; half of them within the manifest."""
    changed = bytearray(data)
    inside = rng.random() < 0.5
    place = rng.randrange(manifest.start, manifest.stop) if inside else rng.randrange(len(data))
    size = rng.choice((1, 1, 2, 4, 16, 200, 4000))
    match rng.randrange(8):
        case 0:
            changed[place] ^= 1 << rng.randrange(8)
        case 1:
            changed[place : place + size] = rng.randbytes(len(changed[place : place + size]))
        case 2:
            changed[place : place + size] = bytes(len(changed[place : place + size]))
        case 3:
            del changed[place : place + size]
        case 4:
            changed[place:place] = rng.randbytes(size)
        case 5:
            other = rng.randrange(len(data))
            changed[place : place + size] = data[other : other + size]
        case 6:
            del changed[place:]
        case _:  # a length that lies
            changed[place : place + 4] = rng.choice(
                (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\x01", b"\x7f\xff\xff\xff")
            )
    return bytes(changed)


def content(path: Path, mime: str) -> str:
    """A hash over all pictures and all sound, as they decode."""
    digest = hashlib.sha256()
    if mime.startswith("image/"):
        with Image.open(path) as picture:
            digest.update(picture.convert("RGB").tobytes())
        return digest.hexdigest()
    with av.open(str(path), metadata_errors="replace") as container:  # brands are text to PyAV, and no hash covers them
        for frame in container.decode():
            digest.update(frame.to_ndarray().tobytes())
    return digest.hexdigest()


def run(published: Published, mime: str, count: int, anchors: str, folder: Path) -> int:
    """Read `count` mutants in one media child; how many of them are still called intact."""
    path = folder / "file"
    path.write_bytes(published.data)
    before = content(path, mime)
    start = published.data.index(b"c2pa")
    manifest = range(max(0, start - 40), min(len(published.data), start + len(published.data) // 8 + 16_000))
    rng = random.Random(f"{SEED} {mime}")
    marks = (None, MarkEvidence(published.record.mark_id))
    intact = 0
    with client.examine(path) as file:
        for number in range(count):
            data = mutant(published.data, rng, manifest)
            with path.open("r+b") as target:  # the file the child was given, so the same child reads them all
                target.truncate(0)
                target.write(data)
            begin = time.monotonic()
            found = Credentials.from_dict(file.credentials(anchors))
            decodes = looked_at(file)
            assert time.monotonic() - begin < HANG_SECONDS, f"mutant {number} took longer"
            codes = {verdict(Evidence(found, mark=mark), published).code for mark in marks}
            # What cannot be decoded the verifier calls unreadable, whatever its manifest says.
            if "ours_intact" in codes and data != published.data and decodes:
                assert content(path, mime) == before, f"mutant {number} is called intact and is not"
                intact += 1
    return intact


def looked_at(file: client.Examination) -> bool:
    """Decode it, however far that goes, and tell whether it went well; a child that dies of it fails the test."""
    try:
        if file.kind.kind == "photo":
            file.picture()
        else:
            file.probe()
    except MediaError as error:
        if error.code in ("child_died", "child_timeout"):
            raise AssertionError(error.detail) from error
        return False
    return True


@pytest.mark.parametrize("mime", FORMATS)
def test_a_damaged_file_is_never_called_intact_and_ends_no_reader(published, dev_authority, tmp_path, mime):
    run(published(mime), mime, SAMPLED, dev_authority.root_pem, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("mime", FORMATS)
def test_a_thousand_damaged_files_of_each_format(published, dev_authority, tmp_path, mime):
    intact = run(published(mime), mime, 1000, dev_authority.root_pem, tmp_path)
    # Padding and box names are covered by no hash: some damages must be harmless, or this test would prove nothing. In
    # a PNG a checksum covers those too.
    assert (intact == 0) if mime == "image/png" else (0 < intact < 400)
