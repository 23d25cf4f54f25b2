"""What only a browser can tell: modules that run under the policy, widths, sizes of targets, the keyboard."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from consent import services as consents
from tests.browser.conftest import Axe
from tests.webapp import cast
from tests.worker import neural_graphs as graphs
from webapp.jobs.models import Asset, Job

pytestmark = pytest.mark.django_db(transaction=True)

TARGETS = """() => [...document.querySelectorAll(
    'main .button, main select, main input:not([type=hidden]), nav a, nav button')]
  .map(one => (one.closest('label') || one).getBoundingClientRect())
  .filter(box => box.width > 0 && box.height > 0 && box.height < 43.5).length"""
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
UNNAMED = """() => [...document.querySelectorAll('main input:not([type=hidden]), main select, main textarea')]
  .filter(one => !one.labels?.length && !one.getAttribute('aria-label')).map(one => one.name || one.id)"""


def test_a_job_is_made_from_the_first_page_to_the_links(
    page: Page, context: BrowserContext, cleo: cast.Account, complaints: list[str], live_server: object
) -> None:
    page.get_by_role("link", name="Start the first job").click()
    page.get_by_label("Photos of one person").set_input_files(cast.SAMPLES / "astronaut.jpg")
    page.get_by_label("One photo or video").set_input_files(cast.SAMPLES / "grace_hopper.jpg")
    page.get_by_role("button", name="Upload and check").click()
    expect(page.get_by_text("Waiting to be checked")).to_have_count(2)

    # What a worker would do while the page waits; it must show by itself.
    source, target = (cast.ready(cleo, role) for role in ("source", "target"))
    page.goto(f"{live_server}/new/faces?source={source.pk}&target={target.pk}")
    expect(page.get_by_role("radio", name="Face 1")).to_be_checked()
    page.get_by_role("button", name="Go on to permission").click()

    page.get_by_role("button", name="Ask for permission and make the job").click()
    expect(page.get_by_role("alert")).to_be_focused()
    page.locator("#donor_name").fill("Ada")
    expect(page.locator("#statement")).to_be_hidden()
    page.get_by_label("I hold the rights").check()
    expect(page.locator("#statement")).to_be_visible()
    expect(page.locator("#target_name")).to_be_hidden()
    page.get_by_label("Ask the person").check()
    page.locator("#target_name").fill("Ben")
    page.get_by_label("Personal").check()
    for name in cast.DECLARED:
        page.locator(f"#tick_{name}").check()
    page.get_by_role("button", name="Ask for permission and make the job").click()
    expect(page.get_by_role("img", name="QR code of the link for Ada")).to_be_visible()
    assert page.get_by_label("Link for Ben").input_value().count("/c/") == 1
    job = Job.objects.get()
    assert page.url == f"{live_server}/jobs/{job.pk}"

    # Somebody answers: the open page shows it without being touched.
    consents.view_consent(cast.donor(job))
    expect(page.get_by_text("Opened, no answer yet")).to_be_visible(timeout=10_000)
    # The only thing the browser reported is the answer 422 to the form that lacked something.
    assert [text for text in complaints if "422" not in text] == []


def test_the_check_page_goes_on_by_itself(page: Page, cleo: cast.Account, live_server: object) -> None:
    source, target = cast.ready(cleo, "source"), cast.uploaded(cleo, "target")
    page.goto(f"{live_server}/new/check?source={source.pk}&target={target.pk}")
    expect(page.get_by_text("Waiting to be checked")).to_be_visible()
    Asset.objects.filter(pk=target.pk).update(state="ready", faces=[cast.face(0)])
    expect(page.get_by_role("link", name="Pick the face")).to_be_visible(timeout=10_000)


def test_a_file_that_is_too_large_is_named_before_it_is_sent(
    page: Page, live_server: object, tmp_path: Path, settings: object
) -> None:
    settings.MAX_PHOTO_BYTES = 1000  # type: ignore[attr-defined]
    page.goto(f"{live_server}/new")
    page.get_by_label("Photos of one person").set_input_files(cast.SAMPLES / "astronaut.jpg")
    expect(page.get_by_text("at most 0 MiB are accepted")).to_be_visible()
    page.get_by_label("One photo or video").set_input_files(cast.SAMPLES / "grace_hopper.jpg")
    page.get_by_role("button", name="Upload and check").click()
    expect(page.get_by_label("Photos of one person")).to_be_focused()
    assert Asset.objects.count() == 0


def test_progress_moves_without_a_reload(page: Page, cleo: cast.Account, live_server: object) -> None:
    job = cast.submitted(cleo)
    Job.objects.filter(pk=job.pk).update(state="running", progress={"fraction": 0.1, "stage": "swap"})
    page.goto(f"{live_server}/jobs/{job.pk}")
    bar = page.get_by_role("progressbar")
    expect(bar).to_have_attribute("value", "10")
    page.evaluate("document.body.dataset.same = 'yes'")
    Job.objects.filter(pk=job.pk).update(progress={"fraction": 0.6, "stage": "encode"})
    expect(bar).to_have_js_property("value", 60, timeout=10_000)
    expect(page.locator("[data-spoken]")).to_contain_text("60 percent")
    assert page.evaluate("document.body.dataset.same") == "yes"


def test_before_and_after_follow_slider_keys_and_buttons(
    page: Page, cleo: cast.Account, live_server: object, complaints: list[str]
) -> None:
    job = cast.published(cleo).job
    Asset.objects.filter(pk=job.target_id).update(mime="image/jpeg")
    page.goto(f"{live_server}/jobs/{job.pk}/result")
    slider = page.get_by_label("Before and after")
    cut = "() => document.querySelector('[data-compare]').style.getPropertyValue('--cut')"
    assert page.evaluate(cut) == "50%"
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate(cut) == "51%"
    page.get_by_role("button", name="After").click()
    assert page.evaluate(cut) == "0%"
    assert page.evaluate("[...document.querySelectorAll('.compare-stage img')].every(one => one.naturalWidth > 0)")
    assert complaints == []


def test_all_pages_fit_a_phone_and_a_finger_and_name_their_fields(
    page: Page, cleo: cast.Account, live_server: object
) -> None:
    job = cast.published(cleo).job
    source, target = cast.ready(cleo, "source"), cast.ready(cleo, "target", faces=3)
    query = f"source={source.pk}&target={target.pk}"
    paths = ["/", "/new", f"/new/check?{query}", f"/new/faces?{query}", f"/new/permission?{query}", "/verify"]
    for path in [*paths, f"/jobs/{job.pk}", f"/jobs/{job.pk}/result", "/nothing"]:
        page.goto(f"{live_server}{path}")
        for width in (360, 1440):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate(OVERFLOW) <= 0, (path, width)
            assert page.evaluate(TARGETS) == 0, (path, width)
        assert page.evaluate(UNNAMED) == [], path
        assert page.locator("h1").count() == 1, path
        page.set_viewport_size({"width": 360, "height": 740})


def ask_ada_and_ben(tab: Page) -> None:
    """Fill in what the last page of the wizard wants at least, and send it."""
    tab.locator("#donor_name").fill("Ada")
    tab.locator("#target_name").fill("Ben")
    tab.get_by_label("Personal").check()
    for name in cast.DECLARED:
        tab.locator(f"#tick_{name}").check()
    tab.get_by_role("button", name="Ask for permission and make the job").click()


def test_the_way_to_the_links_works_without_javascript(
    context: BrowserContext, page: Page, cleo: cast.Account, live_server: object
) -> None:
    assert context.browser is not None
    plain = context.browser.new_context(java_script_enabled=False, storage_state=context.storage_state())
    tab = plain.new_page()
    source, target = cast.ready(cleo, "source"), cast.ready(cleo, "target")
    tab.goto(f"{live_server}/new/faces?source={source.pk}&target={target.pk}")
    tab.get_by_role("button", name="Go on to permission").click()
    ask_ada_and_ben(tab)
    expect(tab.get_by_label("Link for Ada")).to_be_visible()
    assert Job.objects.count() == 1
    plain.close()


def test_the_choices_about_a_video_open_fit_every_width_and_are_sent(
    page: Page, cleo: cast.Account, live_server: object, tmp_path: Path
) -> None:
    source, target = cast.ready(cleo, "source"), cast.ready(cleo, "target")
    media = {**target.media, "kind": "video", "duration": 12.0}
    Asset.objects.filter(pk=target.pk).update(kind="video", media=media)
    address = f"{live_server}/new/permission?source={source.pk}&face_{source.pk}=0&target={target.pk}&target_face=0"
    for width in (360, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(address)
        expect(page.get_by_label("Kind of video")).to_be_hidden()
        page.locator("#video-options summary").click()
        expect(page.get_by_label("Kind of video")).to_be_visible()
        assert page.evaluate(OVERFLOW) == 0
        assert page.evaluate(TARGETS) == 0
        assert page.evaluate(UNNAMED) == []
        page.locator("#video-options").screenshot(path=tmp_path / f"choices-{width}.png")
    page.get_by_label("Kind of video").select_option("hevc")
    page.get_by_label("From", exact=True).fill("0:02")
    ask_ada_and_ben(page)
    expect(page.get_by_role("img", name="QR code of the link for Ada")).to_be_visible()
    options = Job.objects.get().options
    assert (options["codec"], options["trim_start"]) == ("hevc", 2.0)


def test_the_choices_about_the_face_open_fit_every_width_and_are_sent(
    page: Page, cleo: cast.Account, live_server: object, settings: Any, tmp_path: Path
) -> None:
    settings.OPERATOR_MODELS_DIR = tmp_path
    graphs.record_installed(tmp_path, "yunet", "2dfan4", "arcface_w600k_r50", "inswapper_128", "xseg_1")
    graphs.record_installed(tmp_path, "bisenet_resnet_34", "real_esrgan_x2")
    source, target = cast.ready(cleo, "source"), cast.ready(cleo, "target")
    address = f"{live_server}/new/permission?source={source.pk}&face_{source.pk}=0&target={target.pk}&target_face=0"
    for width in (360, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(address)
        expect(page.get_by_label("Glasses")).to_be_hidden()
        page.locator("#face-options > summary").click()
        expect(page.get_by_label("Glasses")).to_be_checked()
        assert page.evaluate(OVERFLOW) == 0
        assert page.evaluate(TARGETS) == 0
        assert page.evaluate(UNNAMED) == []
        page.locator("#face-options").screenshot(path=tmp_path / f"face-{width}.png")
    page.get_by_label("What replaces the face").select_option("inswapper_128")
    page.get_by_label("It is one of the parts ticked below").check()
    page.get_by_label("Glasses").uncheck()
    page.get_by_label("What makes it larger").select_option("real_esrgan_x2")
    ask_ada_and_ben(page)
    expect(page.get_by_role("img", name="QR code of the link for Ada")).to_be_visible()
    options = Job.objects.get().options
    assert (options["mask_types"], options["upscaler"]) == (["region"], "real_esrgan_x2")
    assert "glasses" not in options["mask_regions"]
    assert len(options["mask_regions"]) == 9


def several(cleo: cast.Account) -> str:
    """The way to the faces of a target of three, with a photo of each of two people."""
    photos = [cast.ready(cleo, "source", path=cast.SAMPLES / name) for name in ("astronaut.jpg", "grace_hopper.jpg")]
    target = cast.ready(cleo, "target", faces=3)
    return f"/new/faces?{'&'.join(f'source={photo.pk}' for photo in photos)}&target={target.pk}"


def test_two_people_are_swapped_by_the_keyboard_alone(
    page: Page, cleo: cast.Account, live_server: object, complaints: list[str]
) -> None:
    page.goto(f"{live_server}{several(cleo)}")
    expect(page.get_by_role("checkbox", name="Face 3")).to_be_checked()
    page.get_by_role("checkbox", name="Face 1").focus()
    page.keyboard.press("Space")
    page.get_by_role("button", name="Go on to permission").press("Enter")
    first, third = (page.get_by_role("group", name=f"Which photos replace Face {number}?") for number in (1, 3))
    first.get_by_role("checkbox", name="Photo 2").press("Space")
    page.get_by_role("button", name="Go on to permission").press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("every face needs at least one photo")
    expect(first.get_by_role("checkbox", name="Photo 2")).to_be_checked()
    third.get_by_role("checkbox", name="Photo 1").press("Space")
    page.get_by_role("button", name="Go on to permission").press("Enter")

    expect(page.get_by_text("1 other face in it stays as it is.")).to_be_visible()
    page.locator("#donor_name").fill("Ada")
    page.locator("#target_name").fill("Ben")
    page.locator("#donor_name_2").fill("Eve")
    second = page.locator("section", has=page.locator("#target-title_2"))
    second.get_by_label("The same person as Face 1").press("Space")
    expect(page.locator("#target_name_2")).to_be_hidden()
    expect(page.locator("#target_name")).to_be_visible()  # each pair's choice moves its own half
    second.get_by_label("I hold the rights").press("Space")
    expect(page.locator("#statement_2")).to_be_visible()
    expect(page.locator("#statement")).to_be_hidden()
    second.get_by_label("Ask the person").press("Space")
    page.locator("#target_name_2").fill("Fay")
    page.get_by_label("Personal").check()
    for name in cast.DECLARED:
        page.locator(f"#tick_{name}").check()
    page.get_by_role("button", name="Ask for permission and make the job").press("Enter")
    for name in ("Ada", "Ben", "Eve", "Fay"):
        expect(page.get_by_label(f"Link for {name}")).to_be_visible()
    assert [swap.target_face for swap in Job.objects.get().swaps.all()] == [0, 2]
    assert complaints == []


def test_the_pages_of_several_faces_fit_every_width_and_axe_finds_nothing(
    axe: Axe, page: Page, browser: Browser, cleo: cast.Account, live_server: object, tmp_path: Path
) -> None:
    way = several(cleo)
    photos = Asset.objects.filter(role="source").order_by("pk").values_list("pk", flat=True)
    faces = f"{way}&target_face=0&target_face=2"
    chosen = f"{faces}&photo_0={photos[0]}&photo_2={photos[1]}"
    shared = f"{faces}&photo_0={photos[0]}&photo_2={photos[0]}"
    screens = {
        "faces": faces,
        "pairs": faces.replace("/faces?", "/pairs?"),
        "permission": chosen.replace("/faces?", "/permission?"),
        "shared": shared.replace("/faces?", "/permission?"),
    }
    shots = Path(os.environ.get("TEST_SCREENSHOTS") or tmp_path)
    state = page.context.storage_state()
    for scheme, width in (("light", 360), ("dark", 1440)):
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, storage_state=state, bypass_csp=True
        )
        tab = context.new_page()
        for name, address in screens.items():
            tab.goto(f"{live_server}{address}")
            tab.screenshot(path=shots / f"several-{name}-{width}.png", full_page=True)
            assert tab.evaluate(OVERFLOW) <= 0, (name, width)
            assert tab.evaluate(TARGETS) == 0, (name, width)
            assert tab.evaluate(UNNAMED) == [], name
            assert axe(tab) == [], (name, width)
        context.close()


def test_two_people_are_swapped_without_javascript(
    context: BrowserContext, page: Page, cleo: cast.Account, live_server: object
) -> None:
    assert context.browser is not None
    plain = context.browser.new_context(java_script_enabled=False, storage_state=context.storage_state())
    tab = plain.new_page()
    tab.goto(f"{live_server}{several(cleo)}")
    tab.get_by_role("checkbox", name="Face 2").check()
    tab.get_by_role("button", name="Go on to permission").click()
    for number, photo in ((2, 1), (3, 2)):
        group = tab.get_by_role("group", name=f"Which photos replace Face {number}?")
        group.get_by_role("checkbox", name=f"Photo {photo}").check()
    tab.get_by_role("button", name="Go on to permission").click()
    tab.locator("#donor_name_2").fill("Eve")
    tab.locator("#target_name_2").fill("Fay")
    ask_ada_and_ben(tab)
    expect(tab.get_by_label("Link for Fay")).to_be_visible()
    plain.close()
