"""The verify page in a real browser: drop, paste, first answer without upload, keyboard, widths, and axe."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from django.utils import timezone
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.conftest import Axe
from tests.browser.test_pages_in_chromium import OVERFLOW, TARGETS, UNNAMED
from tests.webapp import cast
from tests.webapp.verify.conftest import Published, grace_published, publish, save
from webapp.jobs.models import Output
from webapp.verify import browser_reader, kept, services
from webapp.verify.models import Verification

pytestmark = pytest.mark.django_db(transaction=True)
__all__ = ["grace_published", "publish"]

DROP = """([name, type, bytes]) => {
  const carried = new DataTransfer();
  carried.items.add(new File([new Uint8Array(bytes)], name, { type }));
  for (const kind of ["dragover", "drop"])
    document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: carried, bubbles: true, cancelable: true }));
}"""
PASTE = """([name, type, bytes]) => {
  const carried = new DataTransfer();
  carried.items.add(new File([new Uint8Array(bytes)], name, { type }));
  document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: carried, bubbles: true, cancelable: true }));
}"""

PASTE_TEXT = """(text) => {
  const carried = new DataTransfer();
  carried.setData("text/plain", text);
  document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: carried, bubbles: true, cancelable: true }));
}"""


@pytest.fixture
def cleo(transactional_db: None) -> cast.Account:
    return cast.account("Cleo")


@pytest.fixture(scope="session")
def reader() -> None:
    """The browser's reader of Content Credentials, fetched once as `manage.py prepare` does."""
    try:
        browser_reader.install()
    except browser_reader.ReaderError as error:
        pytest.skip(f"@contentauth/c2pa-web cannot be fetched: {error.code}")


@pytest.fixture
def answers(grace_published: Published, astronaut: np.ndarray, samples: Path, tmp_path: Path) -> dict[str, str]:
    """Addresses of kept answers of all kinds, the made-up ones with what the sample files cannot have."""

    def keep(path: Path, **changes: Any) -> str:
        columns = kept._found(services.examine(path))
        columns["evidence"] |= changes.pop("evidence", {})
        row = Verification.objects.create(expires_at=kept._end(), **(columns | changes))
        return f"/verify/r/{row.pk}"

    edited = grace_published.rgb.copy()
    edited[150:300, 170:340] = astronaut[20:170, 130:300]
    copy = save(tmp_path / "copy.jpg", grace_published.rgb, cv2.IMWRITE_JPEG_QUALITY, 75)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no")
    marked = services.examine(copy).evidence.mark
    assert marked is not None
    spans = {"mark_id": marked.mark_id.hex(), "spans": [[0.0, 21.0], [40.0, 65.0]]}
    return {
        "intact": keep(grace_published.path),
        "recovered": keep(copy),
        "edited": keep(save(tmp_path / "edited.png", edited)),
        "video": keep(copy, kind="video", duration=65.0, evidence={"mark": spans}),
        "foreign": keep(samples / "astronaut.jpg", evidence={"credentials": FOREIGN}),
        "nothing": keep(samples / "astronaut.jpg"),
        "unreadable": keep(broken),
        "running": f"/verify/r/{_running().pk}",
    }


def _running() -> Verification:
    later = timezone.now() + timedelta(days=1)
    return Verification.objects.create(expires_at=later, alive_until=later)


AI_KIND = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
INNER = {"title": "raw", "format": "image/dng", "relationship": "parentOf", "state": "invalid"}
OUTER = {
    "title": "beach",
    "format": "image/jpeg",
    "relationship": "parentOf",
    "state": "trusted",
    "issuer": "Example Cameras",
    "ingredients": [INNER],
}
FOREIGN = {
    "state": "valid",
    "label": "urn:c2pa:x",
    "issuer": "Example Studio",
    "signed_at": "2026-11-03T10:11:12+00:00",
    "time_source": "tsa",
    "bytes_match": True,
    "actions": [{"action": "c2pa.created", "digital_source_type": AI_KIND, "agent": "Model 5"}],
    "ingredients": [OUTER, {"title": "sky", "format": "image/png", "relationship": "componentOf", "state": "none"}],
    "digital_source_types": [AI_KIND],
}


def content_of(path: Path, mime: str) -> list[object]:
    return [path.name, mime, list(path.read_bytes())]


@pytest.fixture
def sent(context: BrowserContext) -> list[str]:
    """Every request that carries a body, by method and address."""
    seen: list[str] = []
    context.on("request", lambda one: seen.append(one.url) if one.method != "GET" else None)
    return seen


def test_a_dropped_file_is_read_here_and_only_then_sent(
    reader: None,
    context: BrowserContext,
    live_server: object,
    grace_published: Published,
    sent: list[str],
    complaints: list[str],
) -> None:
    page = context.new_page()
    page.goto(f"{live_server}/verify")
    page.evaluate(DROP, content_of(grace_published.path, "image/png"))
    first = page.get_by_role("region", name="First look, on this device")
    expect(first).to_contain_text("The file is as it was signed.", timeout=30_000)
    expect(first).to_contain_text("They name this service.")
    expect(first).to_contain_text("parts of it were made or edited with an AI model")
    assert sent == []
    page.get_by_role("button", name="Upload and check").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Edited with AI here", timeout=60_000)
    assert len(sent) == 1
    assert page.url.startswith(f"{live_server}/verify/r/ver_")
    assert complaints == []


def test_the_first_look_tells_changed_and_unsigned_files_apart(
    reader: None, context: BrowserContext, live_server: object, grace_published: Published, tmp_path: Path
) -> None:
    page = context.new_page()
    page.goto(f"{live_server}/verify")
    first = page.get_by_role("region", name="First look, on this device")
    data = bytearray(grace_published.path.read_bytes())
    data[data.index(b"IDAT") + 2000] ^= 0xFF  # in the pixels: a damaged chunk header would be another story
    changed = tmp_path / "changed.png"
    changed.write_bytes(data)
    page.evaluate(PASTE, content_of(changed, "image/png"))
    expect(first).to_contain_text("Content Credential unavailable or invalid.", timeout=30_000)
    page.get_by_label("Photo or video").set_input_files(cast.SAMPLES / "astronaut.jpg")
    expect(first).to_contain_text("No Content Credentials in this file.", timeout=30_000)
    expect(first).to_contain_text("does not mean that it is real")
    notes = tmp_path / "notes.txt"
    notes.write_text("hello", encoding="utf-8")
    page.get_by_label("Photo or video").set_input_files(notes)
    expect(first).to_contain_text("Upload it to have it looked at.", timeout=30_000)


def test_a_foreign_text_stays_text_in_the_first_look(
    context: BrowserContext, live_server: object, complaints: list[str]
) -> None:
    page = context.new_page()
    page.goto(f"{live_server}/verify")
    lines = page.evaluate(
        """async () => {
          const { describe } = await import("/static/credentials.js");
          return describe({ validation_state: "Trusted", active_manifest: "a", manifests: { a: {
            signature_info: { issuer: "<img src=x onerror=alert(1)>\\u202egpj" },
            claim_generator_info: [{ name: "<script>alert(1)</script>" }],
          } } });
        }"""
    )
    texts = json.dumps(lines)
    assert "<img src=x" in texts
    assert "\\u202e" not in texts
    assert complaints == []


def test_the_page_does_without_the_reader(context: BrowserContext, live_server: object, settings: Any) -> None:
    settings.VENDOR_DIR = "/nonexistent"
    page = context.new_page()
    page.goto(f"{live_server}/verify")
    page.get_by_label("Photo or video").set_input_files(cast.SAMPLES / "astronaut.jpg")
    expect(page.get_by_text("First look")).to_have_count(0)
    page.get_by_role("button", name="Upload and check").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("No marks found.", timeout=60_000)


def test_a_pasted_address_goes_into_its_field_and_a_file_takes_its_place(
    context: BrowserContext, live_server: object
) -> None:
    page = context.new_page()
    page.goto(f"{live_server}/verify")
    page.evaluate(PASTE_TEXT, "https://example.org/a.jpg")
    expect(page.get_by_label("Or its address")).to_have_value("https://example.org/a.jpg")
    expect(page.get_by_label("Or its address")).to_be_focused()
    page.get_by_label("Photo or video").set_input_files(cast.SAMPLES / "astronaut.jpg")
    expect(page.get_by_label("Or its address")).to_have_value("")


def test_everything_is_done_by_keyboard_alone(
    context: BrowserContext, live_server: object, grace_published: Published, answers: dict[str, str]
) -> None:
    page = context.new_page()
    # Chromium hands file choosers over from the first listener on, a moment later: too late for the key pressed below.
    page.on("filechooser", lambda chooser: None)
    page.goto(f"{live_server}/verify")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Photo or video")).to_be_focused()
    with page.expect_file_chooser(timeout=10_000) as chosen:
        page.keyboard.press("Space")
    chosen.value.set_files(grace_published.path)
    tab_to(page, page.get_by_role("button", name="Upload and check"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Edited with AI here", timeout=60_000)

    page.goto(f"{live_server}{answers['foreign']}")
    branch = page.locator("summary", has_text="beach")
    tab_to(page, branch)
    expect(page.get_by_text("raw", exact=True)).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.get_by_text("raw", exact=True)).to_be_hidden()
    page.keyboard.press("Space")
    expect(page.get_by_text("raw", exact=True)).to_be_visible()
    tab_to(page, page.locator("summary", has_text="Full report"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("region", name="Full report")).to_be_visible()


def tab_to(page: Page, place: Any) -> None:
    """Press Tab until the place has the focus."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if place.evaluate("one => one === document.activeElement"):
            return
    raise AssertionError("not reached by Tab")


def test_an_answer_that_is_still_made_appears_by_itself(
    context: BrowserContext, live_server: object, answers: dict[str, str], samples: Path
) -> None:
    page = context.new_page()
    page.goto(f"{live_server}{answers['running']}")
    expect(page.get_by_role("heading", level=1)).to_have_text("Looking at it")
    row = Verification.objects.get(state="running")
    Verification.objects.filter(pk=row.pk).update(**kept._found(services.examine(samples / "astronaut.jpg")))
    expect(page.get_by_role("heading", level=1)).to_contain_text("No marks found.", timeout=15_000)


def test_it_works_without_javascript(browser: Browser, live_server: object, cleo: cast.Account) -> None:
    plain = browser.new_context(java_script_enabled=False)
    page = plain.new_page()
    page.goto(f"{live_server}/verify")
    page.get_by_label("Photo or video").set_input_files(cast.SAMPLES / "astronaut.jpg")
    page.get_by_role("button", name="Upload and check").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("No marks found.", timeout=60_000)
    with page.expect_download() as saved:
        page.get_by_role("link", name="Download the report (JSON)").click()
    assert json.loads(Path(saved.value.path()).read_text())["code"] == "nothing_found"
    plain.close()


def test_all_screens_fit_both_widths_and_axe_finds_nothing(
    reader: None,
    axe: Axe,
    browser: Browser,
    live_server: object,
    grace_published: Published,
    answers: dict[str, str],
) -> None:
    screens = {"page": "/verify", "status": f"/verify/o/{grace_published.output.pk}", **answers}
    for scheme in ("light", "dark"):
        for width in (360, 1440):
            context = browser.new_context(
                viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce", bypass_csp=True
            )
            page = context.new_page()
            for name, address in screens.items():
                page.goto(f"{live_server}{address}")
                if name == "page":
                    page.get_by_label("Photo or video").set_input_files(grace_published.path)
                    expect(page.get_by_role("region", name="First look")).to_contain_text("signed", timeout=30_000)
                assert page.evaluate(OVERFLOW) <= 0, (name, width)
                assert page.evaluate(TARGETS) == 0, (name, width)
                assert page.evaluate(UNNAMED) == [], name
                assert axe(page) == [], (name, width, scheme)
            context.close()


def test_a_withdrawn_permission_shows_at_the_next_visit(
    context: BrowserContext, live_server: object, grace_published: Published, answers: dict[str, str]
) -> None:
    page = context.new_page()
    page.goto(f"{live_server}{answers['intact']}")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Edited with AI here")
    Output.objects.filter(pk=grace_published.output.pk).update(permission="withdrawn")
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Permission was withdrawn")
