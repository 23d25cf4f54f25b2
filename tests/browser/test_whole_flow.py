"""The whole main job by mouse and keyboard, against the real service: its web server, worker, models and signer."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from worker.media.sample_clip import make_clip

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "tests" / "samples"
START_SECONDS = 60
WORK_MILLISECONDS = 120_000
STOP_MILLISECONDS = 10_000  # what withdrawal promises for a running job


@dataclass(frozen=True)
class Service:
    """A running service and its ready account."""

    address: str
    email: str
    password: str
    api_key: str


@pytest.fixture
def service(tmp_path: Path, models_dir: Path) -> Iterator[Service]:
    """`manage.py serve` in a house of its own, ended by its own process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    address = f"http://127.0.0.1:{port}"
    left_out = {"DATABASE_URL", "KEYS_URL", "REDIS_URL", "STORAGE_URL", "PYTEST_CURRENT_TEST"}
    environment = {name: value for name, value in os.environ.items() if name not in left_out} | {
        "DJANGO_SETTINGS_MODULE": "webapp.settings",
        "IMPRIMATUR_HOME": str(tmp_path / "home"),
        "IMPRIMATUR_MODELS": str(models_dir),
        "IMPRIMATUR_PROFILE": "evaluation",
        "PUBLIC_URL": address,
    }
    manage = [sys.executable, "manage.py"]
    subprocess.run([*manage, "prepare"], cwd=ROOT, env=environment, check=True, capture_output=True, timeout=120)
    log = tmp_path / "serve.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*manage, "serve", "--port", str(port)], cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        _wait(process, log)
        account = json.loads(next((tmp_path / "home").rglob("evaluation-account.json")).read_text(encoding="utf-8"))
        yield Service(address, account["email"], account["password"], account["api_key"])
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)


def _wait(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while b"Ctrl-C stops it." not in log.read_bytes():
        assert process.poll() is None, log.read_text(encoding="utf-8", errors="replace")
        assert time.monotonic() < deadline, log.read_text(encoding="utf-8", errors="replace")
        time.sleep(0.2)


def _agree(page: Page, link: str, name: str) -> None:
    """A depicted person opens their link, ticks every box, signs and says yes."""
    page.goto(link)
    boxes = page.locator("form").first.get_by_role("checkbox")
    assert boxes.count() > 0
    for box in boxes.all():
        expect(box).not_to_be_checked()
        box.check()
    page.get_by_label("Your full name").fill(name)
    page.get_by_role("button", name="Yes, I agree").click()
    expect(page.get_by_role("heading", name="Thank you. Your answer is recorded.")).to_be_visible()


def _ask(page: Page, service: Service, target: Path) -> dict[str, str]:
    """Log in, upload, choose the faces and ask both people; their links by name."""
    page.goto(f"{service.address}/login")
    page.get_by_label("E-mail address").fill(service.email)
    page.get_by_label("Password").fill(service.password)
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Start the first job").click()
    page.get_by_label("Photos of one person").set_input_files(SAMPLES / "astronaut.jpg")
    page.get_by_label("One photo or video").set_input_files(target)
    page.get_by_role("button", name="Upload and check").click()
    page.get_by_role("link", name="Pick the face").click(timeout=WORK_MILLISECONDS)
    page.get_by_role("button", name="Go on to permission").click()
    page.locator("#donor_name").fill("Ada")
    page.locator("#target_name").fill("Ben")
    page.get_by_label("Personal").check()
    for box in page.locator("input[name^=tick_]").all():
        box.check()
    page.get_by_role("button", name="Ask for permission and make the job").click()
    links = {name: page.get_by_label(f"Link for {name}").input_value() for name in ("Ada", "Ben")}
    assert all(link.startswith(f"{service.address}/c/") for link in links.values())
    return links


@pytest.mark.soak  # without a browser in every run: tests/chaos/test_withdrawal.py
def test_a_running_job_stops_when_a_person_withdraws_on_their_phone(
    browser: Browser, service: Service, tmp_path: Path
) -> None:
    clip = tmp_path / "speech.mp4"
    make_clip(SAMPLES / "grace_hopper.jpg", clip, seconds=40.0, size=(854, 480))
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    links = _ask(page, service, clip)
    phone = browser.new_context(viewport={"width": 360, "height": 740})
    person = phone.new_page()
    for name, link in links.items():
        _agree(person, link, name)
    person.goto(links["Ada"])
    person.get_by_role("link", name="Withdraw my permission").click()
    page.locator("[data-page^=running]").wait_for(timeout=WORK_MILLISECONDS)
    person.get_by_role("button", name="Yes, withdraw").click()
    expect(person.get_by_text("You withdrew on")).to_be_visible()
    expect(page.locator("#failure-title")).to_be_visible(timeout=STOP_MILLISECONDS)
    expect(page.get_by_text("Respect the decision")).to_be_visible()
    expect(page.get_by_role("link", name="See the result")).to_have_count(0)
    phone.close()
    context.close()


def test_from_login_to_a_verified_copy_and_a_withdrawal(browser: Browser, service: Service, tmp_path: Path) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    complaints: list[str] = []
    context.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    page = context.new_page()
    links = _ask(page, service, SAMPLES / "grace_hopper.jpg")

    phone = browser.new_context(viewport={"width": 360, "height": 740})
    person = phone.new_page()
    for name, link in links.items():
        _agree(person, link, name)

    # The account's page was open all the while and shows the end by itself.
    page.get_by_role("link", name="See the result").click(timeout=WORK_MILLISECONDS)
    expect(page.get_by_text("Permission in force")).to_be_visible()
    with page.expect_download() as saved:
        page.get_by_role("link", name="Download").click()
    copy = tmp_path / "copy.jpg"
    saved.value.save_as(copy)

    def verdict() -> str:
        person.goto(f"{service.address}/verify")
        person.get_by_label("Photo or video").set_input_files(copy)
        person.get_by_role("button", name="Upload and check").click()
        expect(person.locator("#verdict-title")).to_be_visible(timeout=WORK_MILLISECONDS)
        return person.locator("#verdict-title").inner_text()

    assert "The people shown gave permission." in verdict()
    person.goto(links["Ada"])
    person.get_by_role("link", name="Withdraw my permission").click()
    person.get_by_role("button").click()
    assert verdict().startswith("Permission was withdrawn")
    page.reload()
    expect(page.get_by_text("The result is hidden and will be deleted.")).to_be_visible()
    expect(page.get_by_role("link", name="Download")).to_have_count(0)
    assert complaints == []
    phone.close()
    context.close()
