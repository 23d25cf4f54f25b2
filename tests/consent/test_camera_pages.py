"""The person's way through the camera step by HTTP: every page, every refusal in words, every lost connection."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpResponseBase
from django.test import Client
from django.utils import timezone

from consent import services
from consent.challenge import services as challenges
from consent.models import Challenge, Consent, Event
from consent.texts import camera_words
from tests.consent.conftest import House
from webapp import asgi
from webapp.jobs import challenges as work
from webapp.jobs import leases
from webapp.outbox.models import OutboxMessage
from worker.gate.live import liveness

pytestmark = pytest.mark.django_db

CLIP = b"\x1aE\xdf\xa3 eight seconds of Ada"
MATCH = {"score": 0.31, "threshold": 0.45, "model": "face_descriptor"}


class Person:
    """Ada with her phone: what she sees, ticks and sends."""

    def __init__(self, client: Client, house: House, **asked: Any) -> None:
        self.client = client
        self.consent, self.token = house.ask(**{"assurance": "L2", "purposes": ["personal"], **asked})

    def url(self, step: str = "") -> str:
        return f"/c/{self.token}" + (f"/{step}" if step else "")

    def page(self, query: str = "") -> str:
        return self.client.get(self.url() + query).content.decode()

    def form(self, **changes: Any) -> dict[str, Any]:
        html = self.page("?read=1")
        return {
            "notice_sha256": re.search(r'name="notice_sha256" value="(\w+)"', html)[1],
            "photo": re.findall(r'name="photo" value="(\w+)"', html),
            "tick": re.findall(r'name="tick" value="([\w:]+)"', html),
            "typed_name": "Ada Byron",
            **changes,
        }

    def answer(self, **changes: Any) -> HttpResponseBase:
        return self.client.post(self.url("give"), self.form(**changes))

    def begin(self) -> dict[str, Any]:
        return self.client.post(self.url("challenge"), {"lang": "en"}).json()

    def send(self, challenge_id: str, data: bytes = CLIP, **more: Any) -> HttpResponseBase:
        file = SimpleUploadedFile("clip.webm", data, content_type="video/webm")
        return self.client.post(self.url("clip"), {"challenge": challenge_id, "clip": file, "lang": "en", **more})

    def check(self, verdict: str = "pass", codes: tuple[str, ...] = ()) -> None:
        challenge = challenges.latest(self.consent)
        owner = leases.new_owner()
        work.claim(challenge.pk, owner)
        services.settle_check(challenge.pk, owner, verdict=verdict, codes=codes, report={}, match=MATCH)

    def state(self) -> str:
        return self.client.get(self.url("state")).json()["page"]


@pytest.fixture
def ada(client: Client, house: House) -> Person:
    return Person(client, house)


def test_the_room_and_the_check_know_the_same_movements() -> None:
    assert tuple(liveness.ACTIONS) == challenges.ACTIONS
    for locale in ("en", "zh-hans"):
        assert set(camera_words(locale)["actions"]) == set(challenges.ACTIONS)


def test_the_whole_way_is_four_screens(ada) -> None:
    first = ada.page()
    assert "A short video of you" in first
    assert "The camera comes next." in first
    assert "camera.js" not in first
    answer = ada.answer()
    assert (answer.status_code, answer["Location"]) == (303, ada.url())
    camera = ada.client.get(ada.url())
    assert "data-camera" in camera.content.decode()
    assert camera["Permissions-Policy"].startswith("camera=(self)")
    issued = ada.begin()
    assert len(issued["actions"]) == 3
    assert 290 <= issued["seconds_left"] <= 300
    sent = ada.send(issued["id"])
    assert sent.status_code == 202
    assert "Checking your video" in ada.page()
    before = ada.state()
    assert before == sent.json()["page"]
    ada.check()
    assert ada.state() != before
    assert "Thank you. Your answer is recorded." in ada.page()
    ada.consent.refresh_from_db()
    assert (ada.consent.state, ada.consent.assurance) == ("given", "L2")


def test_no_camera_before_the_tick_and_on_no_other_page(ada) -> None:
    assert ada.client.get(ada.url())["Permissions-Policy"].startswith("camera=()")
    refused = ada.client.post(ada.url("challenge"))
    assert (refused.status_code, refused.json()["code"]) == (409, "answer_first")
    form = ada.form()
    form["tick"].remove("selfie_match")
    answer = ada.client.post(ada.url("give"), form)
    assert answer.status_code == 422
    assert "compared with the face in the photos" in answer.content.decode()
    assert "data-camera" not in ada.page()


def test_where_links_and_ticks_are_enough_no_video_is_spoken_of(client, house) -> None:
    ben = Person(client, house, assurance="L1")
    html = ben.page()
    assert "selfie" not in html
    assert "video of you" not in html
    ben.answer()
    ben.consent.refresh_from_db()
    assert (ben.consent.state, ben.consent.assurance) == ("given", "L1")


def test_looking_at_any_page_of_the_way_changes_nothing(ada) -> None:
    ada.answer()
    issued = ada.begin()
    for step in ("answered", "sent", "review"):
        if step == "sent":
            ada.send(issued["id"])
        if step == "review":
            ada.check("review", ("identity_unsure",))
        before = (list(Event.objects.values()), list(Challenge.objects.values()), list(Consent.objects.values()))
        for path in ("", "?read=1", "?lang=zh-hans", "/state", "/code", "/withdraw", "/give"):
            ada.client.get(ada.url() + path)
            ada.client.head(ada.url() + path)
        for path in ("challenge", "clip"):
            assert ada.client.get(ada.url(path)).status_code == 405
        after = (list(Event.objects.values()), list(Challenge.objects.values()), list(Consent.objects.values()))
        assert after == before


def test_a_reload_resumes_the_same_challenge(ada) -> None:
    ada.answer()
    first = ada.begin()
    ada.page()
    assert ada.begin()["id"] == first["id"]
    assert ada.begin()["actions"] == first["actions"]


@pytest.mark.parametrize("locale", ["en", "zh-hans"])
def test_what_went_wrong_is_said_in_plain_words_and_the_way_goes_on(ada, locale: str) -> None:
    ada.answer()
    for code in ("identity_mismatch", "a code nobody has words for"):
        issued = ada.begin()
        ada.send(issued["id"], CLIP + code.encode())
        ada.check("fail", (code,))
        html = ada.page(f"?lang={locale}")
        words = camera_words(locale)["why"]
        assert words.get(code, words["other"]) in html
        assert words["kept"] in html
        assert "data-camera" in html
        assert code not in html


def test_every_code_of_the_check_has_words() -> None:
    for locale in ("en", "zh-hans"):
        waits = {"identity_unsure", "no_reference", "screening_incomplete"}  # for a reviewer; the page says no more
        assert set(liveness.MESSAGES) - waits <= set(camera_words(locale)["why"])


def test_a_doubt_is_told_with_a_date_and_the_no_stays_as_large(ada) -> None:
    ada.answer()
    ada.send(ada.begin()["id"])
    ada.check("review", ("identity_unsure",))
    html = ada.page()
    assert "A person will look at it" in html
    assert str((timezone.now() + timezone.timedelta(days=7)).year) in html
    assert "message at the address" in html
    assert "identity_unsure" not in html
    ada.client.post(ada.url("refuse"))
    ada.consent.refresh_from_db()
    assert ada.consent.state == "refused"


def test_wrong_clips_are_refused_with_a_code_and_a_sentence(ada, house, client, monkeypatch) -> None:
    ada.answer()
    issued = ada.begin()
    other = Person(client, house, contact="other@example.org", photos=[house.photo_two])
    other.answer()
    foreign = other.begin()
    answers = {
        "challenge_unknown": ada.send(foreign["id"]),
        "clip_invalid": ada.client.post(ada.url("clip"), {"challenge": issued["id"]}),
    }
    answers["challenge_unknown again"] = ada.send("chl_\x00")
    monkeypatch.setattr(challenges, "CLIP_BYTES", 10)
    answers["clip_too_large"] = ada.send(issued["id"])
    monkeypatch.undo()
    assert ada.send(issued["id"]).status_code == 202
    answers["challenge_used"] = ada.send(issued["id"], b"another")
    for name, answer in answers.items():
        assert answer.json()["code"] == name.split()[0]
        assert answer.json()["sentence"]
        assert 400 <= answer.status_code < 500


def test_a_clip_that_comes_too_late_keeps_the_answer(ada) -> None:
    ada.answer()
    issued = ada.begin()
    Challenge.objects.update(expires_at=timezone.now())
    late = ada.send(issued["id"])
    assert (late.status_code, late.json()["code"]) == (410, "challenge_expired")
    assert "data-camera" in ada.page()
    assert ada.begin()["id"] != issued["id"]


def test_the_code_is_a_picture_of_this_link_and_never_cached(ada) -> None:
    answer = ada.client.get(ada.url("code"))
    assert answer["Content-Type"] == "image/png"
    assert answer.content.startswith(b"\x89PNG")
    assert "no-store" in answer["Cache-Control"]


def test_the_body_limit_in_front_knows_the_clip() -> None:
    assert asgi.body_limit("/c/token/clip") == (24 << 20) + asgi.ENVELOPE
    assert asgi.body_limit("/c/token/give") == asgi.SMALL_BODY


# --- the network between page and server -----------------------------------------------------------------------------
Step = Callable[[Person, dict[str, Any]], HttpResponseBase]

STEPS: dict[str, tuple[Step, str]] = {
    "give": (lambda person, kept: person.client.post(person.url("give"), kept["form"]), "answered"),
    "challenge": (lambda person, kept: person.client.post(person.url("challenge")), "challenge_issued"),
    "clip": (lambda person, kept: person.send(kept["challenge"]), "challenge_sent"),
    "withdraw": (lambda person, kept: person.client.post(person.url("withdraw")), "withdrawn"),
}


@pytest.mark.parametrize("lost", ["before", "after", "twice"])
@pytest.mark.parametrize("broken", list(STEPS))
def test_a_lost_connection_loses_nothing_and_doubles_nothing(ada, broken: str, lost: str) -> None:
    """`before`: the request never arrives. `after`: it is handled and the answer is lost; the page asks again."""
    kept: dict[str, Any] = {"form": ada.form()}
    for name, (step, event) in STEPS.items():
        if name == "withdraw":
            ada.check()
            ada.consent.refresh_from_db()
            assert ada.consent.state == "given"
        lost_answers = {"before": 0, "after": 1, "twice": 2}[lost] if name == broken else 0
        for _ in range(lost_answers):
            step(ada, kept)  # the server has done it; nobody here heard
        if name == broken and lost == "before":
            assert not ada.consent.events.filter(type=event).exists()
        answer = step(ada, kept)
        assert answer.status_code < 400
        if name == "challenge":
            kept["challenge"] = answer.json()["id"]
        assert ada.consent.events.filter(type=event).count() == 1
    assert [event.type for event in ada.consent.events.all()] == [
        "requested",
        "viewed",
        "answered",
        "challenge_issued",
        "challenge_sent",
        "challenge_passed",
        "given",
        "withdrawn",
    ]
    assert Challenge.objects.count() == 1
    assert OutboxMessage.objects.filter(topic="task").count() == 1


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_no_is_one_no_however_often_it_arrives(ada, times: int) -> None:
    ada.answer()
    for _ in range(times):
        assert ada.client.post(ada.url("refuse")).status_code == 303
    assert ada.consent.events.filter(type="refused").count() == 1
