"""Moderators look at the videos the check would not decide alone; nobody else sees them."""

from __future__ import annotations

import io

import pytest
from django.test import Client

from consent import services as consents
from consent.challenge import clips
from consent.models import AuditRecord, Challenge
from tests.webapp import cast
from webapp.jobs import challenges as work
from webapp.jobs import leases
from webapp.jobs import services as jobs

pytestmark = pytest.mark.django_db
STILL = b"\xff\xd8 Ada, her head turned \xff\xd9"


@pytest.fixture
def waiting(cleo: cast.Account) -> Challenge:
    """A video that a person has to look at."""
    photo = cast.ready(cleo, "source")
    consent, _ = jobs.request_consent(
        organisation_id=cleo.organisation.pk,
        organisation_name=cleo.organisation.name,
        requested_by="Cleo",
        role="face_donor",
        name="Ada",
        contact="ada@example.org",
        purposes=["personal"],
        photos=[consents.PhotoRef(photo.pk, photo.sha256, 0)],
        target=None,
        livemode=False,
        assurance="L2",
    )
    consents.answer_consent(consent, **cast.whole_answer(consent, "Ada Byron"))
    challenge = consents.issue_challenge(consent)
    consents.submit_clip(consent, challenge.pk, io.BytesIO(b"a clip"), mime="video/webm", size=6)
    owner = leases.new_owner()
    work.claim(challenge.pk, owner)
    consents.settle_check(
        challenge.pk,
        owner,
        verdict="review",
        codes=["source_unsure"],
        report={},
        match={"score": 0.52, "threshold": 0.45},
        stills=[clips.store(io.BytesIO(STILL), challenge.key_id)],
    )
    challenge.refresh_from_db()
    return challenge


def _addresses(challenge: Challenge) -> list[str]:
    root = f"/console/selfies/{challenge.pk}"
    return ["/console/selfies", f"{root}/still/0.jpg", f"{root}/source/0.jpg"]


def test_nobody_but_a_moderator_sees_a_face(cleo: cast.Account, waiting: Challenge) -> None:
    for path in _addresses(waiting):
        assert Client().get(path)["Location"].startswith("/login")
        assert cleo.browser.get(path).status_code == 403
    assert (
        cleo.browser.post(f"/console/selfies/{waiting.pk}", {"decision": "release", "reason": "mine"}).status_code
        == 403
    )
    waiting.refresh_from_db()
    assert waiting.state == "review"


def look(mod: Client, challenge: Challenge) -> None:
    answer = mod.post(f"/console/selfies/{challenge.pk}/look", {"why": "moderation", "reason": "case 7"})
    assert answer.status_code == 302


def test_no_face_is_shown_before_a_reason_and_the_look_is_in_the_log(waiting: Challenge) -> None:
    moderator, mod = cast.moderator()
    page, still, source = (mod.get(path) for path in _addresses(waiting))
    assert "still/0.jpg" not in page.content.decode()
    assert (still.status_code, source.status_code) == (404, 404)
    assert mod.post(f"/console/selfies/{waiting.pk}/look", {"why": ""}).status_code == 422
    assert not AuditRecord.objects.exists()
    look(mod, waiting)
    record = AuditRecord.objects.get()
    assert (record.actor_id, record.action, record.subject_ref) == (
        str(moderator.pk),
        "face.viewed",
        waiting.consent_id,
    )


def test_a_moderator_sees_both_sides_and_decides_once(waiting: Challenge) -> None:
    _, mod = cast.moderator()
    look(mod, waiting)
    page, still, source = (mod.get(path) for path in _addresses(waiting))
    html = page.content.decode()
    for text in ("source_unsure", "0.52", waiting.consent.pk, "still/0.jpg", "source/0.jpg"):
        assert text in html
    assert "Ada" not in html.replace("Ada@", "")
    assert still.content == STILL
    assert source.status_code in (200, 404)
    assert "no-store" in still["Cache-Control"]
    address = f"/console/selfies/{waiting.pk}"
    assert "Choose release or reject" in mod.post(address, {"reason": "x"}, follow=True).content.decode()
    assert "Write why" in mod.post(address, {"decision": "release", "reason": " "}, follow=True).content.decode()
    assert "recorded" in mod.post(address, {"decision": "release", "reason": "The same."}, follow=True).content.decode()
    again = mod.post(address, {"decision": "reject", "reason": "No."}, follow=True).content.decode()
    assert "decided or closed" in again
    waiting.refresh_from_db()
    assert (waiting.state, waiting.consent.state) == ("passed", "given")
    assert [mod.get(path).status_code for path in _addresses(waiting)] == [200, 404, 404]
    assert "Nothing waits" in mod.get("/console/selfies").content.decode()


@pytest.mark.parametrize("path", ["still/7.jpg", "source/7.jpg", "still/0.jpg?x=%00"])
def test_what_is_not_there_is_not_found(waiting: Challenge, path: str) -> None:
    _, mod = cast.moderator()
    look(mod, waiting)
    assert mod.get(f"/console/selfies/{waiting.pk}x/{path}").status_code == 404
    assert mod.get(f"/console/selfies/{waiting.pk}/{path}").status_code == (200 if "?" in path else 404)
