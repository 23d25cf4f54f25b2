"""Asking: what is refused, what is kept, and the link."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import pytest
from django.core import mail
from django.db import models
from django.utils import timezone

from consent import services, subjects
from consent.errors import ConsentError
from consent.models import Consent, Event, Subject
from webapp.outbox.models import OutboxMessage
from webapp.outbox.services import relay

pytestmark = pytest.mark.django_db


def _refused(house, **changes) -> ConsentError:
    with pytest.raises(ConsentError) as error:
        house.ask(**changes)
    return error.value


def test_a_request_keeps_what_is_asked_and_who_asks(house) -> None:
    consent, token = house.ask(note="For the summer ball.", max_outputs=3, days=30)
    consent = Consent.objects.get(pk=consent.pk)
    assert len(token) == 43
    assert consent.token_sha256 == hashlib.sha256(token.encode()).hexdigest()
    assert (consent.state, consent.assurance, consent.max_outputs) == ("requested", "L1", 3)
    assert (consent.name, consent.requested_by_name, consent.note) == (
        "Ada Byron",
        "Cleo Marsh",
        "For the summer ball.",
    )
    assert consent.subject.contact == "ada@example.org"
    assert [(each["sha256"], each["face"]) for each in consent.targets] == [(house.target.sha256, 2)]
    assert consent.photo_sha256s == [house.photo.sha256]
    assert timedelta(days=29) < consent.valid_until - timezone.now() <= timedelta(days=30)
    assert timedelta(days=6) < consent.link_expires_at - timezone.now() <= timedelta(days=7)
    event = Event.objects.get(consent=consent)
    assert event.type == "requested"
    assert event.data["purposes"] == ["personal", "social"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"role": "owner"}, "role"),
        ({"purposes": []}, "purposes"),
        ({"purposes": ["personal", "training"]}, "purposes"),
        ({"photos": []}, "photos"),
        ({"photos": [services.PhotoRef("a", "A" * 64)]}, "photos"),
        ({"photos": [services.PhotoRef("a", "a" * 63)]}, "photos"),
        ({"photos": [services.PhotoRef("a", "a" * 64), services.PhotoRef("b", "a" * 64)]}, "photos"),
        ({"role": "target_person", "target": None}, "target"),
        ({"role": "target_person", "photos": [services.PhotoRef("a", "a" * 64)]}, "photos"),
        ({"target": services.TargetRef("t", "nonsense", 0)}, "target"),
        ({"target": services.TargetRef("t", "c" * 64, -1)}, "target"),
        ({"max_outputs": 0}, "max_outputs"),
        ({"max_outputs": 101}, "max_outputs"),
        ({"days": 0}, "days"),
        ({"days": 366}, "days"),
        ({"name": "  "}, "name"),
        ({"name": "Ada\nBcc: all"}, "name"),
        ({"requested_by": ""}, "requested_by"),
        ({"note": "x" * 501}, "note"),
        ({"contact": "not a contact"}, "contact"),
    ],
)
def test_a_request_that_is_not_whole_asks_nobody(house, changes, field) -> None:
    error = _refused(house, **changes)
    assert error.code in {"request_invalid", "contact_invalid"}
    assert field in error.fields
    assert not Consent.objects.exists()
    assert not OutboxMessage.objects.exists()


def test_one_contact_is_one_subject_however_it_is_spelled(house) -> None:
    one, _ = house.ask(contact="Ada@Example.org ")
    two, _ = house.ask(contact="ada@example.org", organisation_id="org_dan", name="A. Lovelace")
    assert one.subject_id == two.subject_id
    phone, _ = house.ask(contact="+49 (30) 1234-567")
    assert phone.subject.contact == "+49301234567"
    assert phone.subject_id == house.ask(contact="+49301234567")[0].subject_id


def test_what_one_organisation_calls_a_person_stays_with_it(house) -> None:
    one, _ = house.ask()
    two, _ = house.ask(organisation_id="org_dan", name="A. Lovelace")
    assert (Consent.objects.get(pk=one.pk).name, Consent.objects.get(pk=two.pk).name) == ("Ada Byron", "A. Lovelace")
    kept_on_the_person = {field.name for field in Subject._meta.get_fields() if isinstance(field, models.Field)}
    assert kept_on_the_person == {"id", "key_id", "contact_hmac", "contact_sealed", "created_at", "erased_at"}


def test_without_a_contact_every_request_has_its_own_subject(house) -> None:
    assert house.ask(contact="")[0].subject_id != house.ask(contact="")[0].subject_id


def test_the_link_finds_its_request_and_no_other(house) -> None:
    one, token = house.ask()
    house.ask("target_person")
    assert services.find_by_token(token).pk == one.pk
    for wrong in (token[:-1], token + "A", token.swapcase(), "", one.token_sha256, one.id):
        with pytest.raises(ConsentError) as error:
            services.find_by_token(wrong)
        assert error.value.code == "link_unknown"


def test_an_open_question_closes_but_the_link_of_a_given_one_lives(house) -> None:
    asked, asked_token = house.ask()
    given, given_token = house.ask(contact="")
    house.answer(given)
    Consent.objects.update(link_expires_at=timezone.now() - timedelta(seconds=1))
    with pytest.raises(ConsentError) as error:
        services.find_by_token(asked_token)
    assert (error.value.code, error.value.status) == ("link_expired", 410)
    asked.refresh_from_db()
    with pytest.raises(ConsentError) as error:
        house.answer(asked)
    assert error.value.code == "link_expired"
    assert services.withdraw_consent(services.find_by_token(given_token)).state == "withdrawn"


@pytest.mark.parametrize("wish", [False, True])
def test_a_refusal_blocks_asking_again_by_any_door(house, wish: bool) -> None:
    consent, _ = house.ask()
    services.refuse_consent(consent, block=wish)
    assert _refused(house).code == "asking_blocked"
    assert _refused(house, contact="ADA@example.org", photos=[house.photo_two]).code == "asking_blocked"
    # Nor by the back door, with the same pictures and no contact.
    assert _refused(house, contact="").code == "asking_blocked"
    assert house.ask(organisation_id="org_dan")[0].state == "requested"
    subjects.Block.objects.update(until=timezone.now())
    assert house.ask()[0].state == "requested"


def test_a_refusal_blocks_for_90_days_exactly(house) -> None:
    services.refuse_consent(house.ask()[0])
    left = {(block.until - timezone.now()).days for block in subjects.Block.objects.all()}
    assert left == {89}


def test_with_the_wish_it_blocks_for_good(house) -> None:
    services.refuse_consent(house.ask()[0], block=True)
    assert all((block.until - timezone.now()).days > 99 * 365 for block in subjects.Block.objects.all())


def test_without_a_contact_the_wish_holds_for_the_pictures(house) -> None:
    consent, _ = house.ask("target_person", contact="")
    services.refuse_consent(consent, block=True)
    assert _refused(house, role="target_person", contact="").code == "asking_blocked"
    other_face = services.TargetRef("ast_target", house.target.sha256, 3)
    assert house.ask("target_person", contact="", target=other_face)[0].state == "requested"


def test_nobody_is_asked_too_often(house) -> None:
    for _ in range(subjects.UNGIVEN_PER_DAY):
        house.ask()
    error = _refused(house)
    assert (error.code, error.status) == ("asked_too_often", 429)
    assert house.ask(contact="other@example.org")[0].state == "requested"
    Consent.objects.update(created_at=timezone.now() - timedelta(days=1, seconds=1))
    assert house.ask()[0].state == "requested"


def test_whoever_said_yes_may_be_asked_again(house) -> None:
    for _ in range(subjects.UNGIVEN_PER_DAY + 1):
        house.given()


def test_many_organisations_together_may_not_flood_a_person(house) -> None:
    for number in range(subjects.UNGIVEN_PER_DAY_BY_ALL):
        house.ask(organisation_id=f"org_{number}")
    assert _refused(house, organisation_id="org_new").code == "asked_too_often"


@pytest.mark.parametrize(("locale", "word"), [("en", "permission"), ("zh-CN", "许可")])
def test_the_person_gets_a_mail_with_the_link_in_their_language(house, locale, word) -> None:
    consent, token = house.ask(locale=locale)
    assert not mail.outbox
    assert relay() == 1
    (message,) = mail.outbox
    assert message.to == ["ada@example.org"]
    assert f"/c/{token}" in message.body
    assert word in message.body
    assert "Ada Byron" in message.body
    assert consent.locale == ("en" if locale == "en" else "zh-hans")


@pytest.mark.parametrize("contact", ["", "+49301234567"])
def test_without_an_address_no_mail_is_written(house, contact) -> None:
    house.ask(contact=contact)
    assert not OutboxMessage.objects.exists()


def test_the_waiting_mail_tells_a_reader_of_the_database_nothing(house) -> None:
    _, token = house.ask()
    waiting = str(OutboxMessage.objects.get().payload)
    for secret in (token, "ada@example.org", "Ada", "Cleo"):
        assert secret not in waiting


def test_a_person_erased_meanwhile_gets_no_mail(house) -> None:
    from consent import keys

    consent, _ = house.ask()
    keys.destroy_key(consent.key_id)
    assert relay() == 1
    assert not mail.outbox
