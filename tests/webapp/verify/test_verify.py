"""What is said about files, whoever asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from django.conf import settings
from django.test import Client
from numpy.typing import NDArray

from tests.watermark.provenance.strangers import signed_as_ours
from tests.webapp import cast
from watermark import fingerprint, image, manifest
from watermark.manifest_request import ConsentRef, IngredientFile, ManifestRequest
from watermark.payload import new_mark_id
from watermark.signers import DevelopmentAuthority
from webapp import keys_of_house
from webapp.jobs.models import Output
from webapp.verify import services

pytestmark = pytest.mark.django_db

MARK = new_mark_id()


def write(path: Path, rgb: NDArray[np.uint8], *options: int) -> Path:
    assert cv2.imwrite(str(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), list(options))
    return path


@pytest.fixture
def output(cleo: cast.Account, grace: NDArray[np.uint8], tmp_path: Path) -> tuple[Output, Path, NDArray[np.uint8]]:
    """A published output (without a manifest in its bytes), its file and its pixels."""
    rgb = image.embed(grace, MARK, keys_of_house.mark_keys()[0])
    path = write(tmp_path / "output.png", rgb)
    record = {"kind": "photo", "frames": [{"seconds": 0.0, "fingerprint": fingerprint.take(rgb).to_json()}]}
    return cast.published(cleo, path, mark_id=MARK, fingerprint=record), path, rgb


@pytest.fixture
def signed(cleo: cast.Account, grace: NDArray[np.uint8], tmp_path: Path) -> tuple[Output, Path]:
    """A published output whose bytes do not decide (another SHA-256 is recorded): only its manifest and mark do."""
    marked = write(tmp_path / "marked.jpg", image.embed(grace, MARK, keys_of_house.mark_keys()[0]))
    request = ManifestRequest(
        mime="image/jpeg",
        target=IngredientFile("image/jpeg"),
        sources=(IngredientFile("image/jpeg"),),
        mark_id=MARK,
        consent_refs=(ConsentRef("cns_ada1", "face_donor"),),
        policy_version="2026-11",
        livemode=False,
        status_url="http://127.0.0.1:8000/verify",
    )
    path = tmp_path / "signed.jpg"
    anchors = keys_of_house.anchors_pem()
    made = manifest.sign_file(marked, path, request, keys_of_house.signer(), anchors_pem=anchors)
    output = cast.published(cleo, path, mark_id=MARK)
    Output.objects.filter(pk=output.pk).update(sha256="0" * 64, manifest_label=made.label, manifest_store=made.store)
    output.refresh_from_db()
    return output, path


def test_the_manifest_we_signed_proves_the_output(signed: tuple[Output, Path]) -> None:
    found = services.verify_file(signed[1])
    assert (found.code, found.reason) == ("ours_intact", "")


def test_a_stranger_under_our_authority_cannot_sign_in_our_name(
    signed: tuple[Output, Path], samples: Path, tmp_path: Path
) -> None:
    forged = tmp_path / "forged.jpg"
    plain = (samples / "astronaut.jpg").read_bytes()
    forged.write_bytes(signed_as_ours(plain, authority=Path(settings.SIGNER_DIR), label=signed[0].manifest_label))
    found = services.verify_file(forged)
    assert found.evidence.credentials is not None
    assert (found.evidence.credentials.state, found.evidence.credentials.is_ours) == ("trusted", True)
    assert (found.code, found.reason, found.output) == ("disagree", "not_our_signature", None)


def test_the_published_file_itself_is_ours(output: tuple[Output, Path, Any]) -> None:
    found = services.verify_file(output[1])
    assert (found.code, found.reason) == ("ours_intact", "exact_file")
    assert found.output is not None
    assert found.output.output_id == output[0].pk


def test_a_re_encoded_copy_is_recovered_by_its_mark(output: tuple[Output, Path, Any], tmp_path: Path) -> None:
    copy = write(tmp_path / "copy.jpg", output[2], cv2.IMWRITE_JPEG_QUALITY, 75)
    found = services.verify_file(copy)
    assert found.code == "ours_recovered"
    assert found.evidence.mark is not None
    assert found.evidence.mark.mark_id == MARK
    assert found.evidence.content is not None
    assert found.evidence.content.matches


def test_a_withdrawn_permission_is_told_of_the_file_and_of_copies(
    output: tuple[Output, Path, Any], tmp_path: Path
) -> None:
    Output.objects.filter(pk=output[0].pk).update(permission="withdrawn")
    copy = write(tmp_path / "copy.jpg", output[2], cv2.IMWRITE_JPEG_QUALITY, 80)
    assert {services.verify_file(path).code for path in (output[1], copy)} == {"ours_withdrawn"}


def test_a_mark_on_another_picture_is_not_believed(
    output: tuple[Output, Path, Any], astronaut: NDArray[np.uint8], tmp_path: Path
) -> None:
    forged = image.embed(astronaut, MARK, keys_of_house.mark_keys()[0])
    found = services.verify_file(write(tmp_path / "forged.png", forged))
    assert (found.code, found.reason) == ("disagree", "content_mismatch")


def test_a_mark_without_a_record_is_not_believed(grace: NDArray[np.uint8], tmp_path: Path) -> None:
    unknown = image.embed(grace, new_mark_id(), keys_of_house.mark_keys()[0])
    found = services.verify_file(write(tmp_path / "unknown.png", unknown))
    assert (found.code, found.reason) == ("disagree", "no_record")


def test_an_unmarked_picture_has_nothing_and_is_not_called_real(samples: Path) -> None:
    found = services.verify_file(samples / "astronaut.jpg")
    assert found.code == "nothing_found"
    assert "does not mean it is real" in found.headline


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\xff\xd8\xff\xe0" + b"\x00" * 2000])
def test_what_cannot_be_read_is_said_to_be_unreadable(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.jpg"
    path.write_bytes(content)
    found = services.verify_file(path)
    assert found.code == "unreadable"
    assert len(found.sentence) > 20


def test_another_issuer_is_trusted_when_the_operator_trusts_its_root(
    samples: Path, tmp_path: Path, settings: Any
) -> None:
    stranger = tmp_path / "stranger"
    root = DevelopmentAuthority.create(stranger).root_pem
    path = tmp_path / "foreign.jpg"
    label = "urn:c2pa:11111111-1111-4111-8111-111111111111"
    path.write_bytes(signed_as_ours((samples / "astronaut.jpg").read_bytes(), authority=stranger, label=label))
    assert services.verify_file(path).code == "other_unknown"
    (tmp_path / "list.pem").write_text(root, encoding="ascii")
    settings.TRUST_LIST_FILE = str(tmp_path / "list.pem")
    found = services.verify_file(path)
    assert found.code == "other_trusted"
    assert found.evidence.credentials is not None
    assert not found.evidence.credentials.is_ours  # our assertion is in it, but it is not under our own root
    listed = Client().get("/verify/trusted.pem").content.decode()
    assert root.strip() in listed
    assert root.strip() not in Client().get("/verify/anchors.pem").content.decode()
