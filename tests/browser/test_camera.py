"""The camera step in a real Chromium at a phone's width: its ways to fail, a lost connection, one clip.

The camera is Chromium's fake one; whether a clip passes is not asked here (`test_selfie_flow`).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from consent import previews, services
from consent.models import Challenge, Consent
from tests.browser.conftest import ARGUMENTS, CHROMIUM
from webapp.jobs import challenges as work
from webapp.jobs import leases

pytestmark = pytest.mark.django_db(transaction=True)

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
FAKE = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
RECORDED = 25_000  # milliseconds until a clip is recorded and sent, on a busy machine


@pytest.fixture
def asked(transactional_db: None) -> Iterator[tuple[Consent, str]]:
    """Ada is asked for a live selfie and is shown her photo."""
    before = dict(previews._registered)
    picture = (SAMPLES / "astronaut.jpg").read_bytes()
    services.register_preview(lambda asset_id, face: picture)
    yield services.request_consent(
        organisation_id="org_cleo",
        organisation_name="Cleo's studio",
        requested_by="Cleo Marsh",
        role="face_donor",
        name="Ada Byron",
        contact="ada@example.org",
        purposes=["personal", "social"],
        photos=[services.PhotoRef("ast_photo", "a" * 64, 0)],
        target=services.TargetRef("ast_target", "c" * 64, 0),
        livemode=False,
        assurance="L2",
    )
    previews._registered.clear()
    previews._registered.update(before)


@pytest.fixture
def phone(browser: Browser, complaints: list[str]) -> Iterator[BrowserContext]:
    """A phone with a camera of its own browser, which plays Chromium's test picture."""
    started = browser.browser_type.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, *FAKE])
    context = started.new_context(viewport={"width": 360, "height": 740})
    context.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    yield context
    started.close()


def agree(page: Page, address: str, *, yes: str = "Yes, I agree", name: str = "Your full name") -> None:
    """Tick everything, sign, say yes."""
    page.goto(address)
    for box in page.locator("form").first.get_by_role("checkbox").all():
        expect(box).not_to_be_checked()
        box.check()
    page.get_by_label(name).fill("Ada Byron")
    page.get_by_role("button", name=yes).click()


def _answered(consent: Consent) -> None:
    notice = services.consent_text(consent, "en")
    services.answer_consent(
        consent,
        ticks={name: True for name, _ in notice.boxes},
        typed_name="Ada Byron",
        confirmed_photos=consent.photo_sha256s,
        notice_sha256=notice.sha256,
    )


def _settle(consent: Consent, verdict: str, *codes: str) -> None:
    challenge = Challenge.objects.get(consent=consent, state="submitted")
    owner = leases.new_owner()
    work.claim(challenge.pk, owner)
    services.settle_check(challenge.pk, owner, verdict=verdict, codes=list(codes), report={}, match={})


def _fits(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), page.url
    small = page.evaluate(
        """() => [...document.querySelectorAll("a, button, input[type=checkbox]")]
        .map((each) => each.closest("label") || each).filter((each) => each.offsetParent)
        .filter((each) => each.getBoundingClientRect().height < 44).map((each) => each.outerHTML)"""
    )
    assert small == []


def test_one_recording_through_a_lost_connection(
    phone: BrowserContext, live_server: Any, asked: tuple[Consent, str], complaints: list[str]
) -> None:
    """The clip is sent, the answer lost twice (before and after the server), and one clip is there."""
    consent, token = asked
    page = phone.new_page()
    agree(page, f"{live_server}/c/{token}")
    expect(page.get_by_role("heading", name="Now show that it is you")).to_be_visible()
    _fits(page)
    assert not Challenge.objects.exists()  # nothing is drawn before the tap

    lost = iter(["before", "after"])

    def break_line(route: Route) -> None:
        how = next(lost, None)
        if how is None:
            route.continue_()
            return
        if how == "after":
            route.fetch()  # the server has taken it; the page hears nothing
        route.abort("connectionreset")

    page.route("**/clip", break_line)
    page.get_by_role("button", name="Start the camera").click()
    expect(page.get_by_role("button", name="Start recording")).to_be_visible()
    issued = Challenge.objects.get()
    assert page.evaluate("getComputedStyle(document.querySelector('video')).transform").startswith("matrix(-1")
    _fits(page)
    page.reload()
    page.get_by_role("button", name="Start the camera").click()
    page.get_by_role("button", name="Start recording").click()
    expect(page.locator("[data-say]")).to_have_text("Look straight ahead", timeout=RECORDED)
    expect(page.locator("[data-count]")).to_have_text("Movement 1 / 3", timeout=RECORDED)
    expect(page.locator("[data-say]")).to_contain_text("is sent again by itself", timeout=RECORDED)
    expect(page.get_by_role("heading", name="Checking your video …")).to_be_visible(timeout=RECORDED)
    challenge = Challenge.objects.get()
    assert (challenge.pk, challenge.state) == (issued.pk, "submitted")
    assert challenge.clip_size > 10_000
    assert consent.events.filter(type="challenge_sent").count() == 1
    assert [text for text in complaints if "ERR_CONNECTION_RESET" not in text] == []

    _settle(consent, "pass")
    expect(page.get_by_role("heading", name="Thank you. Your answer is recorded.")).to_be_visible(timeout=10_000)


def test_a_doubt_and_a_failure_are_shown_without_a_reload(
    phone: BrowserContext, live_server: Any, asked: tuple[Consent, str]
) -> None:
    consent, token = asked
    _answered(consent)
    page = phone.new_page()
    for verdict, heading in (("fail", "This did not work yet"), ("review", "A person will look at it")):
        challenge = services.issue_challenge(consent)
        services.submit_clip(consent, challenge.pk, io.BytesIO(verdict.encode()), mime="video/mp4", size=len(verdict))
        page.goto(f"{live_server}/c/{token}")
        expect(page.get_by_role("heading", name="Checking your video …")).to_be_visible()
        _settle(consent, verdict, "a_code")
        expect(page.get_by_text(heading).first).to_be_visible(timeout=10_000)
        _fits(page)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ("NotAllowedError", "was not allowed to use the camera"),
        ("NotFoundError", "No camera was found"),
        ("NotReadableError", "Another program is using the camera"),
        ("TypeError", "The camera did not start"),
        ("insecure", "secure addresses (https) only"),
        ("unsupported", "This browser cannot record a video"),
    ],
)
def test_each_way_a_camera_can_fail_is_said_in_plain_words(
    context: BrowserContext, live_server: Any, asked: tuple[Consent, str], error: str, sentence: str
) -> None:
    consent, token = asked
    _answered(consent)
    page = context.new_page()
    page.add_init_script(
        {
            "insecure": "Object.defineProperty(window, 'isSecureContext', { value: false })",
            "unsupported": "delete window.MediaRecorder",
        }.get(
            error,
            f"navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('no', '{error}'))",
        )
    )
    page.goto(f"{live_server}/c/{token}")
    page.get_by_role("button", name="Start the camera").click()
    expect(page.get_by_role("alert")).to_contain_text(sentence)
    expect(page.get_by_role("button", name="Try again")).to_be_focused()
    _fits(page)


@pytest.mark.parametrize("lang", ["en", "zh-hans"])
def test_without_javascript_the_page_reads_and_refuses(
    browser: Browser, live_server: Any, asked: tuple[Consent, str], lang: str
) -> None:
    consent, token = asked
    _answered(consent)
    bare = browser.new_context(viewport={"width": 360, "height": 740}, java_script_enabled=False)
    page = bare.new_page()
    page.goto(f"{live_server}/c/{token}?lang={lang}")
    expect(page.locator("[data-no-script]")).to_contain_text("JavaScript")
    expect(page.locator("[data-camera]")).to_be_hidden()
    page.get_by_role("button", name="No, stop here" if lang == "en" else "否，到此为止").click()
    consent.refresh_from_db()
    assert consent.state == "refused"
    bare.close()
