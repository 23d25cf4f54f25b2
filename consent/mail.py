"""The mail with the link. Name, address and token wait in the outbox sealed under the person's key, not in plain."""

from __future__ import annotations

import base64
import json
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage

from consent import keys
from consent.models import Consent
from consent.subjects import is_email
from consent.texts import camera_words, fill, long_date, words
from webapp.outbox.services import enqueue

TOPIC = "consent_mail"


def send_link(consent: Consent, token: str) -> None:
    """Write the mail to the outbox, inside the transaction of the request."""
    text = words(consent.locale)["mail"]
    body = fill(
        text["body"].lstrip("\n"),
        name=consent.name,
        asker=consent.requested_by_name,
        organisation=consent.organisation_name,
        link=link(token),
        until=long_date(consent.link_expires_at, consent.locale),
    )
    post(consent.key_id, consent.id, to=consent.subject.contact, subject=text["subject"], body=body)


def send_decision(consent: Consent, *, agreed: bool) -> None:
    """Tell the person what a reviewer decided about their video, if they can be written to; without the link, which
    only they have."""
    if not is_email(consent.subject.contact):
        return
    text = camera_words(consent.locale)["mail"]
    body = fill(
        text["passed" if agreed else "failed"].lstrip("\n"), name=consent.name, organisation=consent.organisation_name
    )
    post(consent.key_id, consent.id, to=consent.subject.contact, subject=text["subject"], body=body)


def post(key_id: str, about: str, *, to: str, subject: str, body: str) -> None:
    """Write one mail to the outbox, sealed under the person's key; `about` is the id of what it speaks of."""
    sealed = keys.encrypt(key_id, _place(about), json.dumps({"to": to, "subject": subject, "body": body}).encode())
    enqueue(TOPIC, {"consent": about, "key": key_id, "sealed": base64.b64encode(sealed).decode()})


def link(token: str) -> str:
    """The address of the person's page."""
    return f"{settings.PUBLIC_URL}/c/{token}"


def portal() -> str:
    """The address of the person's portal."""
    return f"{settings.PUBLIC_URL}/me"


def deliver(payload: dict[str, Any]) -> None:
    """The outbox hands over one mail. To somebody erased meanwhile nothing is sent."""
    try:
        plain = keys.decrypt(payload["key"], _place(payload["consent"]), base64.b64decode(payload["sealed"]))
    except keys.KeyDestroyedError:
        return
    message = json.loads(plain)
    EmailMessage(subject=message["subject"], body=message["body"], to=[message["to"]]).send()


def _place(consent_id: str) -> bytes:
    return f"outbox|{consent_id}|mail|1".encode()
