"""Moderators decide what the gate would not, with a reason."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.webapp import cast
from webapp.jobs import intake, leases
from webapp.jobs.models import Asset
from webapp.screening import services as screening
from webapp.screening.models import Review, ScreeningRecord

pytestmark = pytest.mark.django_db


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


def test_a_moderator_sees_the_evidence(review: Review) -> None:
    _, mod = cast.moderator()
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
    assert mod.get(f"/console/reviews/{review.pk}/{other.pk}/0.jpg").status_code == 404
    assert mod.get("/console/reviews/%00/x/0.jpg").status_code == 404
    assert mod.post("/console/reviews/rev_none", {"decision": "release", "reason": "x"}).status_code == 404
