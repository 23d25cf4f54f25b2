"""The receipt on a phone, the page that checks one, and the console's gate, in a real browser."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from consent import ledger
from consent import services as consents
from consent.models import AuditRecord, Consent
from consent.receipts import services as receipts
from tests.browser.test_pages_in_chromium import OVERFLOW, UNNAMED
from tests.webapp import cast

pytestmark = pytest.mark.django_db(transaction=True)

# Links, buttons and fields that a thumb could miss; links inside a sentence are text.
TARGETS = """() => [...document.querySelectorAll(
    'main .button, main select, main input:not([type=hidden]), main textarea, main li > a, nav a, nav button')]
  .map(one => [one, (one.closest('label') || one).getBoundingClientRect()])
  .filter(([one, box]) => box.width > 0 && box.height > 0 && box.height < 43.5).map(([one]) => one.outerHTML)"""


def check(page: Page, name: str) -> None:
    """Fits a phone, every field has a name, every target a size; a picture of it where PICTURES names a folder."""
    assert page.evaluate(OVERFLOW) <= 0
    assert page.evaluate(UNNAMED) == []
    assert page.evaluate(TARGETS) == []
    if folder := os.environ.get("PICTURES"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


@pytest.fixture
def answered(cleo: cast.Account) -> tuple[Consent, str]:
    source, target = cast.ready(cleo, "source"), cast.ready(cleo, "target")
    consent, token = cast.ask(cleo, "face_donor", "Ada Lovelace", source, target)
    consents.give_consent(consent, **cast.whole_answer(consent, "Ada Lovelace"))
    ledger.sequence()
    assert receipts.issue_due() == 1
    return consent, token


def test_a_person_keeps_their_receipt_and_checks_it(
    context: BrowserContext, live_server: object, answered: tuple[Consent, str], complaints: list[str], tmp_path: Path
) -> None:
    _, token = answered
    page = context.new_page()
    page.goto(f"{live_server}/c/{token}")
    page.get_by_role("link", name="Receipt: read, download, check").click()
    expect(page.get_by_role("heading", name="Receipt for a permission")).to_be_visible()
    code = page.get_by_role("img", name="QR code")
    expect(code).to_be_visible()
    expect(code).to_have_js_property("complete", True)
    assert code.evaluate("image => image.naturalWidth") > 100
    check(page, "receipt-en")
    files = {}
    for kind, name in (("pdf", "PDF"), ("jwt", "JWT"), ("json", "JSON")):
        with page.expect_download() as saved:
            page.get_by_role("link", name=f"({name})").click()
        files[kind] = tmp_path / f"receipt.{kind}"
        saved.value.save_as(files[kind])
    page.get_by_role("link", name="Check a receipt").click()
    for path in files.values():
        page.get_by_label("The file").set_input_files(path)
        page.get_by_role("button", name="Check").click()
        expect(page.get_by_text("This receipt is real")).to_be_visible()
        expect(page.get_by_text("in force")).to_be_visible()
    check(page, "check-en")
    page.get_by_role("link", name="中文").click()
    page.get_by_label("或凭证文本").fill("eyJ.no.receipt")
    page.get_by_role("button", name="核对").click()
    expect(page.get_by_role("alert")).to_be_focused()
    check(page, "check-zh")
    page.goto(f"{live_server}/c/{token}/receipt?lang=zh-hans")
    check(page, "receipt-zh")
    page.goto(f"{live_server}/c/{token}/receipt")
    page.get_by_role("link", name="Withdraw my permission").click()
    page.get_by_role("button", name="Yes, withdraw").click()
    page.get_by_role("link", name="Receipt: read, download, check").click()
    expect(page.get_by_text("withdrawn on")).to_be_visible()
    # The only thing the browser reported is the answer 422 to what was no receipt.
    assert [text for text in complaints if "422" not in text] == []


def test_an_operator_gives_a_reason_by_keyboard_and_sees_the_record(
    context: BrowserContext, live_server: object, answered: tuple[Consent, str], complaints: list[str]
) -> None:
    consent, _ = answered
    _, session = cast.moderator()
    cookie = session.cookies["sessionid"]
    context.add_cookies([{"name": "sessionid", "value": cookie.value, "url": str(live_server)}])
    page = context.new_page()
    page.goto(f"{live_server}/console/consents")
    check(page, "console-list")
    page.get_by_role("link", name=consent.pk).click()
    expect(page.get_by_text("Ada Lovelace")).to_have_count(0)
    check(page, "console-gate")
    page.get_by_label("Why do you need to see this record?").focus()
    page.keyboard.type("A comp")
    page.keyboard.press("Tab")
    page.keyboard.type("ticket 12")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Ada Lovelace").first).to_be_visible()
    check(page, "console-record")
    assert AuditRecord.objects.get().reason == "complaint: ticket 12"
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download the evidence pack").click()
    assert saved.value.suggested_filename == f"evidence-{consent.pk}.zip"
    page.get_by_role("link", name="Audit").click()
    expect(page.get_by_text("ticket 12")).to_be_visible()
    check(page, "console-audit")
    assert complaints == []
