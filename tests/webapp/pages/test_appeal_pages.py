"""The page of an appeal: offered where something was refused, sent once, followed to its end."""

from __future__ import annotations

import pytest

from tests.webapp import cast
from webapp.jobs import flow
from webapp.jobs.models import Job
from webapp.screening import appeals, services
from webapp.screening.models import Review, ScreeningRecord

pytestmark = pytest.mark.django_db

WHY = "It is my own face, and it is large enough."


def test_the_check_page_offers_an_appeal_and_the_page_sends_it_once(cleo: cast.Account) -> None:
    source, target = cast.ready(cleo, "source"), cast.refused(cleo)
    query = f"source={source.pk}&target={target.pk}"
    address = f"/assets/{target.pk}/appeal?{query}"
    html = cleo.browser.get(f"/new/check?{query}").content.decode()
    assert address.replace("&", "&amp;") in html
    assert "two people then look at it" in html
    html = cleo.browser.get(address).content.decode()
    assert f'href="/new/check?{query}"'.replace("&", "&amp;") in html
    short = cleo.browser.post(address, {"statement": "no"})
    assert short.status_code == 422
    assert "10 to 1000 characters" in short.content.decode()
    sent = cleo.browser.post(address, {"statement": WHY})
    assert (sent.status_code, sent["Location"]) == (302, address)
    assert Review.objects.get().appellant == cleo.user
    html = cleo.browser.get(address).content.decode()
    assert WHY in html
    assert "They should have decided by" in html
    assert "<form" not in html.split("<main")[1].split("</main>")[0]
    assert cleo.browser.post(address, {"statement": WHY}).status_code == 409
    assert "See the appeal" in cleo.browser.get(f"/new/check?{query}").content.decode()


def test_the_outcome_is_told_without_who_decided(cleo: cast.Account) -> None:
    target = cast.refused(cleo)
    review = appeals.appeal(target, cleo.user, WHY)
    mod, _ = cast.moderator()
    services.reject_review(review, mod, "the reason of the house")
    html = cleo.browser.get(f"/assets/{target.pk}/appeal").content.decode()
    assert "the refusal stands" in html
    assert "the reason of the house" not in html
    assert mod.email not in html


def test_a_jobs_page_offers_the_appeal_about_the_file_it_was_refused_for(cleo: cast.Account) -> None:
    job = cast.submitted(cleo)
    target = job.target
    ScreeningRecord.objects.create(
        asset=target, profile="evaluation", policy_version="1", signals=[], decision="reject", reasons=["nsfw"]
    )
    type(target).objects.filter(pk=target.pk).update(state="refused", failure_code="nsfw")
    flow.assets_changed(job.pk)
    job.refresh_from_db()
    assert (job.state, job.failure_code) == ("refused", "asset_refused")
    html = cleo.browser.get(f"/jobs/{job.pk}").content.decode()
    assert f"/assets/{target.pk}/appeal" in html
    assert f"/jobs/{job.pk}/appeal" not in html


def test_a_refused_job_is_appealed_from_its_page(cleo: cast.Account) -> None:
    job = cast.submitted(cleo)
    ScreeningRecord.objects.create(
        job=job, profile="evaluation", policy_version="1", signals=[], decision="reject", reasons=["identity_mismatch"]
    )
    Job.objects.filter(pk=job.pk).update(state="refused", failure_code="identity_mismatch", failure_message="No.")
    assert f"/jobs/{job.pk}/appeal" in cleo.browser.get(f"/jobs/{job.pk}").content.decode()
    cleo.browser.post(f"/jobs/{job.pk}/appeal", {"statement": WHY})
    html = cleo.browser.get(f"/jobs/{job.pk}").content.decode()
    assert "In review" in html
    assert "See the appeal" in html


def test_what_nobody_may_let_through_says_where_to_write_and_has_no_form(cleo: cast.Account) -> None:
    source, target = cast.ready(cleo, "source"), cast.refused(cleo, "stay_down")
    html = cleo.browser.get(f"/new/check?source={source.pk}&target={target.pk}").content.decode()
    assert "write to whoever runs this service" in html
    assert "/appeal" not in html
    page = cleo.browser.get(f"/assets/{target.pk}/appeal").content.decode()
    assert "There is no appeal here" in page
    assert "stay_down" not in html + page


def test_other_tenants_and_strangers_see_no_appeal(cleo: cast.Account, dan: cast.Account) -> None:
    target = cast.refused(cleo)
    path = f"/assets/{target.pk}/appeal"
    assert dan.browser.get(path).status_code == 404
    assert dan.browser.post(path, {"statement": WHY}).status_code == 404
    assert not Review.objects.exists()


def test_a_job_that_passed_says_so_in_these_words_and_names_what_nobody_looked_for(cleo: cast.Account) -> None:
    job = cast.submitted(cleo)
    assert "input screening" not in cleo.browser.get(f"/jobs/{job.pk}").content.decode()
    ScreeningRecord.objects.create(
        job=job,
        profile="evaluation",
        policy_version="2026-11.3",
        signals=[],
        decision="accept",
        not_screened=["face_forgery", "age"],
    )
    html = cleo.browser.get(f"/jobs/{job.pk}").content.decode()
    assert "Passed input screening, policy v2026-11.3. Not screened for: forged faces, age." in html
