"""The yes: what it takes, what it narrows, what is kept of it."""

from __future__ import annotations

import hashlib

import pytest

from consent import services, texts
from consent.errors import ConsentError
from consent.models import Consent

pytestmark = pytest.mark.django_db


def _ticks(consent: Consent, *but: str) -> dict[str, bool]:
    return {name: name not in but for name, _ in services.consent_text(consent, "en").boxes}


def _incomplete(house, consent: Consent, **changes) -> dict[str, str]:
    with pytest.raises(ConsentError) as error:
        house.answer(consent, **changes)
    assert error.value.code == "consent_incomplete"
    consent.refresh_from_db()
    assert (consent.state, consent.ticks, consent.given_at) == ("requested", {}, None)
    assert consent.events.count() == 1
    return error.value.fields


def test_a_yes_keeps_the_words_the_ticks_and_the_signature(house) -> None:
    consent, _ = house.ask()
    notice = services.consent_text(consent, "en")
    consent = Consent.objects.get(pk=house.answer(consent).pk)
    assert consent.state == "given"
    assert consent.notice_text == notice.text
    assert consent.notice_sha256 == hashlib.sha256(notice.text.encode()).hexdigest()
    assert (consent.notice_id, consent.notice_version) == (
        "consent/face_donor/en",
        services.consent_text(consent, "en").version,
    )
    assert consent.typed_name == "Ada Byron"
    assert consent.ticks == {name: True for name, _ in notice.boxes}
    assert consent.valid_from == consent.given_at
    assert [event.type for event in consent.events.all()] == ["requested", "viewed", "given"]


def test_a_yes_reaches_as_far_as_the_ticks(house) -> None:
    consent, _ = house.ask(photos=[house.photo, house.photo_two], purposes=["personal", "social", "film"])
    house.answer(consent, ticks=_ticks(consent, "purpose:film"), confirmed_photos=[house.photo_two.sha256])
    consent.refresh_from_db()
    assert consent.purposes == ["personal", "social"]
    assert consent.photo_sha256s == [house.photo_two.sha256]
    facts = services.facts_of(consent)
    assert facts.purposes == {"personal", "social"}
    assert facts.photo_sha256s == {house.photo_two.sha256}
    asked = consent.events.get(type="requested").data
    assert asked["purposes"] == ["personal", "social", "film"]


@pytest.mark.parametrize("box", ["person", "adult", "face_processing"])
def test_every_confirmation_is_needed(house, box) -> None:
    consent, _ = house.ask()
    assert _incomplete(house, consent, ticks=_ticks(consent, box)) == {box: "tick_required"}


def test_all_that_is_missing_is_named_in_the_order_of_the_page(house) -> None:
    consent, _ = house.ask()
    missing = _incomplete(house, consent, ticks={}, typed_name="", confirmed_photos=[])
    assert list(missing) == ["photos", "purposes", "person", "adult", "face_processing", "typed_name"]


@pytest.mark.parametrize("name", ["", " ", "A", "x" * 121, "Ada\x00Byron"])
def test_a_signature_is_a_name(house, name) -> None:
    consent, _ = house.ask()
    assert _incomplete(house, consent, typed_name=name) == {"typed_name": "name_required"}


def test_at_least_one_purpose_is_ticked(house) -> None:
    consent, _ = house.ask()
    ticks = _ticks(consent, "purpose:personal", "purpose:social")
    assert _incomplete(house, consent, ticks=ticks) == {"purposes": "purpose_required"}


@pytest.mark.parametrize(
    "tampered",
    [
        {"ticks": {"purpose:film": True}},
        {"ticks": {"purpose:training": True}},
        {"ticks": {"sexual": True}},
        {"confirmed_photos": ["f" * 64]},
    ],
)
def test_what_was_not_on_the_page_cannot_be_agreed_to(house, tampered) -> None:
    consent, _ = house.ask()
    if "ticks" in tampered:
        tampered = {"ticks": {**_ticks(consent), **tampered["ticks"]}}
    with pytest.raises(ConsentError) as error:
        house.answer(consent, **tampered)
    assert error.value.code == "consent_form_invalid"
    consent.refresh_from_db()
    assert consent.state == "requested"


def test_a_text_that_changed_meanwhile_is_not_agreed_to(house, settings) -> None:
    consent, _ = house.ask()
    read = services.consent_text(consent, "en").sha256
    settings.OUTPUT_RETENTION_DAYS = 30
    with pytest.raises(ConsentError) as error:
        house.answer(consent, notice_sha256=read)
    assert error.value.code == "notice_changed"
    consent.refresh_from_db()
    assert consent.state == "requested"
    assert house.answer(consent).state == "given"


def test_the_language_that_was_read_is_the_language_agreed_in(house) -> None:
    consent, _ = house.ask(locale="en")
    house.answer(consent, notice_sha256=services.consent_text(consent, "zh-hans").sha256)
    assert (consent.locale, consent.notice_id) == ("zh-hans", "consent/face_donor/zh-hans")
    assert "生物识别" in consent.notice_text


def test_neither_address_nor_browser_is_kept_as_it_was(house) -> None:
    one = house.given(contact="")
    same_network, _ = house.ask(contact="")
    house.answer(same_network, ip="203.0.113.5")
    elsewhere, _ = house.ask(contact="")
    house.answer(elsewhere, ip="2001:db8::7", user_agent="")
    assert one.evidence["browser"] == "Firefox"
    assert one.evidence["network_hmac"] == same_network.evidence["network_hmac"]
    assert elsewhere.evidence["network_hmac"] != one.evidence["network_hmac"]
    assert "browser_hmac" not in elsewhere.evidence
    assert "203.0.113" not in str(one.evidence)
    assert "Gecko" not in str(one.evidence)


def test_refusing_records_a_view_and_a_no(house) -> None:
    consent, _ = house.ask()
    services.refuse_consent(consent)
    assert consent.state == "refused"
    assert [event.type for event in consent.events.all()] == ["requested", "viewed", "refused"]


def test_a_revocation_keeps_its_reason(house) -> None:
    consent = house.given()
    services.revoke_consent(consent, reason="court_order")
    assert consent.events.last().code == "court_order"


def test_the_texts_say_who_what_how_many_until_when_and_how_to_get_out(house) -> None:
    for role in ("face_donor", "target_person"):
        consent, _ = house.ask(role, max_outputs=7, days=30)
        for locale in texts.LOCALES:
            text = services.consent_text(consent, locale).text
            until = texts.long_date(consent.valid_until, locale)
            for part in ("Cleo Marsh", "Cleo's Studio", "7", until, "24", str(consent.valid_until.year)):
                assert part in text, (role, locale, part)
            assert "$" not in text
            boxes = dict(services.consent_text(consent, locale).boxes)
            assert list(boxes) == ["purpose:personal", "purpose:social", "person", "adult", "face_processing"]


def test_both_languages_have_the_same_words_and_texts() -> None:
    def shape(value):
        if isinstance(value, dict):
            return {key: shape(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [shape(inner) for inner in value]
        return type(value)

    import tomllib

    folder = texts.FOLDER
    names = sorted(path.name.removesuffix(".en.toml") for path in folder.glob("*.en.toml"))
    assert names == [
        "camera",
        "consent-1",
        "consent-2",
        "declaration-1",
        "face_list-1",
        "portal",
        "target_rights-1",
        "words",
    ]
    for name in names:
        en, zh = (
            tomllib.loads((folder / f"{name}.{locale}.toml").read_text(encoding="utf-8")) for locale in texts.LOCALES
        )
        assert shape(en) == shape(zh), name


def test_a_published_text_never_changes() -> None:
    """Records point at versions: change a text by adding the next number, not by editing one that was shown."""
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in texts.FOLDER.glob("*-[0-9].*.toml")
    }
    assert found == PUBLISHED


PUBLISHED = {
    "consent-1.en.toml": "797368a1a33fafd1",
    "consent-1.zh-hans.toml": "2fbf93d9acc2556b",
    "consent-2.en.toml": "cbe7962a0789791e",
    "consent-2.zh-hans.toml": "20fa8ee561bed79b",
    "declaration-1.en.toml": "dc1f33ae38c51790",
    "declaration-1.zh-hans.toml": "d96a3547d72ae1b6",
    "face_list-1.en.toml": "068f170e1861872b",
    "face_list-1.zh-hans.toml": "98955ee73c60bd66",
    "target_rights-1.en.toml": "d904937796aff0d0",
    "target_rights-1.zh-hans.toml": "24eb5279350d6965",
}
