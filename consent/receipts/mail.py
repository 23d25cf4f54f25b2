"""The mail with the receipt. The outbox holds only which one; address, link and files are put together on delivery."""

from __future__ import annotations

from typing import Any

from django.core.mail import EmailMessage
from django.utils import timezone

from consent import keys
from consent.models import Consent
from consent.receipts.files import pdf_of
from consent.receipts.services import MAIL_TOPIC as TOPIC
from consent.receipts.services import body_of, receipt_row, withdraw_link
from consent.texts import fill, words

__all__ = ["TOPIC", "deliver"]


def deliver(payload: dict[str, Any]) -> None:
    """The outbox hands over one mail. To somebody erased meanwhile nothing is sent."""
    consent = Consent.objects.select_related("subject").filter(pk=payload["consent"]).first()
    row = receipt_row(consent) if consent is not None else None
    if consent is None or row is None:
        return
    try:
        signed, to = row.jws, consent.subject.contact
        text = words(consent.locale)["receipt_mail"]
        message = EmailMessage(
            subject=text["subject"],
            body=fill(
                text["body"].lstrip("\n"),
                organisation=consent.organisation_name,
                link=withdraw_link(body_of(signed)).removesuffix("/withdraw"),
            ),
            to=[to],
        )
        message.attach("receipt.pdf", pdf_of(consent, row, consent.locale, now=timezone.now()), "application/pdf")
    except keys.KeyDestroyedError:
        return
    message.attach("receipt.jwt", signed, "application/jwt")
    message.send()
