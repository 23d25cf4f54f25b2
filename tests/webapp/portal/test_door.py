"""Who is let in: no oracle, one use, half an hour, sessions of their own."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from consent.models import Subject
from consent.portal import access as portal_access
from consent.portal.models import PortalAsk, PortalLink, PortalSession
from tests.webapp.portal.conftest import ADA, LINK, Person, ask, plain
from webapp.outbox.models import OutboxMessage
from webapp.pages.portal_guard import COOKIE

pytestmark = pytest.mark.django_db


def shape(browser: Client, contact: str) -> tuple[list[str], bytes]:
    """What asking does to the database, statement by statement without values, and the page it gives."""
    with CaptureQueriesContext(
        connection,
    ) as seen:
        response = browser.post("/me/ask", {"email": contact})
    verbs = [query["sql"].split(" WHERE ")[0].split(" VALUES ")[0] for query in seen.captured_queries]
    return [verb for verb in verbs if "SAVEPOINT" not in verb], plain(response.content)


def test_asking_does_and_says_the_same_for_a_known_and_an_unknown_address(ada: Person) -> None:
    known, unknown = shape(Client(), ADA), shape(Client(), "eve@example.org")
    assert known == unknown
    assert OutboxMessage.objects.filter(topic=portal_access.TOPIC).count() == 2
    assert ADA not in str(list(OutboxMessage.objects.values_list("payload", flat=True)))


def test_only_a_known_address_gets_a_mail_and_no_subject_is_made(ada: Person) -> None:
    before = Subject.objects.count()
    assert ask(Client(), "eve@example.org").status_code == 200
    assert mail.outbox == []
    assert Subject.objects.count() == before
    ask(Client(), f"  {ADA.upper()} ")
    assert [message.to for message in mail.outbox] == [[ADA]]


@pytest.mark.parametrize("wrong", ["", "ada", "+44 20 7946 0000", "ada@", "a" * 400 + "@example.org", "\x00"])
def test_what_is_no_address_is_said_to_be_none(db: None, wrong: str) -> None:
    response = Client().post("/me/ask", {"email": wrong})
    assert response.status_code == 422
    assert OutboxMessage.objects.count() == 0


def test_three_mails_an_hour_go_to_one_address_and_the_answer_does_not_change(ada: Person) -> None:
    pages = [plain(ask(Client(REMOTE_ADDR=f"203.0.{n}.9"), ADA).content) for n in range(5)]
    assert len(mail.outbox) == 3
    assert len(set(pages)) == 1
    PortalAsk.objects.update(at=timezone.now() - timedelta(hours=2))
    ask(Client(), ADA)
    assert len(mail.outbox) == 4


def test_one_network_may_ask_twenty_times_an_hour(db: None) -> None:
    codes = [
        Client(REMOTE_ADDR=f"203.0.113.{n}").post("/me/ask", {"email": f"e{n}@example.org"}).status_code
        for n in range(21)
    ]
    assert codes == [200] * 20 + [429]
    assert Client(REMOTE_ADDR="203.0.114.1").post("/me/ask", {"email": "e@example.org"}).status_code == 200


def test_the_link_opens_by_post_alone_and_once(ada: Person) -> None:
    ask(ada.browser, ADA)
    link = LINK.search(mail.outbox[0].body)[0]  # type: ignore[index]
    for _ in range(3):  # a mail scanner fetches it
        assert ada.browser.get(link).status_code == 200
    assert PortalSession.objects.count() == 0
    entered = ada.browser.post(link)
    assert (entered.status_code, entered["Location"]) == (303, "/me")
    cookie = entered.cookies[COOKIE]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Lax", "/me")
    assert ada.browser.get("/me").status_code == 200
    other = Client()
    assert other.get(link).status_code == 410
    assert other.post(link).status_code == 410
    assert PortalSession.objects.count() == 1


def test_the_link_dies_after_half_an_hour_and_tells_no_more_than_one_that_never_was(ada: Person) -> None:
    ask(ada.browser, ADA)
    link = LINK.search(mail.outbox[0].body)[0]  # type: ignore[index]
    assert PortalLink.objects.get().expires_at <= timezone.now() + timedelta(minutes=30)
    PortalLink.objects.update(expires_at=timezone.now())
    old, never = ada.browser.post(link), ada.browser.post("/me/in/" + "x" * 43)
    assert (old.status_code, never.status_code) == (410, 410)
    assert plain(old.content).replace(link.encode(), b"") == plain(never.content).replace(b"/me/in/" + b"x" * 43, b"")


def test_secrets_are_kept_as_hashes_only(ada: Person) -> None:
    ask(ada.browser, ADA)
    link = LINK.search(mail.outbox[0].body)[0].rsplit("/", 1)[1]  # type: ignore[index]
    ada.browser.post(f"/me/in/{link}")
    stored = str(list(PortalLink.objects.values())) + str(list(PortalSession.objects.values()))
    assert link not in stored
    assert ada.browser.cookies[COOKIE].value not in stored
    assert link not in str(list(OutboxMessage.objects.values()))
    assert "/me/in/" in __import__("webapp.observability", fromlist=["scrub"]).scrub(f"GET /me/in/{link} 410")
    assert link not in __import__("webapp.observability", fromlist=["scrub"]).scrub(f"GET /me/in/{link} 410")


@pytest.mark.parametrize(
    ("column", "age", "inside"),
    [
        ("seen_at", timedelta(minutes=59), True),
        ("seen_at", timedelta(minutes=61), False),
        ("created_at", timedelta(hours=11), True),
        ("created_at", timedelta(hours=13), False),
    ],
)
def test_a_session_ends_idle_and_at_the_latest_after_half_a_day(
    ada: Person, column: str, age: timedelta, inside: bool
) -> None:
    ada.enter()
    PortalSession.objects.update(**{column: timezone.now() - age})
    shown = ada.browser.get(f"/me/consents/{ada.consent.pk}")
    assert shown.status_code == (200 if inside else 303)
    portal_access.forget_old()
    assert PortalSession.objects.exists() is inside


def test_logging_out_ends_the_session_itself(ada: Person) -> None:
    ada.enter()
    secret = ada.browser.cookies[COOKIE].value
    assert ada.browser.post("/me/leave").status_code == 303
    thief = Client()
    thief.cookies[COOKIE] = secret
    assert thief.get("/me/notes").status_code == 303


def test_it_is_no_session_of_an_account_and_an_accounts_is_none_of_it(ada: Person, dan: Any) -> None:
    ada.enter()
    assert ada.browser.get("/new").status_code == 302
    assert b'name="email"' in dan.browser.get("/me").content
    assert dan.browser.get(f"/me/consents/{ada.consent.pk}").status_code == 303


def test_forms_of_another_site_do_nothing(ada: Person, stage: Any) -> None:
    ada.enter()
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = ada.browser.cookies
    assert strict.post("/me/hold", {"hold": "1"}).status_code == 403
    consent, token = stage_link(stage)
    assert strict.post(f"/c/{token}/portal", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert PortalSession.objects.filter(subject=consent.subject).count() == 0


def stage_link(stage: Any, **changes: Any) -> tuple[Any, str]:
    """A request that was answered with yes, and its link."""
    from consent import services

    source = stage.ready("source")
    consent, token = services.request_consent(
        **{
            "organisation_id": stage.studio.pk,
            "organisation_name": stage.studio.name,
            "requested_by": "Cleo",
            "role": "face_donor",
            "name": "Ada",
            "purposes": ["personal"],
            "photos": [services.PhotoRef(source.pk, source.sha256, 0)],
            "livemode": False,
            **changes,
        }
    )
    stage.agree(consent)
    return consent, token


def test_without_an_address_the_link_of_the_request_opens_all_there_is(stage: Any) -> None:
    consent, token = stage_link(stage)
    browser = Client()
    assert browser.post(f"/c/{token}/portal").status_code == 303
    assert consent.pk in browser.get("/me").content.decode()
    assert browser.get("/me/face").status_code == 200


def test_with_an_address_the_link_of_one_request_opens_that_one_alone(stage: Any, ada: Person) -> None:
    """The account that asked was given the same link: it must not learn what others asked this person."""
    consent, token = stage_link(stage, contact=ADA)
    assert consent.subject == ada.subject
    browser = Client()
    assert browser.post(f"/c/{token}/portal").status_code == 303
    shown = browser.get("/me").content.decode()
    assert consent.pk in shown
    assert ada.consent.pk not in shown
    assert browser.get(f"/me/consents/{ada.consent.pk}").status_code == 404
    for path in ("face", "limit", "erase"):
        assert browser.get(f"/me/{path}").status_code == 403, path
    for path in ("hold", "told", "limit", "erase"):
        assert browser.post(f"/me/{path}", {"hold": "1", "told": "1", "limit": "1", "sure": "1"}).status_code == 403, (
            path
        )


def test_a_link_of_a_request_that_is_not_known_opens_nothing(db: None) -> None:
    assert Client().post("/c/" + "x" * 43 + "/portal").status_code == 404
    assert PortalSession.objects.count() == 0
