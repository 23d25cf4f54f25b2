"""How a person is let into their portal: a one-time link by mail, or the link of one request; no password, no account.

Whether an address is known here is told to nobody: asking does the same work and gives the same answer either way, and
the look-up happens later, where the outbox is delivered.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
import secrets
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from consent import envelope, keys
from consent.errors import ConsentError
from consent.models import Consent
from consent.portal.models import PortalAsk, PortalLink, PortalSession
from consent.portal.texts import portal_words
from consent.subjects import is_email, known_subject, plain_contact
from consent.texts import fill, known_locale
from webapp.outbox.services import enqueue

TOPIC = "portal_ask"
LINK_MINUTES = 30
IDLE_MINUTES = 60
LONGEST_HOURS = 12  # a session ends then, however busy it is
TOKEN_LENGTH = 43
WINDOW = timedelta(hours=1)
MAILS_PER_CONTACT = 3
ASKS_PER_NETWORK = 20
TOUCH = timedelta(seconds=60)  # how often a session in use is written

_PURPOSE = "portal asks"
_PLACE = b"outbox|portal ask|1"


def ask_for_link(contact: str, *, ip: str, locale: str) -> None:
    """Have a link sent to `contact`, if a person with it is known here; says nothing about whether that is so.

    Of more than three asks for one address in an hour, the others send nothing, and the answer is still the same.
    Raises ConsentError: contact_invalid for what is no e-mail address, asked_too_often (429) for one network.
    """
    try:
        plain = plain_contact(contact[:254])
    except ConsentError:
        plain = ""
    if not is_email(plain):
        raise ConsentError(
            "contact_invalid",
            "This is not an e-mail address. Nothing was sent; correct it.",
            fields={"contact": "contact_invalid"},
        )
    with transaction.atomic():
        _count("network", _network(ip), ASKS_PER_NETWORK)
        wanted = {"to": plain, "send": _counted("contact", plain, MAILS_PER_CONTACT), "locale": known_locale(locale)}
        sealed = envelope.seal(keys.subkey(_PURPOSE), _PLACE, json.dumps(wanted).encode())
        enqueue(TOPIC, {"sealed": base64.b64encode(sealed).decode()})


def deliver_ask(payload: dict[str, Any]) -> None:
    """The outbox's side of `ask_for_link`: look the person up, and send them a link."""
    plain = envelope.unseal(keys.subkey(_PURPOSE), _PLACE, base64.b64decode(payload["sealed"]))
    wanted = json.loads(plain)
    subject = known_subject(wanted["to"]) if wanted["send"] else None
    if subject is None:
        return
    text = portal_words(wanted["locale"])["mail"]
    with transaction.atomic():  # a mail that could not be sent leaves no link
        token = secrets.token_urlsafe(32)
        PortalLink.objects.create(
            token_sha256=_hash(token), subject=subject, expires_at=timezone.now() + timedelta(minutes=LINK_MINUTES)
        )
        address = f"{settings.PUBLIC_URL}/me/in/{token}?lang={wanted['locale']}"
        body = fill(text["link_body"].lstrip("\n"), link=address, minutes=str(LINK_MINUTES))
        EmailMessage(subject=text["link_subject"], body=body, to=[wanted["to"]]).send()


def is_open(token: str) -> bool:
    """Would this one-time link let somebody in now? Changes nothing: mail scanners fetch links."""
    return _links(token).exists()


def enter(token: str, *, locale: str) -> str:
    """Use up a one-time link; returns the secret of the new session.

    Raises ConsentError `portal_link_unknown` (410) for one that is unknown, used or too old, without telling which.
    """
    with transaction.atomic():
        link = _links(token).select_related("subject").first()
        if link is None or not _links(token).update(used_at=timezone.now()):
            raise ConsentError(
                "portal_link_unknown",
                "This link was used, is too old or not known. Nothing was changed; ask for a new one.",
                status=410,
            )
        return _start(link.subject_id, None, locale)


def enter_by_request(consent: Consent, *, locale: str) -> str:
    """Let in whoever holds the link of one request: they see that request, and more only if it is all there is."""
    return _start(consent.subject_id, consent.pk, locale)


def session_of(secret: str) -> PortalSession | None:
    """The session behind a cookie, if it is still one: 60 minutes idle or 12 hours in all end it."""
    if len(secret) != TOKEN_LENGTH:
        return None
    now = timezone.now()
    session = (
        PortalSession.objects.select_related("subject")
        .filter(
            token_sha256=_hash(secret),
            seen_at__gt=now - timedelta(minutes=IDLE_MINUTES),
            created_at__gt=now - timedelta(hours=LONGEST_HOURS),
            subject__erased_at__isnull=True,
        )
        .first()
    )
    if session is not None and session.seen_at < now - TOUCH:
        PortalSession.objects.filter(pk=session.pk).update(seen_at=now)
    return session


def leave(session: PortalSession) -> None:
    """End one session."""
    PortalSession.objects.filter(pk=session.pk).delete()


def forget_old() -> int:
    """Delete links, sessions and counts whose time is over; how many. Run at any time, by anybody."""
    now = timezone.now()
    old = (
        PortalAsk.objects.filter(at__lt=now - timedelta(days=1)),
        PortalLink.objects.filter(expires_at__lt=now - timedelta(days=1)),
        PortalSession.objects.filter(seen_at__lt=now - timedelta(minutes=IDLE_MINUTES)),
        PortalSession.objects.filter(created_at__lt=now - timedelta(hours=LONGEST_HOURS)),
    )
    return sum(rows.delete()[0] for rows in old)


def _start(subject_id: str, consent_id: str | None, locale: str) -> str:
    secret = secrets.token_urlsafe(32)
    PortalSession.objects.create(
        token_sha256=_hash(secret),
        subject_id=subject_id,
        consent_id=consent_id,
        locale=known_locale(locale),
        seen_at=timezone.now(),
    )
    return secret


def _links(token: str) -> Any:
    return PortalLink.objects.filter(
        token_sha256=_hash(token),
        used_at__isnull=True,
        expires_at__gt=timezone.now(),
        subject__erased_at__isnull=True,
    )


def _count(kind: str, value: str, most: int) -> None:
    if not _counted(kind, value, most):
        raise ConsentError(
            "asked_too_often",
            "From your network there were too many tries in the last hour. Nothing was sent; wait an hour.",
            status=429,
        )


def _counted(kind: str, value: str, most: int) -> bool:
    """Count one more try; True if it is still within `most` an hour. Needs the database, as processes share it."""
    now = timezone.now()
    keyed = _keyed(kind, value)
    before = PortalAsk.objects.filter(key_hmac=keyed, at__gt=now - WINDOW).count()
    PortalAsk.objects.create(key_hmac=keyed, at=now)
    return before < most


def asks_of(contact: str) -> QuerySet[PortalAsk]:
    """The tries counted for one contact, in one spelling."""
    return PortalAsk.objects.filter(key_hmac=_keyed("contact", contact))


def _keyed(kind: str, value: str) -> str:
    return hmac.new(keys.subkey(_PURPOSE), f"{kind}|{value}".encode(), hashlib.sha256).hexdigest()


def _network(ip: str) -> str:
    """/24 or /48, as for the evidence of an answer; one bucket for what is no address."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return ""
    return str(ipaddress.ip_network(f"{address}/{24 if address.version == 4 else 48}", strict=False))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
