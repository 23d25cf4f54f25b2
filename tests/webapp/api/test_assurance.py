"""A partner may ask for a surer yes, never for a less sure one; what they learn of the check is one word."""

from __future__ import annotations

from typing import Any

import pytest

from consent import services as consents
from consent.models import Consent
from tests.webapp import cast

pytestmark = pytest.mark.django_db


def _ask(cleo: cast.Account, **more: str) -> Any:
    photo = cast.ready(cleo, "source")
    body = {"role": "face_donor", "name": "Ada", "purposes": ["personal"], "photos": [{"asset": photo.pk, "face": 0}]}
    return cleo.browser.post("/v1/consent_requests", body | more, content_type="application/json", headers=cleo.api)


@pytest.mark.parametrize(
    ("profile", "wish", "code"),
    [
        ("evaluation", "L3", "assurance_not_installed"),
        ("evaluation", "L4", "assurance_not_installed"),
        ("standard", "L1", "assurance_too_low"),
    ],
)
def test_what_cannot_be_had_is_refused_with_its_code(
    cleo: cast.Account, settings: Any, profile: str, wish: str, code: str
) -> None:
    settings.PROFILE = profile
    answer = _ask(cleo, assurance=wish)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert Consent.objects.count() == 0


@pytest.mark.parametrize(
    ("profile", "more", "asked"),
    [("evaluation", {}, "L1"), ("evaluation", {"assurance": "L2"}, "L2"), ("standard", {}, "L2"), ("strict", {}, "L2")],
)
def test_the_level_asked_is_policys_or_the_wish(
    cleo: cast.Account, settings: Any, profile: str, more: dict[str, str], asked: str
) -> None:
    settings.PROFILE = profile
    body = _ask(cleo, **more).json()
    assert (body["assurance_asked"], body["assurance"], body["check"]) == (asked, None, None)
    consent = Consent.objects.get()
    consents.answer_consent(consent, **cast.whole_answer(consent, "Ada Byron"))
    body = cleo.browser.get(f"/v1/consents/{consent.pk}", headers=cleo.api).json()
    expected = ("given", "L1", None) if asked == "L1" else ("viewed", None, "waiting")
    assert (body["state"], body["assurance"], body["check"]) == expected
