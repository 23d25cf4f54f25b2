"""The review queue and the appeal on a phone and on a desk: both fit, axe finds nothing, faces stay blurred.

PNGs where SCREENSHOTS names a folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.utils import timezone
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.conftest import Axe
from tests.browser.test_pages_in_chromium import OVERFLOW, TARGETS, UNNAMED
from tests.webapp import cast
from webapp.jobs.models import Asset
from webapp.screening import appeals
from webapp.screening import services as screening
from webapp.screening.models import Review, ScreeningRecord
from worker.gate import signals

pytestmark = pytest.mark.django_db(transaction=True)

SCORES = [0.02, 0.04, 0.03, 0.31, 0.52, 0.47, 0.08, 0.03, 0.02, 0.05, 0.22, 0.04]
NSFW = {
    "kind": "nsfw",
    "status": "measured",
    "tool": "open_nsfw",
    "value": {
        "highest": max(SCORES),
        "pictures": len(SCORES),
        "bands": [0.2, 0.8],
        "timeline": [[float(second), score] for second, score in enumerate(SCORES)],
    },
}
FORGED = {
    "kind": "face_forgery",
    "status": "measured",
    "tool": "packs",
    "value": {
        "p": 0.94,
        "review": 0.61,
        "high": 0.9,
        "packs": [
            {
                "id": "sbi",
                "title": "Self-blended images",
                "role": "enforcing",
                "raw": 0.71,
                "p": 0.94,
                "review": 0.61,
                "high": 0.9,
                "timeline": [{"seconds": n / 2, "score": (n % 40) / 40} for n in range(240)],
            }
        ],
    },
}


def in_review(owner: cast.Account, *reasons: str) -> Review:
    """A file in review with evidence of every kind."""
    asset = cast.ready(owner, "target")
    Asset.objects.filter(pk=asset.pk).update(state="in_review")
    found = [
        signals.dimensions(1920, 1080, 12.0),
        signals.faces("target", [180.0]),
        signals.own_mark(None, "full"),
        signals.credentials("none", is_ours=False, issuer=None, source_types=[]),
        signals.listed_face([], entries=3, threshold=0.45, one_to_many=False, chance=0.005),
    ]
    evidence = ScreeningRecord.objects.create(
        asset=asset,
        profile="standard",
        policy_version="2026-11.3",
        signals=[*(each.to_dict() for each in found), NSFW, FORGED, signals.not_installed()[1].to_dict()],
        decision="review",
        reasons=list(reasons),
        not_screened=["age"],
    )
    return screening.open_review(evidence)


@pytest.fixture
def desk(browser: Browser, live_server: object, complaints: list[str]) -> Iterator[BrowserContext]:
    """Mod's browser."""
    context = browser.new_context(viewport={"width": 360, "height": 740}, reduced_motion="reduce", bypass_csp=True)
    context.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    _, session = cast.moderator()
    cookie = session.cookies[settings.SESSION_COOKIE_NAME].value
    context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": str(live_server)}])
    yield context
    context.close()


def check(page: Page, axe: Axe, name: str) -> None:
    """Fits on a phone and on a wide desk, is large enough to touch, named, and clean to axe in both schemes."""
    for scheme, width in (("light", 360), ("dark", 1440)):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.set_viewport_size({"width": width, "height": 900})
        if folder := os.environ.get("TEST_SCREENSHOTS"):
            page.screenshot(path=str(Path(folder) / f"{name}-{width}.png"), full_page=True)
        assert page.evaluate(OVERFLOW) <= 0, (name, width)
        assert page.evaluate(TARGETS) == 0, (name, width)
        assert axe(page) == [], (name, width)
    assert page.evaluate(UNNAMED) == [], name
    assert page.locator("h1").count() == 1, name


def test_a_moderator_reads_the_evidence_beside_a_blurred_picture_and_sees_it_after_a_reason(
    desk: BrowserContext, axe: Axe, cleo: cast.Account, live_server: object, complaints: list[str]
) -> None:
    sure, late = in_review(cleo, "face_forgery_likely", "nsfw_unsure"), in_review(cleo, "nsfw_unsure")
    Review.objects.filter(pk=late.pk).update(due_at=timezone.now() - timedelta(hours=3))
    page = desk.new_page()
    page.goto(f"{live_server}/console/reviews")
    cards = page.get_by_role("article")
    expect(cards.nth(0)).to_contain_text("Overdue since")
    expect(cards.nth(1)).to_contain_text("Two different people have to release it")
    picture = cards.nth(1).locator("figure img").first
    picture.scroll_into_view_if_needed()
    expect(picture).to_have_js_property("complete", True)
    assert picture.evaluate("one => [one.naturalWidth, getComputedStyle(one).filter]") == [192, "blur(8px)"]
    assert sure.pk in str(picture.get_attribute("src"))
    check(page, axe, "reviews-blurred")

    strip = cards.nth(1).get_by_role("img", name="Nudity over time")
    expect(strip).to_be_visible()
    assert strip.locator("rect.heat").count() == len(SCORES)
    assert strip.locator("rect.over").count() == sum(score >= 0.2 for score in SCORES)
    assert len(set(strip.locator("rect.heat").evaluate_all("all => all.map(one => getComputedStyle(one).fill)"))) == 1
    table = cards.nth(1).locator("figure.strip details").first
    table.locator("summary").click()
    expect(table.get_by_role("row", name="0:04 0.52 yes")).to_be_visible()

    cards.nth(1).get_by_label("Why do you need to see").select_option("moderation")
    cards.nth(1).get_by_role("button", name="Show for 15 minutes").click()
    shown = page.get_by_role("article").nth(1).locator("img.review-thumb")
    shown.scroll_into_view_if_needed()
    expect(shown).to_have_js_property("complete", True)
    assert shown.evaluate("one => [one.naturalWidth, getComputedStyle(one).filter]") == [512, "none"]
    check(page, axe, "reviews-shown")

    decide = page.get_by_role("article").nth(1)
    decide.get_by_label("Reason").fill("A film; I have seen the contract.")
    decide.get_by_role("button", name="Release").click()
    expect(page.get_by_role("status")).to_contain_text("It waits for a second reviewer.")
    expect(page.get_by_role("article").nth(1).get_by_role("button", name="Release")).to_have_count(0)
    check(page, axe, "reviews-first-release")
    assert complaints == []


def test_an_account_appeals_and_a_moderator_reads_it(
    browser: Browser, desk: BrowserContext, axe: Axe, cleo: cast.Account, live_server: object
) -> None:
    source, target = cast.ready(cleo, "source"), cast.refused(cleo)
    context = browser.new_context(viewport={"width": 360, "height": 740}, reduced_motion="reduce", bypass_csp=True)
    cookie = cleo.browser.cookies[settings.SESSION_COOKIE_NAME].value
    context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": str(live_server)}])
    page = context.new_page()
    page.goto(f"{live_server}/new/check?source={source.pk}&target={target.pk}")
    check(page, axe, "appeal-offered")
    page.get_by_role("link", name="Appeal about grace_hopper.jpg").click()
    check(page, axe, "appeal-form")
    page.get_by_label("Your statement").fill("The face is my own.\nIt is 90 pixels wide; the check is wrong.")
    page.get_by_role("button", name="Send the appeal").click()
    expect(page.get_by_role("status")).to_contain_text("Two people look at it.")
    check(page, axe, "appeal-sent")
    page.get_by_role("link", name="Back").click()
    expect(page.get_by_role("link", name="See the appeal about grace_hopper.jpg")).to_be_visible()
    context.close()

    queue = desk.new_page()
    queue.goto(f"{live_server}/console/reviews")
    expect(queue.get_by_role("article")).to_contain_text("What it says is shown after a reason.")
    check(queue, axe, "reviews-appeal")
    assert appeals.appeal_about(target) is not None
