"""The pages that speak of the scope and of its end, on a phone and on a desk; PNGs where SCREENSHOTS names a folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from consent import services as consents
from tests.browser.test_pages_in_chromium import OVERFLOW, TARGETS, UNNAMED
from tests.webapp import cast

pytestmark = pytest.mark.django_db(transaction=True)


def fits(page: Page, name: str) -> None:
    for width in (360, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate(OVERFLOW) <= 0, (name, width)
        assert page.evaluate(TARGETS) == 0, (name, width)
        if folder := os.environ.get("TEST_SCREENSHOTS"):
            page.screenshot(path=str(Path(folder) / f"{name}-{width}.png"), full_page=True)
    assert page.evaluate(UNNAMED) == [], name


@pytest.mark.parametrize(
    ("lang", "tick"), [("en", "Results may also be political."), ("zh-hans", "成品也可以是政治性的。")]
)
def test_the_person_reads_the_whole_scope_and_need_not_tick_what_is_a_wish(
    page: Page, cleo: cast.Account, live_server: object, lang: str, tick: str
) -> None:
    source = cast.ready(cleo, "source")
    targets = [cast.ready(cleo, "target"), cast.ready(cleo, "target", path=cast.SAMPLES / "astronaut.jpg")]
    consent, token = consents.request_consent(
        organisation_id=cleo.organisation.pk,
        organisation_name=cleo.organisation.name,
        requested_by="Cleo",
        role="face_donor",
        name="Ada",
        purposes=["personal", "advertising"],
        photos=[consents.PhotoRef(source.pk, source.sha256, 0)],
        targets=[consents.TargetRef(each.pk, each.sha256, 0) for each in targets],
        livemode=False,
        scope=consents.Scope(
            partners=["Big Screen Ltd"],
            territories=["DE", "FR"],
            intended_use="A poster for the summer play",
            relationship="employee",
            political=True,
            max_total_seconds=60,
        ),
    )
    page.goto(f"{live_server}/c/{token}?lang={lang}")
    expect(page.locator("figure img")).to_have_count(3)
    assert page.evaluate("[...document.querySelectorAll('figure img')].every(one => one.naturalWidth > 0)")
    fits(page, f"ask-{lang}")
    for box in page.get_by_role("checkbox").all():
        if box.get_attribute("value") not in ("political", "yes"):
            box.check()
    expect(page.get_by_label(tick)).not_to_be_checked()
    page.locator("#field-typed_name").fill("Ada Byron")
    page.locator("form.answer button").first.click()
    page.wait_for_url(f"**/c/{token}?lang={lang}")
    consent.refresh_from_db()
    assert (consent.state, consent.no_political) == ("given", True)


@pytest.mark.parametrize("end", ["withdrawn", "revoked"])
def test_the_account_sees_what_the_end_of_a_permission_did_and_confirms_its_deletion(
    page: Page, cleo: cast.Account, live_server: object, end: str
) -> None:
    output = cast.published(cleo)
    donor = cast.donor(output.job)
    consents.give_consent(donor, **cast.whole_answer(donor, "Ada Byron"))
    if end == "withdrawn":
        consents.withdraw_consent(donor)
    else:
        consents.revoke_consent(donor, reason="court")
    page.goto(f"{live_server}/jobs/{output.job_id}")
    expect(page.get_by_role("heading", name="The result is hidden")).to_be_visible()
    fits(page, f"job-{end}")
    page.goto(f"{live_server}/jobs/{output.job_id}/result")
    says = "The permission was withdrawn on" if end == "withdrawn" else "The operator ended the permission on"
    expect(page.get_by_text(says)).to_be_visible()
    fits(page, f"result-{end}")
    page.get_by_role("button", name="All our copies are deleted").click()
    expect(page.get_by_text("You confirmed on")).to_be_visible()
    page.goto(f"{live_server}/verify/o/{output.pk}")
    expect(page.get_by_role("heading", name=says)).to_be_visible()
    fits(page, f"status-{end}")


def test_the_wizard_asks_what_the_person_is_to_the_account(page: Page, cleo: cast.Account, live_server: object) -> None:
    source, target = cast.ready(cleo, "source"), cast.ready(cleo, "target")
    page.goto(f"{live_server}/new/permission?source={source.pk}&target={target.pk}")
    fits(page, "wizard")
    page.locator("#donor_name").fill("Ada")
    page.locator("#target_name").fill("Ben")
    page.locator("#donor_relationship").select_option("employee")
    page.locator("#intended_use").fill("A poster for the summer play")
    page.get_by_label("Personal").check()
    for name in cast.DECLARED:
        page.locator(f"#tick_{name}").check()
    page.get_by_role("button", name="Ask for permission and make the job").click()
    expect(page.get_by_role("img", name="QR code of the link for Ada")).to_be_visible()
    from webapp.jobs.models import Job

    donor = cast.donor(Job.objects.get())
    assert (donor.relationship, donor.intended_use) == ("employee", "A poster for the summer play")
