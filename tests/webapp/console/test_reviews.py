"""Moderators decide what the gate would not, with a reason."""

from __future__ import annotations

import pytest
from django.test import Client

from consent.models import AuditRecord, LedgerEntry
from tests.webapp import cast
from webapp.console import words
from webapp.jobs import intake, leases
from webapp.jobs.models import Asset
from webapp.screening import services as screening
from webapp.screening.models import Review, ScreeningRecord
from worker.gate import rules_origin, signals
from worker.gate.declared import provenance
from worker.gate.declared.declarations import Declaration
from worker.gate.looks import alignment, lists

pytestmark = pytest.mark.django_db


def reviewed(cleo: cast.Account, asset: Asset) -> Review:
    """A ready file back in review, with its previews."""
    evidence = ScreeningRecord.objects.create(
        asset=asset, profile="standard", policy_version="1", signals=[], decision="review", reasons=["age_unsure"]
    )
    return screening.open_review(evidence)


@pytest.fixture
def review(cleo: cast.Account) -> Review:
    """An upload that the gate wants a person to look at."""
    asset = cast.uploaded(cleo, "target")
    worker = leases.new_owner()
    intake.claim_asset(asset.pk, worker)
    intake.asset_held(asset.pk, owner=worker)
    evidence = ScreeningRecord.objects.create(
        asset=asset,
        profile="standard",
        policy_version="1",
        signals=[{"kind": "age", "score": 0.4, "note": "<script>"}],
        decision="review",
        reasons=["age_unsure"],
        not_screened=["face_forgery"],
    )
    return screening.open_review(evidence)


def test_strangers_and_accounts_do_not_see_reviews(cleo: cast.Account, review: Review) -> None:
    paths = ["/console/reviews", f"/console/reviews/{review.pk}/{review.screening.asset_id}/0.jpg"]
    for path in paths:
        assert Client().get(path)["Location"].startswith("/login")
        assert cleo.browser.get(path).status_code == 403
    answer = cleo.browser.post(f"/console/reviews/{review.pk}", {"decision": "release", "reason": "mine"})
    assert answer.status_code == 403
    review.refresh_from_db()
    assert review.state == "open"


def look(mod: Client, review: Review) -> None:
    """Mod says why."""
    answer = mod.post(f"/console/reviews/{review.pk}/look", {"why": "moderation", "reason": "case 7"})
    assert answer["Location"] == f"/console/reviews#{review.pk}-title"


def test_before_a_reason_no_face_and_no_file_name_is_shown(cleo: cast.Account) -> None:
    review = reviewed(cleo, cast.ready(cleo, "target"))
    _, mod = cast.moderator()
    picture = f"/console/reviews/{review.pk}/{review.screening.asset_id}/0.jpg"
    html = mod.get("/console/reviews").content.decode()
    assert "grace_hopper" not in html
    assert html.count(".jpg") == html.count(".blurred.jpg") == 1
    assert mod.get(picture).status_code == 404
    for form in ({}, {"why": "other", "reason": "  "}, {"why": "curiosity", "reason": "x"}):
        answer = mod.post(f"/console/reviews/{review.pk}/look", form)
        assert answer.status_code == 422
        assert "Nothing was shown" in answer.content.decode()
        assert "grace_hopper" not in answer.content.decode()
    assert mod.get(picture).status_code == 404
    assert not AuditRecord.objects.exists()
    look(mod, review)
    assert "grace_hopper" in mod.get("/console/reviews").content.decode()
    assert mod.get(picture)["Content-Type"] == "image/jpeg"


def test_a_look_is_logged_with_its_reason_and_lasts_15_minutes_in_one_session(cleo: cast.Account) -> None:
    review = reviewed(cleo, cast.ready(cleo, "target"))
    user, mod = cast.moderator()
    look(mod, review)
    record = AuditRecord.objects.get()
    assert (record.actor_id, record.action, record.subject_ref) == (
        str(user.pk),
        "face.viewed",
        review.screening.asset_id,
    )
    assert record.reason == "moderation: case 7"
    assert LedgerEntry.objects.filter(kind="audit", ref=review.screening.asset_id).count() == 1
    other = Client()
    other.force_login(user)
    assert "grace_hopper" not in other.get("/console/reviews").content.decode()
    session = mod.session
    session["looks"] = {review.pk: session["looks"][review.pk] - 15 * 60}
    session.save()
    assert "grace_hopper" not in mod.get("/console/reviews").content.decode()


def test_a_moderator_sees_the_evidence(review: Review) -> None:
    _, mod = cast.moderator()
    look(mod, review)
    html = mod.get("/console/reviews").content.decode()
    for text in ("age_unsure", "face_forgery", "grace_hopper.jpg", "Cleo&#x27;s studio", "standard, version 1"):
        assert text in html
    assert "<script>" not in html.replace('<script type="module"', "")


@pytest.mark.parametrize(("decision", "state"), [("release", Asset.State.READY), ("reject", Asset.State.REFUSED)])
def test_a_decision_needs_a_reason_and_is_carried_out_once(review: Review, decision: str, state: str) -> None:
    user, mod = cast.moderator()
    address = f"/console/reviews/{review.pk}"
    assert "needs its reason" in mod.post(address, {"decision": decision, "reason": " "}, follow=True).content.decode()
    assert "Choose release or reject" in mod.post(address, {"reason": "x"}, follow=True).content.decode()
    mod.post(address, {"decision": decision, "reason": "seen the papers"})
    review.refresh_from_db()
    asset = review.screening.asset
    assert asset is not None
    assert (asset.state, review.reviewer, review.reason) == (state, user, "seen the papers")
    again = mod.post(address, {"decision": "reject", "reason": "changed my mind"}, follow=True)
    assert "decided this review already" in again.content.decode()
    assert "Nothing waits for a decision" in again.content.decode()


def test_a_decision_from_elsewhere_is_refused(review: Review) -> None:
    user, _ = cast.moderator()
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(user)
    answer = browser.post(f"/console/reviews/{review.pk}", {"decision": "release", "reason": "x"})
    assert answer.status_code == 403
    assert "Please send this again" in answer.content.decode()


def test_only_pictures_of_the_review_are_shown(cleo: cast.Account, review: Review) -> None:
    other = cast.ready(cleo, "source")
    _, mod = cast.moderator()
    look(mod, review)
    assert mod.get(f"/console/reviews/{review.pk}/{other.pk}/0.jpg").status_code == 404
    assert mod.get("/console/reviews/%00/x/0.jpg").status_code == 404
    assert mod.post("/console/reviews/rev_none", {"decision": "release", "reason": "x"}).status_code == 404


def test_what_the_gate_found_is_told_in_sentences_and_the_files_own_words_after_a_reason(cleo: cast.Account) -> None:
    hit = {"list": "banned", "kind": "watch", "line": 7, "distance": 12, "what": "face", "seconds": 3.25}
    said = [
        Declaration("aigc", "suspected", "xmp", "ContentProducer Zhang San"),
        Declaration("generator", "ComfyUI", "png_text", "prompt"),
        Declaration("camera", "<b>Canon</b>", "exif", "Model"),
    ]
    found = [
        provenance.measured(said, unread=["png_text: too_large", "xmp: malformed"]),
        lists.measured([hit], names=["banned"], entries=9, looked=4),
        alignment.measured(square=True, offset=0.004, share=1.0),
        signals.own_mark(b"\1" * 8, "full", {"output": "out_1", "job": "job_1", "owner": "another"}),
        signals.credentials("valid", is_ours=False, issuer="x", source_types=["trainedAlgorithmicMedia"]),
    ]
    review = reviewed(cleo, cast.ready(cleo, "target"))
    ScreeningRecord.objects.filter(pk=review.screening_id).update(signals=[each.to_dict() for each in found])
    _, mod = cast.moderator()
    before = mod.get("/console/reviews").content.decode()
    assert "Zhang San" not in before
    assert "Canon" not in before
    look(mod, review)
    html = mod.get("/console/reviews").content.decode()
    for text in (
        "China&#x27;s AIGC label (XMP) says that it is suspected to be made by AI (ContentProducer Zhang San).",
        "It carries what ComfyUI leaves in the pictures it makes (a text chunk of the PNG).",
        "A face in it is near line 7 of the list “banned” (watch) at 3.2 s: 12 of 256 bits differ",
        "A block of metadata (a text chunk of the PNG) is larger than any honest one",
        "where face generators put it",
        "It is the result out_1 of job job_1, of another organisation.",
        "Content Credentials say that AI made or changed it (valid).",
    ):
        assert text in html, text
    assert "<b>Canon" not in html


def test_every_code_of_these_rules_has_words() -> None:
    codes = {*rules_origin.CODES, "ffhq_alignment", "watched_picture", "listed_picture", "is_our_output"}
    for code in (*codes, "output_of_another_account"):
        assert code in words.REASONS
