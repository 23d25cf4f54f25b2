"""Forgetting a person: at once, whole, healed after a crash at any step, and nobody else with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from consent import erasure, keys, services
from consent.errors import ConsentError
from consent.models import Block, Consent, DataKey, Erasure, Event, Subject
from consent.subjects import subject_for
from webapp.outbox.models import OutboxMessage

pytestmark = pytest.mark.django_db

ADA = "ada@example.org"


@pytest.fixture(autouse=True)
def _letters(settings: Any, tmp_path: Path) -> None:
    settings.MAIL_DIR = tmp_path / "mail"


@pytest.fixture
def rooms() -> Iterator[list[erasure.Scope]]:
    """What other rooms are asked to erase."""
    before = dict(erasure._erasers)
    asked: list[erasure.Scope] = []

    def eraser(scope: erasure.Scope, look_only: bool) -> list[erasure.Line]:
        if not look_only:
            asked.append(scope)
        return [erasure.Line("shoes", 2)]

    erasure.register_eraser("shoes", eraser)
    yield asked
    erasure._erasers.clear()
    erasure._erasers.update(before)


def _forgotten(subject: Subject, consents: list[Consent]) -> None:
    """Nothing of them can be read, and no row leads from the contact to them."""
    subject.refresh_from_db()
    assert subject.erased_at is not None
    assert subject.contact_hmac is None
    assert subject.contact_sealed is None
    with pytest.raises(keys.KeyDestroyedError):
        keys.data_key(subject.key_id)
    for consent in consents:
        consent.refresh_from_db()
        assert (consent.name, consent.note, consent.requested_by_name, consent.evidence) == ("", "", "", {})
        for column in ("typed_name", "notice_text"):
            if getattr(consent, f"{column}_sealed"):
                with pytest.raises(keys.KeyDestroyedError):
                    getattr(consent, column)
    theirs = [consent.pk for consent in consents]
    assert not OutboxMessage.objects.filter(sent_at__isnull=True, payload__consent__in=theirs).exists()
    assert subject.erasure.state == Erasure.State.ERASED


def test_everything_of_a_person_goes_and_the_report_says_what(house: Any, rooms: list[erasure.Scope]) -> None:
    given, (asked, token) = house.given(), house.ask(note="a note")
    refused = house.ask()[0]
    services.refuse_consent(refused, block=True)
    other = house.given("target_person")
    report = erasure.erase_subject(given.subject, by="person")
    assert report.finished
    _forgotten(given.subject, [given, asked, refused])
    assert (given.state, asked.state, refused.state) == ("withdrawn", "lapsed", "refused")
    destroyed = {line.what: line.count for line in report.destroyed}
    assert destroyed["permissions ended"] == 2
    assert destroyed["keys of the person"] == 1
    assert destroyed["letters that waited to be sent"] == 3  # and not Ben's
    assert destroyed["shoes"] == 2
    assert all(line.why and line.kept for line in report.kept)
    assert rooms[0].contact == ADA
    assert set(rooms[0].consent_ids) == {given.pk, asked.pk, refused.pk}
    with pytest.raises(ConsentError, match="not known"):
        services.find_by_token(token)
    # Evidence that a permission existed, and Ben's own, are as they were.
    assert list(given.events.values_list("type", flat=True)) == ["requested", "viewed", "given", "withdrawn", "erased"]
    other.refresh_from_db()
    assert (other.state, other.name) == ("given", "Ben Okri")
    assert "ada" not in json.dumps(subjects_report(report)).lower()


def subjects_report(report: erasure.ErasureReport) -> list[str]:
    return [line.what + line.why for line in (*report.destroyed, *report.kept)]


def test_asked_again_the_contact_is_a_new_person_and_the_wish_not_to_be_asked_holds(house: Any) -> None:
    first = house.ask()[0]
    services.refuse_consent(first, block=True)
    erasure.erase_subject(first.subject, by="person")
    assert Block.objects.exists()
    with pytest.raises(ConsentError) as error:
        house.ask()
    assert error.value.code == "asking_blocked"
    again = house.ask(organisation_id="org_dan", organisation_name="Dan's")[0]
    assert again.subject_id != first.subject_id
    assert again.name == "Ada Byron"


def test_erased_twice_is_erased_once(house: Any, rooms: list[erasure.Scope]) -> None:
    given = house.given()
    first = erasure.erase_subject(given.subject, by="person")
    assert erasure.erase_subject(given.subject, by="operator") == first
    assert Erasure.objects.count() == 1
    assert Event.objects.filter(type="erased").count() == 1


@pytest.mark.parametrize("stop", range(len(erasure.STEPS)))
@pytest.mark.parametrize("when", ["before", "middle", "after"])
def test_stopped_at_any_step_it_is_healed(
    house: Any, rooms: list[erasure.Scope], monkeypatch: pytest.MonkeyPatch, stop: int, when: str
) -> None:
    """A kill leaves what was committed: here the process's death is an exception that nothing catches."""

    class KilledError(BaseException):
        pass

    step = erasure.STEPS[stop]

    def deadly(subject: Subject, scope: erasure.Scope) -> Iterator[erasure.Line]:
        if when == "before":
            raise KilledError
        for line in step(subject, scope):
            yield line
            if when == "middle":
                raise KilledError
        raise KilledError

    given = house.given()
    asked = house.ask()[0]
    with monkeypatch.context() as patch:
        patch.setattr(erasure, "STEPS", (*erasure.STEPS[:stop], deadly, *erasure.STEPS[stop + 1 :]))
        with pytest.raises(KilledError):
            erasure.erase_subject(given.subject, by="person")
    assert Erasure.objects.get().state == Erasure.State.ERASING
    # Whoever asks now asks a new person.
    assert house.ask(organisation_id="org_dan")[0].subject_id != given.subject_id
    assert erasure.heal() == 0  # somebody may be at it still
    later = timezone.now() + erasure.RETRY_AFTER
    monkeypatch.setattr(timezone, "now", lambda: later)
    assert erasure.heal() == 1
    _forgotten(given.subject, [given, asked])
    assert erasure.heal() == 0
    assert Event.objects.filter(type="erased", consent=given).count() == 1
    assert {line.what: line.count for line in erasure.report_of(Erasure.objects.get()).destroyed}["shoes"] >= 2


def test_what_fails_is_begun_recorded_and_gone_on_with(house: Any, rooms: list[erasure.Scope]) -> None:
    given = house.given()

    def away(scope: erasure.Scope, look_only: bool) -> list[erasure.Line]:
        raise OSError("the storage is away")

    erasure.register_eraser("storage", away)
    report = erasure.erase_subject(given.subject, by="person")
    assert not report.finished
    assert keys.data_key(given.subject.key_id)  # needed until the pictures are gone
    given.refresh_from_db()
    assert given.state == "withdrawn"
    del erasure._erasers["storage"]
    assert erasure.heal(at_start=True) == 1
    _forgotten(given.subject, [given])


def test_a_restored_backup_of_the_main_database_brings_nobody_back(house: Any) -> None:
    given = house.given()
    row = {name: getattr(given.subject, name) for name in ("contact_hmac", "contact_sealed", "erased_at")}
    erasure.erase_subject(given.subject, by="person")
    Subject.objects.filter(pk=given.subject_id).update(**row)
    Consent.objects.filter(pk=given.pk).update(state="given", ended_at=None)
    assert erasure.heal() == 0
    assert erasure.heal(at_start=True) == 1
    given.refresh_from_db()
    assert given.state == "withdrawn"
    _forgotten(given.subject, [given])


def test_nor_does_one_of_the_key_store(house: Any) -> None:
    given = house.given()
    record = DataKey.objects.get(pk=given.subject.key_id)
    erasure.erase_subject(given.subject, by="person")
    record.save()
    assert keys.data_key(record.pk)
    assert erasure.heal(at_start=True) == 1
    with pytest.raises(keys.KeyDestroyedError):
        keys.data_key(record.pk)


def test_letters_in_files_go_and_those_of_others_stay(house: Any, settings: Any) -> None:
    from django.core.mail import EmailMessage, get_connection

    backend = "django.core.mail.backends.filebased.EmailBackend"
    apart = []  # a file is named by the second and its connection: one that is gone could lend its name to the next
    for to, subject, body in (
        (ADA, "Für Dich", "Grüße an Ada 你好"),
        ("ben@example.org", "hello", "only for Ben"),
        ("cleo@example.org", "an answer", "ADA@example.org said yes 你好"),
    ):
        with get_connection(backend, file_path=str(settings.MAIL_DIR)) as connection:
            apart.append(connection)
            EmailMessage(subject, body, to=[to], connection=connection).send()
    with get_connection(backend, file_path=str(settings.MAIL_DIR)) as connection:  # two letters in one file
        for to in (ADA, "ben@example.org"):
            EmailMessage("both", f"for {to}", to=[to], connection=connection).send()
    given = house.given()
    report = erasure.erase_subject(given.subject, by="person")
    assert {line.what: line.count for line in report.destroyed}["letters in files"] == 3
    left = b"".join(path.read_bytes() for path in settings.MAIL_DIR.iterdir())
    assert len(list(settings.MAIL_DIR.iterdir())) == 2
    assert left.count(b"ben@example.org") == 3  # To twice, and once in a body
    assert b"ada@" not in left.lower()


def test_a_request_that_waits_for_the_erasing_gets_a_new_person(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It had found the subject just before the erasure took its hash away."""
    given = house.given()
    real, calls = subject_for, []

    def slow(contact: str) -> Subject:
        found = real(contact)
        if not calls:
            calls.append(found.pk)
            erasure.erase_subject(found, by="person")
        return found

    monkeypatch.setattr("consent.requests.subject_for", slow)
    asked = house.ask()[0]
    assert calls == [given.subject_id]
    assert asked.subject_id != given.subject_id
    assert asked.name == "Ada Byron"


def test_retention_does_not_touch_a_permission_that_holds(house: Any) -> None:
    given = house.given()
    with pytest.raises(ConsentError) as error:
        erasure.erase_subject(given.subject, by="retention")
    assert error.value.code == "in_force"
    assert given.subject.contact == ADA
    assert not Erasure.objects.exists()


def test_the_command_lists_asks_and_erases(house: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given = house.given()
    call_command("privacy", "erase", "--contact", "Ada@Example.org", "--dry-run")
    assert "keys of the person" in capsys.readouterr().out
    monkeypatch.setattr("builtins.input", lambda _: "no")
    with pytest.raises(CommandError, match="Nothing was changed"):
        call_command("privacy", "erase", given.subject_id)
    assert given.subject.contact == ADA
    call_command("privacy", "erase", given.subject_id, "--yes", "--json")
    found = json.loads(capsys.readouterr().out.partition("{")[2].join(["{", ""]))
    assert found["finished"]
    _forgotten(given.subject, [given])
    for wrong in (["--contact", ADA], ["--contact", "nonsense"], ["sbj_nobody"]):
        with pytest.raises(CommandError, match=r"Nothing was changed|Nobody"):
            call_command("privacy", "erase", *wrong, "--yes")


def test_people_go_when_their_time_is_over(house: Any, settings: Any) -> None:
    from consent import schedule

    now = timezone.now()
    ada, ben = house.given(), house.given("target_person")
    never = house.ask(contact="never@example.org")[0]
    services.refuse_consent(never)
    services.withdraw_consent(ada)
    year = timedelta(days=365)
    assert list(schedule.over(now + 3 * year - timedelta(days=1), given=True)) == []
    assert list(schedule.over(now + 89 * timedelta(days=1), given=False)) == []
    assert list(schedule.over(now + 91 * timedelta(days=1), given=False)) == [never.subject]
    assert list(schedule.over(now + 3 * year + timedelta(days=1), given=True)) == [ada.subject]
    services.expire_due(now + 91 * timedelta(days=1))  # Ben's ran out by itself
    Consent.objects.filter(pk=ben.pk).update(ended_at=now + 91 * timedelta(days=1))
    assert list(schedule.over(now + 3 * year + timedelta(days=90), given=True)) == [ada.subject]
    assert list(schedule.over(now + 3 * year + timedelta(days=92), given=True)) == [ada.subject, ben.subject]
    from webapp import retention

    done = retention.run(now + 3 * year + timedelta(days=92))
    assert done.failed == ()
    assert done.gone["consent_record"] == 2
    assert done.gone["unanswered"] == 1
    for consent in (ada, ben, never):
        _forgotten(consent.subject, [consent])


def test_a_permission_that_was_used_up_is_over_with_its_last_day(house: Any) -> None:
    from consent import schedule

    used_up = house.in_state("exhausted")
    now = used_up.ended_at
    assert list(schedule.over(now + timedelta(days=3 * 365 + 1), given=True)) == []
    assert list(schedule.over(used_up.valid_until + timedelta(days=3 * 365 + 1), given=True)) == [used_up.subject]
