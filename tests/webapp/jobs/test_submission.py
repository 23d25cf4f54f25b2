"""What may become a job, and what is refused before there is a row."""

from __future__ import annotations

from typing import Any

import pytest

from consent import services as consents
from webapp import storage
from webapp.jobs import services
from webapp.jobs.errors import JobsError
from webapp.jobs.models import Asset, Job

pytestmark = pytest.mark.django_db


def refused(stage: Any, **changes: Any) -> JobsError:
    """The error of a submission; no row may be left."""
    before = Job.objects.count()
    with pytest.raises(JobsError) as error:
        stage.submit(**changes)
    assert Job.objects.count() == before
    return error.value


def test_a_job_with_everything_in_order_goes_to_the_gate(stage: Any) -> None:
    job = stage.submit()
    assert job.state == "queued"
    assert job.queued_at is not None
    state = services.job_state(job)
    assert [consent["state"] for consent in state["consents"]] == ["given", "given"]
    assert state["livemode"] is False
    assert state["failure"] is None


def test_without_anybody_answering_for_the_target_there_is_no_job(stage: Any) -> None:
    error = refused(stage, target_consent=None)
    assert (error.code, error.status) == ("consent_required", 422)


def test_a_rights_attestation_stands_in_for_the_target_person_but_only_for_its_file(stage: Any) -> None:
    target = stage.ready("target")
    job = stage.submit(target=target, target_consent=None, target_attestation=stage.attest(target))
    assert job.swaps.get().target_consent is None
    other = stage.attest(stage.ready("target"))
    assert refused(stage, target_consent=None, target_attestation=other).code == "attestation_other_target"
    assert refused(stage, target=target, target_attestation=stage.attest(target)).code == "covered_twice"
    declaration = stage.declare()
    assert refused(stage, target_consent=None, target_attestation=declaration).code in {
        "attestation_other_target",
        "declaration_required",
    }


def test_things_of_another_organisation_are_not_found(stage: Any) -> None:
    foreign_source, foreign_target = stage.ready("source", stage.other), stage.ready("target", stage.other)
    own = stage.ready("source")
    for changes in (
        {"source": foreign_source, "donor_consent": stage.ask("face_donor", own)},
        {"target": foreign_target, "target_consent": stage.ask("target_person", stage.ready("target"))},
        {"donor_consent": stage.ask("face_donor", foreign_source)},
        {"target_consent": stage.ask("target_person", foreign_target)},
        {"declaration": stage.declare(stage.other)},
    ):
        error = refused(stage, **changes)
        assert (error.code, error.status) == ("not_found", 404)


def test_a_consent_to_other_photos_another_target_or_another_purpose_does_not_do(stage: Any) -> None:
    other_photo = stage.ask("face_donor", stage.ready("source"))
    assert refused(stage, donor_consent=other_photo).code == "consent_other_photo"
    other_target = stage.ask("target_person", stage.ready("target"))
    assert refused(stage, target_consent=other_target).code == "consent_other_target"
    assert refused(stage, purpose="advertising").code == "consent_wrong_purpose"
    assert refused(stage, purpose="politics").code == "purpose_unknown"
    swapped = stage.ready("source")
    assert refused(stage, source=swapped, target_consent=stage.ask("face_donor", swapped)).code == "consent_wrong_role"


def test_a_face_beside_the_confirmed_one_in_the_same_photo_is_refused(stage: Any) -> None:
    two = [{"index": 0, "size": 90.0}, {"index": 1, "size": 80.0}]
    source = stage.ready("source", faces=two)
    error = refused(stage, source=source, sources=[(source, 1)], donor_consent=stage.ask("face_donor", source))
    assert error.code == "consent_other_photo"


def test_an_ended_consent_makes_no_job_and_an_open_one_makes_one_that_waits(stage: Any) -> None:
    source, target = stage.ready("source"), stage.ready("target")
    consent = stage.ask("face_donor", source)
    consents.withdraw_consent(consent)
    consent.refresh_from_db()
    assert refused(stage, source=source, donor_consent=consent).code == "consent_withdrawn"
    open_request = stage.ask("target_person", target, give=False)
    job = stage.screened(stage.submit(target=target, target_consent=open_request))
    assert job.state == "awaiting_consent"
    wrong = stage.ask("target_person", stage.ready("target"), give=False)
    assert refused(stage, target_consent=wrong).code == "consent_other_target"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"watermark": False}, "option_unknown"),
        ({"label": None}, "option_unknown"),
        ({"mark_mode": "none"}, "option_invalid"),
        ({"output_mime": "image/gif"}, "option_invalid"),
        ({"output_mime": "video/mp4"}, "option_invalid"),
        ({"jpeg_quality": 5}, "option_invalid"),
        ({"jpeg_quality": True}, "option_invalid"),
        ({"crf": "18"}, "option_invalid"),
        ({"codec": "vp9"}, "option_invalid"),
        ({"trim_start": 3, "trim_end": 2}, "option_invalid"),
        ({"label_extent": "none"}, "option_invalid"),
        ({"label_extent": "start"}, "option_invalid"),  # not in an evaluation
        ({"label_language": "xx"}, "option_invalid"),
        ({"jurisdictions": "eu"}, "option_invalid"),
        ({"jurisdictions": ["atlantis"]}, "option_invalid"),
        ({"jurisdictions": ["eu"], "label_place": "bottom-left"}, "option_invalid"),
        ({"swapper": "unheard_of"}, "option_invalid"),
        ({"enhancer": "gfpgan_1.4"}, "option_invalid"),  # the built-in swapper has none
        ({"swapper": "inswapper_128"}, "model_missing"),
    ],
)
def test_options_are_a_closed_list_and_none_turns_a_promise_off(stage: Any, options: Any, code: str) -> None:
    assert refused(stage, options=options).code == code


def test_faces_and_roles_must_fit(stage: Any) -> None:
    assert refused(stage, target_face=7).code == "face_unknown"
    assert refused(stage, target_face=-1).code == "face_unknown"
    source = stage.ready("source")
    consent = stage.ask("face_donor", source)
    assert refused(stage, sources=[], source=source, donor_consent=consent).code == "source_required"
    assert refused(stage, sources=[(source, 0)] * 2, source=source, donor_consent=consent).code == "too_many_sources"
    target = stage.ready("target")
    assert refused(stage, sources=[(target, 0)], target=target).code == "asset_wrong_role"


def test_a_refused_or_erased_file_makes_no_job(stage: Any) -> None:
    for state, code in (("refused", "asset_refused"), ("failed", "asset_failed")):
        target = stage.ready("target")
        consent = stage.ask("target_person", target)
        Asset.objects.filter(pk=target.pk).update(state=state)
        target.refresh_from_db()
        assert refused(stage, target=target, target_consent=consent).code == code


def test_a_job_waits_for_a_file_that_is_still_being_screened_and_shares_its_fate(stage: Any) -> None:
    from webapp.jobs import intake

    for verdict, expected in (("ready", "queued"), ("refused", "refused"), ("failed", "failed")):
        target = stage.upload("target")
        consent = stage.ask("target_person", target)
        job = stage.submit(target=target, target_consent=consent)
        assert (job.state, job.queued_at) == ("queued", None)
        claimed = intake.claim_asset(target.pk, "screener")
        assert claimed is not None
        if verdict == "ready":
            assert intake.asset_accepted(target.pk, owner="screener")
        elif verdict == "refused":
            assert intake.asset_refused(target.pk, "no_face", "No face.", owner="screener")
        else:
            assert intake.asset_failed(target.pk, "disk_full", "Full.", owner="screener")
        job.refresh_from_db()
        assert job.state == expected
        assert (job.queued_at is not None) == (verdict == "ready")


def test_evaluation_makes_no_live_jobs(stage: Any, settings: Any) -> None:
    assert stage.submit(livemode=True).livemode is False


def test_an_upload_is_stored_sealed_and_an_empty_or_huge_one_is_refused(stage: Any, settings: Any) -> None:
    asset = stage.upload("source")
    assert storage.exists(asset.object_name)
    assert asset.size == len(f"source {stage.count}")
    path = stage.folder / "empty.jpg"
    path.touch()
    for role, code in (("source", "empty_file"), ("owner", "role_invalid")):
        with pytest.raises(JobsError) as error:
            services.receive_asset(stage.studio, stage.cleo, role=role, file=path, name="x.jpg")
        assert error.value.code == code
    settings.MAX_PHOTO_BYTES = settings.MAX_VIDEO_BYTES = 10
    path.write_bytes(b"x" * 11)
    with pytest.raises(JobsError) as error:
        services.receive_asset(stage.studio, stage.cleo, role="source", file=path, name="x.jpg")
    assert (error.value.code, error.value.status) == ("too_large", 413)
    assert Asset.objects.count() == 1
