"""The end of the line, for every format an account may ask for: what is published is marked, signed and ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import c2pa
import numpy as np
import pytest
from numpy.typing import NDArray

from consent import services as consents
from consent.ledger.models import LedgerEntry
from tests.watermark.provenance.strangers import foreign
from tests.webapp import cast, publishing
from tests.webapp.conftest import TWO_FACES, Stage
from watermark import native_signing
from watermark.credentials import CONSENT_LABEL
from watermark.manifest_request import FORMATS
from watermark.signers import DevelopmentAuthority
from webapp.jobs import finishing
from webapp.jobs.models import Output
from webapp.jobs.options import Options
from webapp.verify import services
from worker.media import client
from worker.media.sample_clip import make_clip
from worker.spec import EXTENSIONS, PHOTO_MIMES, VIDEO_MIMES

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, samples: Path) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    make_clip(samples / "astronaut.jpg", path, seconds=2.0, size=(640, 480))
    return path


def render(
    stage: Stage, mime: str, folder: Path, rgb: NDArray[np.uint8], clip: Path, **changes: Any
) -> tuple[Any, finishing.Rendered]:
    job = publishing.at_work(stage, **changes)
    path = folder / f"output.{EXTENSIONS[mime]}"
    mark_id = bytes(job.mark_id or b"")
    if mime.startswith("image/"):
        return job, publishing.marked_photo(path, mime, rgb, mark_id)
    return job, publishing.marked_video(path, mime, clip, mark_id)


@pytest.mark.parametrize("mime", FORMATS)
def test_every_format_is_published_marked_signed_and_ours(
    stage: Stage, mime: str, grace: NDArray[np.uint8], clip: Path, tmp_path: Path
) -> None:
    job, made = render(stage, mime, tmp_path, grace, clip)
    output, path = publishing.published(stage, job, made)
    assert (output.mime, output.media["mime"]) == (mime, mime)
    assert client.identify(path).mime == mime
    Output.objects.filter(pk=output.pk).update(sha256="0" * 64)  # so that the manifest and the mark have to say it
    found = services.verify_file(path)
    assert (found.code, found.reason) == ("ours_intact", "")
    assert found.output is not None
    assert found.output.output_id == output.pk


def test_the_manifest_names_the_place_of_the_donors_permission_in_the_ledger(
    stage: Stage, grace: NDArray[np.uint8], clip: Path, tmp_path: Path
) -> None:
    job, made = render(stage, "image/jpeg", tmp_path, grace, clip)
    given = LedgerEntry.objects.get(event__consent=cast.donor(job), event__type="given")
    assert given.seq is None
    output, _ = publishing.published(stage, job, made)
    given.refresh_from_db()
    assert given.seq is not None  # publishing did not wait for the scheduler, and invented nothing
    assert b"ledger_index" in bytes(output.manifest_store)
    assert finishing.ledger.given_index(cast.donor(job).pk) == given.seq


def test_the_manifest_of_several_replacements_names_everybody_and_every_photo(
    stage: Stage, grace: NDArray[np.uint8], tmp_path: Path
) -> None:
    target = stage.ready("target", faces=TWO_FACES)
    asked = stage.pair(target, 0)
    stated = stage.swap(target, target_face=1, target_consent=None, target_attestation=stage.attest(target))
    job = publishing.at_work(stage, target=target, swaps=[asked, stated])
    made = publishing.marked_photo(tmp_path / "output.jpg", "image/jpeg", grace, bytes(job.mark_id or b""))
    _, path = publishing.published(stage, job, made)
    with path.open("rb") as file, c2pa.Reader("image/jpeg", file) as reader:
        report = json.loads(reader.json())
    active = report["manifests"][report["active_manifest"]]
    said = next(one["data"] for one in active["assertions"] if one["label"] == CONSENT_LABEL)
    records = [(each["record"], each["role"], each["status"]) for each in said["records"]]
    rows = list(job.swaps.all())
    assert records == [
        (rows[0].donor_consent_id, "face_donor", "given"),
        (rows[0].target_consent_id, "target_person", "given"),
        (rows[1].donor_consent_id, "face_donor", "given"),
        (rows[1].target_attestation_id, "target_person", "attested"),
    ]
    assert ["ledger_index" in each for each in said["records"]] == [True, True, True, False]
    assert [each["relationship"] for each in active["ingredients"]] == ["parentOf", "componentOf", "componentOf"]
    found = services.verify_file(path)
    assert (found.code, found.output is not None and found.output.target_cover) == ("ours_intact", "attestation")
    consents.withdraw_consent(rows[1].donor_consent)
    assert services.verify_file(path).code == "ours_withdrawn"
    assert not any(name in str(report) for name in ("Ada", "Ben"))


def test_what_an_account_may_ask_for_is_what_can_be_published() -> None:
    assert {*PHOTO_MIMES, *VIDEO_MIMES} == set(FORMATS) == set(EXTENSIONS)
    for mime in FORMATS:
        kind = "photo" if mime.startswith("image/") else "video"
        assert Options.from_mapping({"output_mime": mime}).mime_for(kind) == mime


def test_nothing_of_a_file_or_a_manifest_is_parsed_beside_the_keys(
    stage: Stage, grace: NDArray[np.uint8], clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, made = render(stage, "image/jpeg", tmp_path, grace, clip)

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("parsed in the process that holds the keys")

    for name in ("Reader", "Builder", "Context", "Signer"):
        monkeypatch.setattr(native_signing.c2pa, name, refuse)
    _, path = publishing.published(stage, job, made)
    assert services.verify_file(path).code == "ours_intact"


def test_a_target_that_declares_ai_keeps_its_manifest_in_what_is_published(
    stage: Stage, grace: NDArray[np.uint8], clip: Path, samples: Path, tmp_path: Path
) -> None:
    stranger = DevelopmentAuthority.create(tmp_path / "stranger")
    target = tmp_path / "target.jpg"
    plain = (samples / "grace_hopper.jpg").read_bytes()
    target.write_bytes(foreign(plain, stranger, "trainedAlgorithmicMedia", thumbnail=False))
    job, made = render(stage, "image/jpeg", tmp_path, grace, clip)
    _, path = publishing.published(stage, job, made, target=target)
    found = services.verify_file(path)
    assert found.code == "ours_intact"
    assert found.evidence.credentials is not None
    parent = found.evidence.credentials.ingredients[0]
    assert (parent.relationship, parent.state) == ("parentOf", "valid")
    assert parent.digital_source_types[0].endswith("trainedAlgorithmicMedia")
