"""From pixels to the verdict, with nothing replaced: marked, signed, attacked, read back, judged."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.watermark.provenance.strangers import signed_as_ours
from watermark import fingerprint, image
from watermark.credentials_reader import claim_of_store
from watermark.iptc import write_iptc
from watermark.keys import MarkKey, derive_mark_key
from watermark.manifest import read, sign_file
from watermark.manifest_request import ConsentRef, IngredientFile, ManifestRequest
from watermark.payload import new_mark_id
from watermark.verdict import ContentEvidence, Evidence, MarkEvidence, OutputRecord, Verdict, record_to_compare, verdict


@dataclass(frozen=True)
class House:
    """A published output, the key and the anchor: all that a verification needs."""

    key: MarkKey
    anchors_pem: str
    published: bytes
    pixels: NDArray[np.uint8]
    record: OutputRecord

    def by_mark(self, mark_id: bytes) -> OutputRecord | None:
        return self.record if mark_id == self.record.mark_id else None

    def by_manifest(self, label: str) -> OutputRecord | None:
        return self.record if label == self.record.manifest_label else None

    def verify(self, data: bytes, mime: str = "image/jpeg") -> Verdict:
        """What the verify page does, without its sandbox."""
        rgb = decode(data)
        reading = image.read(rgb, [self.key], effort="full")
        evidence = Evidence(
            credentials=read(data, mime, anchors_pem=self.anchors_pem), mark=MarkEvidence.of(reading), content=None
        )
        record = record_to_compare(evidence, self)
        if record is not None and record.fingerprint is not None:
            match = fingerprint.compare(
                fingerprint.Fingerprint.from_json(record.fingerprint), rgb, reading.geometry if reading else None
            )
            content = ContentEvidence(record.output_id, match.matches, match.pdq_distance, match.grid_correlation)
            evidence = replace(evidence, content=content)
        return verdict(evidence, self)


def decode(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB")).copy()


def encode(rgb: NDArray[np.uint8], kind: str, **options: object) -> bytes:
    target = io.BytesIO()
    Image.fromarray(rgb).save(target, kind, **options)
    return target.getvalue()


@pytest.fixture(scope="module")
def house(astronaut, dev_authority, tmp_path_factory) -> House:
    folder: Path = tmp_path_factory.mktemp("house")
    key = derive_mark_key(b"m" * 32, deployment="test", year=2026)
    mark_id = new_mark_id()
    pixels = image.embed(astronaut, mark_id, key)
    marked = folder / "marked.jpg"
    marked.write_bytes(encode(pixels, "JPEG", quality=95))
    write_iptc(marked, "image/jpeg")
    request = ManifestRequest(
        mime="image/jpeg",
        target=IngredientFile("image/jpeg"),
        sources=(IngredientFile("image/jpeg"),),
        mark_id=mark_id,
        consent_refs=(ConsentRef("cns_ada1", "face_donor"), ConsentRef("cns_ben1", "target_person")),
        policy_version="2026-11",
        livemode=True,
        status_url="http://127.0.0.1:8000/verify",
    )
    anchors = dev_authority.root_pem
    signed = sign_file(marked, folder / "signed.jpg", request, dev_authority.signer(), anchors_pem=anchors)
    record = OutputRecord(
        output_id="out_1",
        mark_id=mark_id,
        manifest_label=signed.label,
        state="in_force",
        published_at=datetime(2026, 5, 3, tzinfo=UTC),
        livemode=True,
        claim_sha256=claim_of_store(signed.store),
        fingerprint=fingerprint.take(pixels).to_json(),
    )
    return House(key, anchors, (folder / "signed.jpg").read_bytes(), pixels, record)


def in_state(house: House, state: str) -> House:
    return replace(house, record=replace(house.record, state=state))


def flipped(data: bytes) -> bytes:
    """One bit of the picture's last blocks changed."""
    return data[:-60] + bytes([data[-60] ^ 0x10]) + data[-59:]


def test_the_published_file_is_intact(house):
    found = house.verify(house.published)
    assert (found.code, found.reason) == ("ours_intact", "")


def test_a_stranger_with_a_certificate_of_our_authority_cannot_name_an_output_of_ours(house, dev_authority, astronaut):
    plain, label = encode(astronaut, "JPEG", quality=95), house.record.manifest_label
    forged = signed_as_ours(plain, authority=dev_authority.folder, label=label)
    found = house.verify(forged)
    credentials = found.evidence.credentials
    assert credentials is not None
    assert (credentials.state, credentials.is_ours, credentials.bytes_match) == ("trusted", True, True)
    assert credentials.label == house.record.manifest_label
    assert (found.code, found.reason, found.output) == ("disagree", "not_our_signature", None)
    assert "not the one that we signed" in found.sentence
    # Neither do our own marked pixels with the stranger's manifest around them, nor a change of the stranger's file.
    marked = signed_as_ours(
        encode(house.pixels, "JPEG", quality=95), authority=dev_authority.folder, label=house.record.manifest_label
    )
    assert house.verify(marked).reason == "not_our_signature"
    assert house.verify(flipped(forged)).reason == "not_our_signature"


def test_one_flipped_byte_of_the_picture_says_changed(house):
    assert house.verify(flipped(house.published)).code == "ours_changed"


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"quality": 70}), ("WEBP", {"quality": 90}), ("PNG", {})])
def test_an_output_without_its_label_is_recovered_by_the_mark(house, kind, options):
    data = encode(house.pixels, kind, **options)
    assert house.verify(data, f"image/{kind.lower()}").code == "ours_recovered"


def test_a_cut_out_part_is_recovered_by_the_mark(house):
    assert house.verify(encode(house.pixels[40:460, 30:480], "PNG"), "image/png").code == "ours_recovered"


def test_a_withdrawn_permission_shows_at_once_with_and_without_the_label(house):
    withdrawn = in_state(house, "withdrawn")
    assert withdrawn.verify(house.published).code == "ours_withdrawn"
    assert withdrawn.verify(flipped(house.published)).code == "ours_withdrawn"
    assert withdrawn.verify(encode(house.pixels, "JPEG", quality=75)).code == "ours_withdrawn"
    assert in_state(house, "taken_down").verify(house.published).reason == "taken_down"


def test_a_mark_lifted_onto_another_picture_disagrees(house, astronaut, grace):
    lifted = house.pixels.astype(np.int16) - astronaut
    forged = np.clip(grace[:512, :512].astype(np.int16) + 2 * lifted, 0, 255).astype(np.uint8)
    found = house.verify(encode(forged, "PNG"), "image/png")
    assert found.evidence.mark is not None  # the mark itself is read: it is the content that gives it away
    assert (found.code, found.reason) == ("disagree", "content_mismatch")


def test_a_manifest_moved_onto_another_picture_disagrees(house, astronaut):
    start = house.published.index(b"\xff\xeb")
    end = start
    while house.published[end : end + 2] == b"\xff\xeb":
        end += 2 + int.from_bytes(house.published[end + 2 : end + 4], "big")
    other = encode(astronaut, "JPEG", quality=95)  # the very picture, before the mark
    moved = other[:20] + house.published[start:end] + other[20:]
    found = house.verify(moved)
    assert found.evidence.credentials is not None
    assert found.evidence.credentials.label == house.record.manifest_label
    assert (found.code, found.reason) == ("disagree", "mark_missing")


def test_a_picture_of_somebody_else_has_no_marks(house, astronaut):
    assert house.verify(encode(astronaut, "JPEG", quality=90)).code == "nothing_found"
