"""The person's own pages, with a browser that is as strict as in production."""

from __future__ import annotations

import re
from datetime import timedelta
from html.parser import HTMLParser

import pytest
from django.apps import apps
from django.utils import timezone

from consent import keys, services
from consent.models import Consent, DataKey, Event

pytestmark = pytest.mark.django_db


class Page(HTMLParser):
    """The forms, boxes and buttons of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: list[dict] = []
        self.images: list[dict] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.scripts = 0
        self.feed(html)

    def handle_starttag(self, tag, attrs) -> None:
        given = dict(attrs)
        if "id" in given:
            self.ids.append(given["id"])
        if tag == "form":
            self.forms.append({**given, "hidden": {}, "boxes": [], "buttons": []})
        if tag == "input" and given.get("type") == "hidden":
            self.forms[-1]["hidden"][given["name"]] = given["value"]
        if tag == "input" and given.get("type") == "checkbox":
            self.forms[-1]["boxes"].append(given)
        if tag == "button":
            self.forms[-1]["buttons"].append(given)
        if tag == "img":
            self.images.append(given)
        if tag == "a":
            self.links.append(given["href"])
        if tag == "script" or any(name.startswith("on") or name == "style" for name in given):
            self.scripts += 1


def _rows() -> dict[str, list]:
    models = [model for model in apps.get_app_config("consent").get_models() if model is not DataKey]
    return {model.__name__: list(model.objects.order_by("pk").values()) for model in models}


def _form(client, token: str, *, but: tuple[str, ...] = (), **changes) -> dict:
    form = Page(client.get(f"/c/{token}").content.decode()).forms[0]
    ticks = [box["value"] for box in form["boxes"] if box["name"] == "tick" and box["value"] not in but]
    return {**form["hidden"], "tick": ticks, "typed_name": "Ada Byron", **changes}


def test_looking_changes_nothing_however_often_and_by_whomever(client, house) -> None:
    _, token = house.ask()
    given, given_token = house.ask("target_person")
    house.answer(given)
    before = _rows()
    for address in (token, given_token):
        for path in ("", "?lang=zh-hans", "/withdraw", "/photo/0", "/photo/9", "/target"):
            client.get(f"/c/{address}{path}")
            client.head(f"/c/{address}{path}")
        for path in ("/give", "/refuse"):
            assert client.get(f"/c/{address}{path}")["Location"] == f"/c/{address}"
    assert _rows() == before


def test_the_page_shows_who_asks_for_what_and_ticks_nothing_beforehand(client, house) -> None:
    consent, token = house.ask(note="For the <b>summer</b> ball.", max_outputs=4)
    response = client.get(f"/c/{token}")
    html = response.content.decode()
    page = Page(html)
    for part in ("Cleo Marsh", "Cleo&#x27;s Studio", "at most 4", str(consent.valid_until.year)):
        assert part in html
    assert "For the &lt;b&gt;summer&lt;/b&gt; ball." in html
    assert not any("checked" in box for form in page.forms for box in form["boxes"])
    assert [box["value"] for box in page.forms[0]["boxes"]] == [
        "purpose:personal",
        "purpose:social",
        "person",
        "adult",
        "face_processing",
    ]
    assert page.scripts == 0
    assert len(page.ids) == len(set(page.ids))
    assert all(image["alt"] for image in page.images)


def test_no_is_as_large_as_yes_and_as_near(client, house) -> None:
    _, token = house.ask()
    html = client.get(f"/c/{token}").content.decode()
    yes, no = Page(html).forms
    assert yes["action"].endswith("/give")
    assert no["action"].endswith("/refuse")
    assert yes["buttons"] == no["buttons"] == [{"class": "button", "type": "submit"}]
    assert [box["name"] for box in no["boxes"]] == ["block"]
    assert "<span>Cleo&#x27;s Studio may never ask me again.</span>" in html
    assert yes["class"].split()[-1] == no["class"].split()[-1] == "answer"


def test_pages_stay_out_of_caches_indexes_and_referrers(client, house) -> None:
    _, token = house.ask()
    for path in (token, f"{token}/photo/0", "x" * 43):
        response = client.get(f"/c/{path}")
        assert "no-store" in response["Cache-Control"]
        assert response["Referrer-Policy"] == "no-referrer"
        assert "noindex" in response["X-Robots-Tag"]


def test_yes_is_recorded_once_and_leads_to_the_receipt(client, house) -> None:
    consent, token = house.ask()
    form = _form(client, token)
    # Browsers send "null" as the origin of a form on a page without referrer.
    response = client.post(f"/c/{token}/give", form, headers={"Origin": "null"})
    assert (response.status_code, response["Location"]) == (303, f"/c/{token}?lang=en")
    events = Event.objects.count()
    assert client.post(f"/c/{token}/give", form).status_code == 303
    assert client.post(f"/c/{token}/refuse", {}).status_code == 303
    assert Event.objects.count() == events
    consent.refresh_from_db()
    assert (consent.state, consent.typed_name) == ("given", "Ada Byron")
    html = client.get(f"/c/{token}").content.decode()
    assert "Ada Byron" in html
    assert consent.notice_sha256 in html
    assert "I am an adult" in html
    assert "Results: at most 1, nothing new after" in html
    assert f"/c/{token}/withdraw?lang=en" in Page(html).links


def test_what_is_missing_is_said_at_its_field_and_nothing_typed_is_lost(client, house) -> None:
    consent, token = house.ask()
    form = _form(client, token, but=("adult", "purpose:social"), typed_name="")
    response = client.post(f"/c/{token}/give", form)
    assert response.status_code == 422
    html = response.content.decode()
    page = Page(html)
    boxes = {box["value"]: box for box in page.forms[0]["boxes"]}
    assert {value for value, box in boxes.items() if "checked" in box} == {
        "purpose:personal",
        "person",
        "face_processing",
    }
    assert boxes["adult"]["aria-invalid"] == "true"
    assert boxes["adult"]["aria-describedby"] in page.ids
    assert {"#field-adult", "#field-typed_name"} <= set(page.links)
    assert all(link[1:] in page.ids for link in page.links if link.startswith("#"))
    consent.refresh_from_db()
    assert consent.state == "requested"
    # Completed, it goes through.
    assert client.post(f"/c/{token}/give", _form(client, token)).status_code == 303


def test_of_several_photos_the_person_confirms_each(client, house) -> None:
    consent, token = house.ask(photos=[house.photo, house.photo_two])
    none = client.post(f"/c/{token}/give", _form(client, token))
    assert none.status_code == 422
    assert "field-photos" in Page(none.content.decode()).ids
    client.post(f"/c/{token}/give", _form(client, token, photo=[house.photo_two.sha256]))
    consent.refresh_from_db()
    assert consent.photo_sha256s == [house.photo_two.sha256]


@pytest.mark.parametrize("tampered", [{"tick": ["purpose:film"]}, {"photo": "f" * 64}])
def test_a_tampered_form_comes_back_and_records_nothing(client, house, tampered) -> None:
    consent, token = house.ask()
    form = _form(client, token)
    if "tick" in tampered:
        form["tick"] = form["tick"] + tampered["tick"]
    else:
        form |= tampered
    response = client.post(f"/c/{token}/give", form)
    assert response.status_code == 422
    assert "does not belong there" in response.content.decode()
    consent.refresh_from_db()
    assert consent.state == "requested"


def test_a_text_that_changed_is_shown_again_before_anything_is_agreed(client, house, settings) -> None:
    consent, token = house.ask()
    form = _form(client, token)
    settings.OUTPUT_RETENTION_DAYS = 99
    response = client.post(f"/c/{token}/give", form)
    html = response.content.decode()
    assert response.status_code == 409
    assert "The text has changed" in html
    assert "after 99 days" in html
    assert Page(html).forms[0]["hidden"]["notice_sha256"] != form["notice_sha256"]
    consent.refresh_from_db()
    assert consent.state == "requested"
    assert client.post(f"/c/{token}/give", _form(client, token)).status_code == 303


def test_nobody_agrees_to_pictures_they_cannot_see(client, house, pictures) -> None:
    consent, token = house.ask()
    form = _form(client, token)

    def gone(asset_id: str, face: int) -> bytes:
        raise FileNotFoundError(asset_id)

    pictures(gone)
    response = client.get(f"/c/{token}")
    assert [form["action"] for form in Page(response.content.decode()).forms] == [f"/c/{token}/refuse"]
    assert client.get(f"/c/{token}/target").status_code == 404
    assert client.post(f"/c/{token}/give", form).status_code == 409
    consent.refresh_from_db()
    assert consent.state == "requested"


def test_the_pictures_are_those_asked_about(client, house, pictures) -> None:
    _, token = house.ask()
    pictures(lambda asset_id, face: f"{asset_id}/{face}".encode())
    assert client.get(f"/c/{token}/photo/0").content == b"ast_photo/0"
    assert client.get(f"/c/{token}/target").content == b"ast_target/2"
    assert client.get(f"/c/{token}/target")["Content-Type"] == "image/jpeg"
    assert client.get(f"/c/{token}/photo/1").status_code == 404
    services.refuse_consent(services.find_by_token(token))
    assert client.get(f"/c/{token}/photo/0").status_code == 404


def test_no_is_one_tap_and_may_stop_further_asking(client, house) -> None:
    consent, token = house.ask()
    assert client.post(f"/c/{token}/refuse", {"block": "yes", "lang": "en"}).status_code == 303
    consent.refresh_from_db()
    assert consent.state == "refused"
    assert consent.events.last().code == "asking_blocked"
    assert "You said no" in client.get(f"/c/{token}").content.decode()
    with pytest.raises(services.ConsentError):
        house.ask()


@pytest.mark.parametrize("state", ["given", "exhausted", "expired", "superseded"])
def test_withdrawing_takes_two_taps_without_login_also_after_the_end(client, house, state) -> None:
    consent, token = house.ask(contact="w@example.org")
    house.answer(consent)
    Consent.objects.update(state=state, link_expires_at=timezone.now() - timedelta(days=30))
    first = Page(client.get(f"/c/{token}").content.decode())
    (address,) = [link for link in first.links if "/withdraw" in link]
    second = Page(client.get(address).content.decode())
    (form,) = second.forms
    assert client.post(form["action"], form["hidden"]).status_code == 303
    consent.refresh_from_db()
    assert consent.state == "withdrawn"
    events = Event.objects.count()
    assert client.post(form["action"], form["hidden"]).status_code == 303
    assert Event.objects.count() == events
    assert "You withdrew on" in client.get(f"/c/{token}").content.decode()


@pytest.mark.parametrize("state", ["refused", "lapsed", "revoked", "withdrawn"])
def test_a_closed_question_says_so_and_offers_nothing(client, house, state) -> None:
    consent, token = house.ask()
    Consent.objects.update(state=state, ended_at=timezone.now())
    response = client.get(f"/c/{token}")
    assert response.status_code == 200
    page = Page(response.content.decode())
    assert page.forms == []
    assert not [link for link in page.links if "withdraw" in link]
    for path in ("give", "refuse", "withdraw"):
        assert client.post(f"/c/{token}/{path}", {}).status_code == 303
    consent.refresh_from_db()
    assert consent.state == state


def test_a_link_that_is_not_known_or_too_old_is_explained(client, house) -> None:
    consent, token = house.ask()
    for wrong in ("x", "x" * 43, token[:-1]):
        response = client.get(f"/c/{wrong}")
        assert response.status_code == 404
        assert "cut in two" in response.content.decode()
    Consent.objects.update(link_expires_at=timezone.now())
    for response in (client.get(f"/c/{token}"), client.post(f"/c/{token}/give", {}), client.post(f"/c/{token}/refuse")):
        assert response.status_code == 410
        assert "limited time" in response.content.decode()
    consent.refresh_from_db()
    assert consent.state == "requested"


def test_the_page_of_somebody_erased_says_only_that(client, house) -> None:
    consent, token = house.ask()
    house.answer(consent)
    keys.destroy_key(consent.key_id)
    response = client.get(f"/c/{token}")
    assert response.status_code == 410
    assert "was erased" in response.content.decode()


@pytest.mark.parametrize(("locale", "asked"), [("en", "zh-hans"), ("zh-hans", "en")])
def test_both_languages_are_one_tap_away_and_agreed_in_as_read(client, house, locale, asked) -> None:
    consent, token = house.ask(locale=locale)
    html = client.get(f"/c/{token}").content.decode()
    assert f'<html lang="{"en" if locale == "en" else "zh-Hans"}">' in html
    assert f"/c/{token}?lang={asked}" in Page(html).links
    html = client.get(f"/c/{token}?lang={asked}").content.decode()
    assert bool(re.search("[一-鿿]", html.replace("中文", ""))) is (asked == "zh-hans")
    form = Page(html).forms[0]
    ticks = [box["value"] for box in form["boxes"]]
    response = client.post(f"/c/{token}/give", {**form["hidden"], "tick": ticks, "typed_name": "艾达"})
    assert response["Location"] == f"/c/{token}?lang={asked}"
    consent.refresh_from_db()
    assert (consent.state, consent.locale) == ("given", asked)


def test_the_target_person_is_asked_about_the_target_alone(client, house) -> None:
    consent, token = house.ask("target_person")
    html = client.get(f"/c/{token}").content.decode()
    assert "May your face be replaced?" in html
    assert [image["src"] for image in Page(html).images] == [f"/c/{token}/target"]
    assert client.post(f"/c/{token}/give", _form(client, token)).status_code == 303
    consent.refresh_from_db()
    assert consent.state == "given"


def test_an_answer_that_fails_leaves_no_link_in_the_log(client, house, caplog) -> None:
    _, token = house.ask()
    assert client.post(f"/c/{token}/give", {}).status_code == 409
    assert client.get(f"/c/{token}/photo/9").status_code == 404
    Consent.objects.update(link_expires_at=timezone.now())
    assert client.get(f"/c/{token}").status_code == 410
    assert token not in caplog.text
    assert client.get("/nowhere").status_code == 404
    assert "/nowhere" in caplog.text  # the log is on
