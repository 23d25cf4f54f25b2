"""The portal on a phone and on a desk: every screen fits, axe finds nothing, and all of it works without scripts."""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from django.core import mail
from playwright.sync_api import Browser, Page, expect

from consent import services
from consent.models import Consent
from tests.browser.conftest import Axe
from tests.webapp import cast
from webapp.jobs.models import Job
from webapp.outbox import services as outbox
from webapp.screening.listed import ListedFace

pytestmark = pytest.mark.django_db(transaction=True)

OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
TARGETS = """() => [...document.querySelectorAll(
    '.button, main input:not([type=hidden]), main select, a.way, a.back, a.language, summary')]
  .map(one => (one.closest('label') || one).getBoundingClientRect())
  .filter(box => box.width > 0 && box.height > 0 && box.height < 43.5).length"""
LINK = re.compile(r"/me/in/[\w-]+\?lang=\S+")
ADA = "ada@example.org"


@pytest.fixture
def work(cleo: cast.Account) -> Job:
    """A published result under a permission of Ada's."""
    job = cast.published(cleo).job
    subject = cast.donor(job).subject
    from consent.subjects import contact_hmac

    sealed = subject.seal("contact", ADA)
    type(subject).objects.filter(pk=subject.pk).update(contact_hmac=contact_hmac(ADA), contact_sealed=sealed)
    services.give_consent(cast.donor(job), **cast.whole_answer(cast.donor(job), "Ada Byron"))
    outbox.relay()
    mail.outbox.clear()
    return job


def enter(page: Page, server: object) -> None:
    """From the door through the mail to the overview."""
    mail.outbox.clear()
    page.goto(f"{server}/me")
    page.get_by_label("Your e-mail address").fill(ADA)
    page.get_by_role("button", name="Send me a link").click()
    expect(page.get_by_role("status")).to_contain_text("If this address is known here")
    outbox.relay()
    found = LINK.search(mail.outbox[-1].body)
    assert found is not None
    page.goto(f"{server}{found[0]}")
    page.get_by_role("button", name="Open my page").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Your face here")


def test_every_screen_fits_and_axe_finds_nothing(
    axe: Axe, browser: Browser, live_server: object, work: Job, tmp_path: Path
) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, reduced_motion="reduce", bypass_csp=True)
    page = context.new_page()
    page.goto(f"{live_server}/me")
    shots = Path(os.environ.get("TEST_SCREENSHOTS") or tmp_path)
    consent_id = cast.donor(work).pk

    def check(name: str) -> None:
        for scheme, width in (("light", 360), ("dark", 1280)):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.set_viewport_size({"width": width, "height": 800})
            page.screenshot(path=shots / f"portal-{name}-{width}.png", full_page=True)
            assert page.evaluate(OVERFLOW) <= 0, (name, width)
            assert page.evaluate(TARGETS) == 0, (name, width)
            assert axe(page) == [], (name, width)
        assert page.locator("h1").count() == 1, name

    check("ask")
    enter(page, live_server)
    ListedFace.objects.create(subject=cast.donor(work).subject, key_id="key_x", state="failed", failure_code="no_face")
    screens = {
        "home": "/me",
        "home-zh": "/me?lang=zh-hans",
        "consent-zh": f"/me/consents/{consent_id}",
        "consent": f"/me/consents/{consent_id}?lang=en",
        "withdraw": f"/me/consents/{consent_id}/withdraw",
        "limit": "/me/limit",
        "face": "/me/face",
        "notes": f"/me/notes?about={consent_id}",
        "erase": "/me/erase",
        "problem": "/me/consents/cns_nothing",
    }
    for name, address in screens.items():
        page.goto(f"{live_server}{address}")
        check(name)
    context.close()


def test_all_of_it_works_without_scripts(browser: Browser, live_server: object, work: Job, tmp_path: Path) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, java_script_enabled=False)
    page = context.new_page()
    complaints: list[Any] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    enter(page, live_server)
    page.get_by_role("link", name="Open").first.click()
    expect(page.get_by_role("img", name="The result, in which your face was used")).to_be_visible()

    page.get_by_role("button", name="Put on hold").click()
    expect(page.get_by_text("On hold: nothing new is made with this permission.")).to_be_visible()
    page.get_by_role("button", name="Lift the hold").click()
    expect(page.get_by_role("button", name="Put on hold")).to_be_visible()

    page.get_by_role("link", name="Write to the operator about this").click()
    page.get_by_label("I object to a use of my data").check()
    page.get_by_label("Your words").fill("Not for advertising, please.")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("status")).to_have_text("Your note was sent. The answer will stand here.")

    page.get_by_role("link", name="Back to the overview").click()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download everything").click()
    copy = tmp_path / "mine.zip"
    saved.value.save_as(copy)
    with zipfile.ZipFile(copy) as file:
        assert file.testzip() is None
        assert "Not for advertising, please." in file.read("notes.jsonld").decode()

    page.get_by_role("link", name="Never my face").click()
    page.get_by_label("A photo that shows your face alone").set_input_files(cast.SAMPLES / "astronaut.jpg")
    page.get_by_role("checkbox").check()
    page.get_by_role("button", name="Put my face on the list").click()
    expect(page.get_by_text("The photo waits to be read.")).to_be_visible()
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_text("You are not on the list.")).to_be_visible()

    page.get_by_role("link", name="Back to the overview").click()
    page.get_by_role("link", name="Open").first.click()
    page.get_by_role("link", name="Withdraw").click()
    page.get_by_role("button", name="Yes, withdraw").click()
    expect(page.get_by_text("Hidden, because permission was withdrawn.")).to_be_visible()
    assert Consent.objects.get(pk=cast.donor(work).pk).state == "withdrawn"

    page.get_by_role("link", name="Back to the overview").click()
    page.get_by_role("link", name="Erase my data").click()
    page.get_by_role("checkbox").check()
    page.get_by_role("button", name="Erase my data now").click()
    expect(page.get_by_text("Your data was erased.")).to_be_visible()
    page.goto(f"{live_server}/me")
    expect(page.get_by_label("Your e-mail address")).to_be_visible()
    assert complaints == []
    context.close()
