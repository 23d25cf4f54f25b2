"""The steps of a new job."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from consent.models import Attestation, Consent
from tests.webapp import cast
from tests.worker import neural_graphs as graphs
from webapp.jobs import intake, leases
from webapp.jobs.models import Asset, Job
from webapp.jobs.options import Options

pytestmark = pytest.mark.django_db


def photo(name: str = "a.jpg") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, (cast.SAMPLES / "astronaut.jpg").read_bytes(), "image/jpeg")


@pytest.fixture
def files(cleo: cast.Account) -> tuple[Asset, Asset]:
    return cast.ready(cleo, "source"), cast.ready(cleo, "target")


def form(files: tuple[Asset, Asset], **more: Any) -> dict[str, Any]:
    """The permission form as somebody fills it in."""
    source, target = files
    data = {
        "source": source.pk,
        "target": target.pk,
        "target_face": "0",
        f"face_{source.pk}": "0",
        "donor_name": "Ada",
        "cover": "ask",
        "target_name": "Ben",
        "purpose": "personal",
        **{f"tick_{name}": "on" for name in cast.DECLARED},
        **more,
    }
    return {name: value for name, value in data.items() if value is not None}


def test_models_are_offered_only_where_they_are_installed(
    cleo: cast.Account, files: tuple[Asset, Asset], settings: Any, tmp_path: Path
) -> None:
    assert "How the face is made" not in cleo.browser.get("/new/permission", form(files)).content.decode()
    wanted = form(files, swapper="inswapper_128", enhancer="gfpgan_1.4", pixel_boost="2")
    refused = cleo.browser.post("/new/permission", wanted)
    assert refused.status_code == 422
    assert "are not installed here" in refused.content.decode()
    assert not Job.objects.exists()
    settings.OPERATOR_MODELS_DIR = tmp_path
    graphs.record_installed(tmp_path, "yunet", "2dfan4", "arcface_w600k_r50", "inswapper_128", "gfpgan_1.4")
    page = cleo.browser.get("/new/permission", form(files)).content.decode()
    assert re.search(r'<option value="inswapper_128">', page)
    assert "hyperswap" not in page
    again = cleo.browser.post("/new/permission", {**wanted, "donor_name": ""}).content.decode()
    assert re.search(r'<option value="inswapper_128" selected>', again)
    assert re.search(r'<option value="gfpgan_1.4" selected>', again)
    assert cleo.browser.post("/new/permission", wanted).status_code == 302
    options = Job.objects.get().options
    assert (options["swapper"], options["enhancer"], options["pixel_boost"]) == ("inswapper_128", "gfpgan_1.4", 2)


def test_how_finely_the_face_is_made_is_folded_away_until_it_was_chosen(
    cleo: cast.Account, files: tuple[Asset, Asset], settings: Any, tmp_path: Path
) -> None:
    settings.OPERATOR_MODELS_DIR = tmp_path
    graphs.record_installed(tmp_path, "yunet", "2dfan4", "arcface_w600k_r50", "inswapper_128")
    page = cleo.browser.get("/new/permission", form(files)).content.decode()
    assert '<details class="stack-tight" id="swapper-options">' in page
    wrong = cleo.browser.post("/new/permission", form(files, swapper="inswapper_128", pixel_boost="9"))
    assert wrong.status_code == 422
    assert '<details class="stack-tight" id="swapper-options" open>' in wrong.content.decode()
    assert "How finely the face is made: Choose one of these." in wrong.content.decode()
    assert not Job.objects.exists()
    kept = cleo.browser.post("/new/permission", form(files, donor_name="", pixel_boost="4")).content.decode()
    assert '<option value="4" selected>' in kept
    assert cleo.browser.post("/new/permission", form(files, pixel_boost="4")).status_code == 302  # built in: no use
    assert Options.from_mapping(Job.objects.get().options) == Options()


def test_masks_are_advanced_and_offered_only_with_what_can_tell(
    cleo: cast.Account, files: tuple[Asset, Asset], settings: Any, tmp_path: Path
) -> None:
    settings.OPERATOR_MODELS_DIR = tmp_path
    graphs.record_installed(tmp_path, "yunet", "2dfan4", "arcface_w600k_r50", "inswapper_128")
    page = cleo.browser.get("/new/permission", form(files)).content.decode()
    assert '<details class="stack" id="face-options">' in page  # closed
    assert re.search(r'name="mask_types" value="area">', page)
    assert 'value="occlusion"' not in page
    assert "mask_regions" not in page
    assert 'id="upscaler"' not in page
    graphs.record_installed(tmp_path, "xseg_2", "bisenet_resnet_18", "real_esrgan_x2")
    page = cleo.browser.get("/new/permission", form(files)).content.decode()
    assert re.search(r'name="mask_types" value="occlusion">', page)
    assert re.search(r'name="mask_regions" value="glasses" checked>', page)
    assert re.search(r'<option value="real_esrgan_x2">', page)
    wanted = form(
        files,
        swapper="inswapper_128",
        mask_types=["occlusion", "region"],
        mask_regions=["skin", "nose"],
        mask_padding_bottom="12",
        enhancer_blend="60",
        upscaler="real_esrgan_x2",
    )
    wrong = {**wanted, "mask_padding_top": "99", "enhancer_blend": "lots", "mask_regions": []}
    refused = cleo.browser.post("/new/permission", wrong)
    assert refused.status_code == 422
    said = refused.content.decode()
    assert '<details class="stack" id="face-options" open>' in said
    for words in ("from 0 to 45", "from 0 to 100", "Tick at least one"):
        assert words in said
    assert 'value="lots"' in said  # nothing that was written is lost
    assert cleo.browser.post("/new/permission", wanted).status_code == 302
    options = Options.from_mapping(Job.objects.get().options)
    assert (options.mask_types, options.mask_regions) == (("occlusion", "region"), ("skin", "nose"))
    assert (options.mask_padding, options.enhancer_blend) == ((0, 0, 12, 0), 60)
    assert options.upscaler == "real_esrgan_x2"


def test_the_built_in_way_has_no_masks_to_choose_but_can_be_enlarged(
    cleo: cast.Account, files: tuple[Asset, Asset], settings: Any, tmp_path: Path
) -> None:
    settings.OPERATOR_MODELS_DIR = tmp_path
    graphs.record_installed(tmp_path, "real_esrgan_x2")
    page = cleo.browser.get("/new/permission", form(files)).content.decode()
    assert "face-options" not in page
    assert "How large the result is" in page
    wanted = form(files, mask_types=["area"], mask_areas=["mouth"], upscaler="real_esrgan_x2")
    assert cleo.browser.post("/new/permission", wanted).status_code == 302
    assert Options.from_mapping(Job.objects.get().options) == Options(upscaler="real_esrgan_x2")


def test_the_label_can_be_made_to_say_more_and_never_less(
    cleo: cast.Account, files: tuple[Asset, Asset], settings: Any
) -> None:
    settings.JURISDICTIONS = ("cn",)
    wanted = form(files, label_language="de", jurisdiction=["eu", "atlantis"])
    page = cleo.browser.get("/new/permission", form(files)).content.decode()
    assert "AI合成" in page
    assert re.search(r'value="cn" checked disabled', page)
    answer = cleo.browser.post("/new/permission", {**wanted, "label_language": "xx"})
    assert answer.status_code == 422
    assert "Choose one of these languages." in answer.content.decode()
    assert re.search(r'value="eu" checked>', answer.content.decode())  # nothing that was chosen is lost
    assert cleo.browser.post("/new/permission", wanted).status_code == 302
    job = Job.objects.get()
    assert (job.options["label_language"], job.options["jurisdictions"]) == ("de", ["eu"])
    assert Options.from_mapping(job.options).label().text == "MIT KI VERÄNDERT\nAI合成"


@pytest.fixture
def film(files: tuple[Asset, Asset]) -> tuple[Asset, Asset]:
    """The same files with a video of ten seconds as the target."""
    source, target = files
    media = {**target.media, "kind": "video", "duration": 10.0}
    faces = [{**cast.face(0), "first_seconds": 0.0, "last_seconds": 8.0}]
    Asset.objects.filter(pk=target.pk).update(kind="video", media=media, faces=faces)
    target.refresh_from_db()
    return source, target


def test_a_photo_has_no_choices_about_a_video(cleo: cast.Account, files: tuple[Asset, Asset]) -> None:
    assert "trim_start" not in cleo.browser.get("/new/permission", form(files)).content.decode()
    assert cleo.browser.post("/new/permission", form(files, codec="av1", trim_start="3")).status_code == 302
    assert Options.from_mapping(Job.objects.get().options) == Options()


def test_a_video_is_made_as_usual_unless_something_is_chosen(cleo: cast.Account, film: tuple[Asset, Asset]) -> None:
    page = cleo.browser.get("/new/permission", form(film)).content.decode()
    assert "the video lasts 10.0 seconds" in page
    assert '<details class="card stack" id="video-options">' in page  # closed
    blank = {"codec": "h264", "quality": "18", "preset": "fast", "height": "", "fps": "", "trim_start": ""}
    assert cleo.browser.post("/new/permission", form(film, **blank)).status_code == 302
    assert Options.from_mapping(Job.objects.get().options) == Options()


def test_what_is_chosen_about_a_video_is_what_the_job_gets(cleo: cast.Account, film: tuple[Asset, Asset]) -> None:
    chosen = {"codec": "av1", "quality": "24", "preset": "slow", "height": "720", "fps": "25"}
    wanted = form(film, **chosen, trim_start="0:01.5", trim_end="7")
    assert cleo.browser.post("/new/permission", wanted).status_code == 302
    options = Options.from_mapping(Job.objects.get().options)
    assert (options.codec, options.crf, options.preset, options.height, options.fps) == ("av1", 24, "slow", 720, 25.0)
    assert (options.trim_start, options.trim_end) == (1.5, 7.0)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"codec": "vp9"}, "Choose one of these."),
        ({"height": "9999"}, "Choose one of these."),
        ({"trim_start": "soon"}, "Write seconds"),
        ({"trim_start": "1:75"}, "Write seconds"),
        ({"trim_start": "-3"}, "Write seconds"),
        ({"trim_start": "nan"}, "Write seconds"),
        ({"trim_start": "5", "trim_end": "4"}, "end after it begins"),
        ({"trim_start": "30"}, "before the end of the video"),
        ({"trim_start": "9"}, "not seen in the part"),
    ],
)
def test_a_wrong_choice_about_a_video_is_named_and_nothing_is_made(
    cleo: cast.Account, film: tuple[Asset, Asset], wrong: dict[str, str], words: str
) -> None:
    answer = cleo.browser.post("/new/permission", form(film, **wrong))
    html = answer.content.decode()
    assert words in html
    assert 'id="video-options" open' in html
    for value in wrong.values():
        if "trim" in "".join(wrong):
            assert f'value="{value}"' in html  # nothing that was written is lost
    assert not Job.objects.exists()
    assert not Consent.objects.exists()


def test_the_empty_list_explains_the_three_steps(cleo: cast.Account) -> None:
    html = cleo.browser.get("/").content.decode()
    assert [f"<strong>{word}.</strong>" in html for word in ("Upload", "Pick the face", "Ask")] == [True] * 3


def test_an_upload_goes_on_to_the_check(cleo: cast.Account) -> None:
    answer = cleo.browser.post("/new", {"sources": [photo("a.jpg"), photo("b.jpg")], "target_file": photo("t.jpg")})
    assets = Asset.objects.of(cleo.organisation)
    assert sorted(assets.values_list("role", flat=True)) == ["source", "source", "target"]
    assert answer["Location"].startswith("/new/check?source=")
    page = cleo.browser.get(answer["Location"])
    assert page.content.decode().count("Waiting to be checked") == 3


def test_what_was_good_is_kept_when_something_is_missing(cleo: cast.Account) -> None:
    answer = cleo.browser.post("/new", {"sources": [photo("ada.jpg")]})
    assert answer["Location"].startswith("/new?source=")
    html = cleo.browser.get(answer["Location"]).content.decode()
    assert "ada.jpg" in html
    assert "the photo or video to change missing" in html
    kept = re.search(r'name="source" value="(ast_\w+)"', html)
    assert kept
    again = cleo.browser.post("/new", {"source": kept[1], "target_file": photo("t.jpg")})
    assert again["Location"].startswith("/new/check?")
    assert Asset.objects.of(cleo.organisation).count() == 2


def test_an_empty_file_is_named_and_the_rest_is_kept(cleo: cast.Account) -> None:
    empty = SimpleUploadedFile("empty.jpg", b"", "image/jpeg")
    answer = cleo.browser.post("/new", {"sources": [photo("ada.jpg")], "target_file": empty}, follow=True)
    html = answer.content.decode()
    assert "empty.jpg: The file is empty" in html
    assert "ada.jpg" in html


def test_the_upload_module_gets_the_address_as_json(cleo: cast.Account) -> None:
    data = {"sources": [photo()], "target_file": photo()}
    answer = cleo.browser.post("/new", data, headers={"Accept": "application/json"})
    assert answer.json()["location"].startswith("/new/check?")


def test_a_refused_file_is_explained_and_can_be_replaced_alone(cleo: cast.Account) -> None:
    source, target = cast.ready(cleo, "source"), cast.uploaded(cleo, "target")
    worker = leases.new_owner()
    intake.claim_asset(target.pk, worker)
    intake.asset_refused(target.pk, "no_face", "No face was found in it.", owner=worker)
    html = cleo.browser.get(f"/new/check?source={source.pk}&target={target.pk}").content.decode()
    assert "No face was found in it." in html
    assert f'href="/new?source={source.pk}"' in html
    assert "Pick the face" not in re.sub(r"<ol class=\"steps\".*?</ol>", "", html, flags=re.S)


def test_the_check_tells_its_state_as_json(cleo: cast.Account, files: tuple[Asset, Asset]) -> None:
    source, target = files
    waiting = cast.uploaded(cleo, "target")
    headers = {"Accept": "application/json"}
    done = cleo.browser.get(f"/new/check?source={source.pk}&target={target.pk}", headers=headers).json()
    assert (done["page"], done["ready"], done["busy"]) == ("ready,ready", True, False)
    busy = cleo.browser.get(f"/new/check?source={source.pk}&target={waiting.pk}", headers=headers).json()
    assert (busy["page"], busy["ready"], busy["busy"]) == ("ready,uploaded", False, True)


def test_the_faces_cannot_be_picked_before_the_check_is_done(cleo: cast.Account) -> None:
    source, target = cast.ready(cleo, "source"), cast.uploaded(cleo, "target")
    answer = cleo.browser.get(f"/new/faces?source={source.pk}&target={target.pk}")
    assert answer["Location"].startswith("/new/check?")


def test_nobody_is_asked_about_a_face_that_nobody_chose(cleo: cast.Account) -> None:
    source, target = cast.ready(cleo, "source"), cast.ready(cleo, "target", faces=3)
    query = f"source={source.pk}&target={target.pk}"
    answer = cleo.browser.get(f"/new/permission?{query}")
    assert (answer.status_code, answer["Location"]) == (302, f"/new/faces?{query}")
    assert "none was chosen" in cleo.browser.get(answer["Location"]).content.decode()
    assert cleo.browser.get(f"/new/permission?{query}&target_face=1").status_code == 200


def test_the_largest_face_is_chosen_beforehand(cleo: cast.Account) -> None:
    source, target = cast.ready(cleo, "source"), cast.ready(cleo, "target", faces=3)
    html = cleo.browser.get(f"/new/faces?source={source.pk}&target={target.pk}").content.decode()
    assert re.findall(r'name="target_face" value="(\d)"( checked)?', html) == [("0", ""), ("1", ""), ("2", " checked")]


@pytest.mark.parametrize("index", ["7", "-1", "x", "0x0"])
def test_a_face_that_is_not_there_cannot_be_picked(cleo: cast.Account, files: tuple[Asset, Asset], index: str) -> None:
    source, target = files
    query = f"source={source.pk}&target={target.pk}&target_face={index}"
    assert cleo.browser.get(f"/new/permission?{query}").status_code == 404


def test_no_box_is_ticked_beforehand(cleo: cast.Account, files: tuple[Asset, Asset]) -> None:
    source, target = files
    html = cleo.browser.get(f"/new/permission?source={source.pk}&target={target.pk}").content.decode()
    boxes = re.findall(r'<input type="checkbox"[^>]*>', html)
    assert len(boxes) >= len(cast.DECLARED)
    assert not any("checked" in box for box in boxes)
    assert 'name="purpose" value="personal" required>' in html


@pytest.mark.parametrize(
    "missing", ["donor_name", "target_name", "purpose", *(f"tick_{name}" for name in cast.DECLARED)]
)
def test_a_form_that_lacks_something_makes_nothing_and_loses_nothing(
    cleo: cast.Account, files: tuple[Asset, Asset], missing: str
) -> None:
    data = form(files, donor_contact="ada@example.org", **{missing: None})
    answer = cleo.browser.post("/new/permission", data)
    assert answer.status_code == 422
    html = answer.content.decode()
    assert f'href="#{missing}"' in html
    assert f'id="{missing}"' in html
    assert 'value="ada@example.org"' in html
    assert (Job.objects.count(), Consent.objects.count(), Attestation.objects.count()) == (0, 0, 0)


def test_a_refusal_of_the_service_leaves_nothing_behind(cleo: cast.Account, files: tuple[Asset, Asset]) -> None:
    answer = cleo.browser.post("/new/permission", form(files, target_contact="not an address at all"))
    assert answer.status_code == 422
    assert "#target_contact" in answer.content.decode()
    assert (Job.objects.count(), Consent.objects.count(), Attestation.objects.count()) == (0, 0, 0)


def test_the_job_is_made_and_its_links_are_for_this_session_only(
    cleo: cast.Account, files: tuple[Asset, Asset]
) -> None:
    answer = cleo.browser.post("/new/permission", form(files))
    job = Job.objects.get()
    assert answer["Location"] == f"/jobs/{job.pk}"
    assert (job.declaration.kind, cast.donor(job).name, cast.replaced(job).name) == ("declaration", "Ada", "Ben")
    html = cleo.browser.get(answer["Location"]).content.decode()
    links = re.findall(r'value="(http[^"]+/c/[^"]+)"', html)
    assert len(set(links)) == 2
    assert html.count("Link for Ada") == 1
    code = cleo.browser.get(f"/jobs/{job.pk}/links/{cast.donor(job).pk}.png")
    assert code.content.startswith(b"\x89PNG")
    assert "no-store" in code["Cache-Control"]

    colleague = Client()
    colleague.force_login(cleo.user)
    assert "/c/" not in colleague.get(answer["Location"]).content.decode()
    assert colleague.get(f"/jobs/{job.pk}/links/{cast.donor(job).pk}.png").status_code == 404

    cleo.browser.post(f"/jobs/{job.pk}/links/hide")
    assert "/c/" not in cleo.browser.get(answer["Location"]).content.decode()


def test_the_session_row_does_not_hold_the_tokens_in_plain(cleo: cast.Account, files: tuple[Asset, Asset]) -> None:
    answer = cleo.browser.post("/new/permission", form(files))
    token = re.search(r"/c/([\w-]+)", cleo.browser.get(answer["Location"]).content.decode())
    assert token
    assert token[1] not in str(dict(cleo.browser.session.items()))


def test_rights_can_stand_in_for_the_replaced_person(cleo: cast.Account, files: tuple[Asset, Asset]) -> None:
    incomplete = cleo.browser.post("/new/permission", form(files, cover="rights", target_name=None))
    assert incomplete.status_code == 422
    for name in ("basis", "statement", "rights_statement_true"):
        assert f'href="#{name}"' in incomplete.content.decode()
    from consent import services as consents

    rights = {f"rights_{name}": "on" for name, _ in consents.target_rights_text("en").boxes}
    statement = "We made this film in 2020 and the actor agreed in writing."
    data = form(files, cover="rights", target_name=None, basis="owns_footage", statement=statement, **rights)
    answer = cleo.browser.post("/new/permission", data)
    job = Job.objects.get()
    assert answer["Location"] == f"/jobs/{job.pk}"
    swap = job.swaps.get()
    assert swap.target_consent is None
    assert swap.target_attestation.statement == statement
    assert "statement of rights" in cleo.browser.get(f"/jobs/{job.pk}").content.decode()
