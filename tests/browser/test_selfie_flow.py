"""The person's own way at level L2 on running processes: phone page, fake camera, liveness, permission, withdrawal.

Chromium plays a file as its camera. The movements are drawn by the server, so the clip is rendered for them: a first
browser answers the question and has them issued, then a browser of its own opens the same link with the clip.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import ARGUMENTS, CHROMIUM
from tests.browser.test_camera import FAKE, agree
from tests.browser.test_whole_flow import SAMPLES, WORK_MILLISECONDS, Service, service
from tests.worker.liveness.talking_head import render

__all__ = ["service"]

PHONE = {"width": 360, "height": 740}
# Seconds from opening the camera to the first movement asked for: the tap, three seconds, and the look straight ahead.
LEAD = 5.6
TAIL = 5.0  # so that the file does not begin anew while it is recorded
FPS = 15.0
CHECK_MILLISECONDS = 150_000  # of recording and check; some ten seconds on an idle machine


@contextmanager
def _camera(browser: Browser, clip: Path) -> Iterator[Page]:
    """A phone whose camera sees `clip`."""
    started = browser.browser_type.launch(
        executable_path=CHROMIUM, args=[*ARGUMENTS, *FAKE, f"--use-file-for-fake-video-capture={clip}"]
    )
    try:
        yield started.new_context(viewport=PHONE).new_page()
    finally:
        started.close()


def _issue(page: Page, link: str) -> list[str]:
    """Have the movements drawn, as the page does before it opens the camera."""
    answer = page.request.post(f"{link}/challenge")
    assert answer.status == 201, answer.text()
    return list(answer.json()["actions"])


def _record(page: Page, link: str, start: str, record: str) -> None:
    page.goto(link)
    page.get_by_role("button", name=start).click()
    page.get_by_role("button", name=record).click()


def _still(portrait: Path, out: Path) -> None:
    render(portrait, (), out, fps=FPS, lead=3.0, tail=0.0, restless=0.0)


def _show_oneself(browser: Browser, page: Page, link: str, portrait: Path, clip: Path, words: dict[str, str]) -> None:
    """What a person does after the yes: the three movements before their camera, until the receipt is there."""
    render(portrait, _issue(page, link), clip, fps=FPS, lead=LEAD, tail=TAIL)
    with _camera(browser, clip) as phone:
        _record(phone, f"{link}{words['query']}", words["start"], words["record"])
        phone.locator("[data-poll]").wait_for(timeout=CHECK_MILLISECONDS)
        expect(phone.get_by_role("heading", name=words["thanks"])).to_be_visible(timeout=CHECK_MILLISECONDS)


EN = {
    "start": "Start the camera",
    "record": "Start recording",
    "thanks": "Thank you. Your answer is recorded.",
    "yes": "Yes, I agree",
    "name": "Your full name",
    "prove": "Now show that it is you",
    "withdraw": "Withdraw my permission",
    "confirm": "Yes, withdraw",
    "withdrawn": "You withdrew on",
    "query": "",
}
ZH = {
    "start": "打开摄像头",
    "record": "开始录制",
    "thanks": "谢谢，您的答复已记录。",
    "yes": "是，我同意",
    "name": "您的全名",
    "prove": "现在请证明是您本人",
    "withdraw": "撤回我的许可",
    "confirm": "是，撤回",
    "withdrawn": "撤回。不再制作任何内容",
    "query": "?lang=zh-hans",
}


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("words", [EN, ZH], ids=["english", "chinese"])
def test_from_the_question_to_the_withdrawal_with_living_people(
    browser: Browser, service: Service, tmp_path: Path, words: dict[str, str]
) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(f"{service.address}/login")
    page.get_by_label("E-mail address").fill(service.email)
    page.get_by_label("Password").fill(service.password)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda address: "login" not in address)
    page.goto(f"{service.address}/new")
    page.get_by_label("Photos of one person").set_input_files(SAMPLES / "astronaut.jpg")
    page.get_by_label("One photo or video").set_input_files(SAMPLES / "grace_hopper.jpg")
    page.get_by_role("button", name="Upload and check").click()
    page.get_by_role("link", name="Pick the face").click(timeout=CHECK_MILLISECONDS)
    page.get_by_role("button", name="Go on to permission").click()
    page.locator("#donor_name").fill("Ada")
    page.locator("#target_name").fill("Ben")
    page.get_by_label("Personal").check()
    page.get_by_label("Ask everybody for a short live video too").check()
    for box in page.locator("input[name^=tick_]").all():
        box.check()
    page.get_by_role("button", name="Ask for permission and make the job").click()
    links = {name: page.get_by_label(f"Link for {name}").input_value() for name in ("Ada", "Ben")}

    phone = browser.new_context(viewport=PHONE)
    person = phone.new_page()
    for name, portrait in (("Ada", "astronaut.jpg"), ("Ben", "grace_hopper.jpg")):
        agree(person, links[name] + words["query"], yes=words["yes"], name=words["name"])
        expect(person.get_by_role("heading", name=words["prove"])).to_be_visible()
        expect(page.get_by_text("They have answered; the video is still to be made.")).to_be_visible(timeout=20_000)
        _show_oneself(browser, person, links[name], SAMPLES / portrait, tmp_path / f"{name}.y4m", words)

    page.get_by_role("link", name="See the result").click(timeout=CHECK_MILLISECONDS)
    expect(page.get_by_text("Permission in force")).to_be_visible()
    with page.expect_download() as saved:
        page.get_by_role("link", name="Download").click()
    copy = tmp_path / "copy.jpg"
    saved.value.save_as(copy)

    person.goto(links["Ada"] + words["query"])
    person.get_by_role("link", name=words["withdraw"]).click()
    person.get_by_role("button", name=words["confirm"]).click()
    expect(person.get_by_text(words["withdrawn"])).to_be_visible()
    person.goto(f"{service.address}/verify")
    person.get_by_label("Photo or video").set_input_files(copy)
    person.get_by_role("button", name="Upload and check").click()
    expect(person.locator("#verdict-title")).to_contain_text("Permission was withdrawn", timeout=CHECK_MILLISECONDS)
    page.reload()
    expect(page.get_by_text("The result is hidden and will be deleted.")).to_be_visible()
    phone.close()
    context.close()


def _api(service: Service, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{service.address}/v1/{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {service.api_key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return dict(json.loads(answer.read()))


def _uploaded(service: Service, page: Page, path: Path) -> str:
    """A photo of the donor that has passed its screening; its id."""
    answer = page.request.post(
        f"{service.address}/v1/assets",
        headers={"Authorization": f"Bearer {service.api_key}"},
        multipart={
            "role": "source",
            "file": {"name": path.name, "mimeType": "image/jpeg", "buffer": path.read_bytes()},
        },
    )
    assert answer.status == 201, answer.text()
    asset = str(answer.json()["id"])
    deadline = time.monotonic() + WORK_MILLISECONDS / 1000
    while _api(service, f"assets/{asset}")["state"] != "ready":
        assert time.monotonic() < deadline
        time.sleep(0.3)
    return asset


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_photo_before_the_camera_fails_and_the_person_passes_in_chinese(
    browser: Browser, service: Service, tmp_path: Path
) -> None:
    phone = browser.new_context(viewport=PHONE)
    person = phone.new_page()
    asked = _api(
        service,
        "consent_requests",
        {
            "role": "face_donor",
            "name": "Ada",
            "purposes": ["personal"],
            "photos": [{"asset": _uploaded(service, person, SAMPLES / "astronaut.jpg")}],
            "assurance": "L2",
            "locale": "zh-hans",
        },
    )
    assert (asked["assurance_asked"], asked["assurance"], asked["check"]) == ("L2", None, None)
    link = asked["link"]
    agree(person, link, yes="是，我同意", name="您的全名")
    expect(person.get_by_role("heading", name="现在请证明是您本人")).to_be_visible()
    assert _api(service, f"consents/{asked['id']}")["check"] == "waiting"

    _still(SAMPLES / "astronaut.jpg", tmp_path / "still.y4m")
    with _camera(browser, tmp_path / "still.y4m") as thief:
        _record(thief, link, ZH["start"], ZH["record"])
        expect(thief.get_by_text("这次未成功")).to_be_visible(timeout=CHECK_MILLISECONDS)
    state = _api(service, f"consents/{asked['id']}")
    assert (state["state"], state["assurance"], state["check"]) == ("viewed", None, "waiting")

    _show_oneself(browser, person, link, SAMPLES / "astronaut.jpg", tmp_path / "ada.y4m", ZH)
    state = _api(service, f"consents/{asked['id']}")
    assert (state["state"], state["assurance"], state["check"]) == ("given", "L2", "passed")
    phone.close()
