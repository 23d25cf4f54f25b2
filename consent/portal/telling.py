"""Telling a person of each published use of their face, if they wish: one mail per publication, without any picture."""

from __future__ import annotations

from django.utils import timezone

from consent import mail
from consent.models import Consent, Use
from consent.portal.models import Wishes
from consent.portal.texts import portal_words
from consent.subjects import is_email
from consent.texts import fill, long_date


def tell_of_use(consent: Consent, job_id: str) -> None:
    """Write the mail to the outbox, inside the transaction that counts the use. Nothing for who did not ask for it."""
    wishes = Wishes.objects.filter(subject=consent.subject_id, told_of_uses=True).first()
    if wishes is None or not is_email(consent.subject.contact):
        return
    # Whoever is both in the source and in the target gave two consents to one job, and is told once.
    told = Use.objects.filter(job_id=job_id, state=Use.State.COUNTED, consent__subject=consent.subject_id)
    if told.exclude(consent=consent).exists():
        return
    text = portal_words(wishes.locale)["mail"]
    body = fill(
        text["use_body"].lstrip("\n"),
        organisation=consent.organisation_name,
        date=long_date(timezone.now(), wishes.locale),
        link=mail.portal(),
    )
    mail.post(consent.key_id, consent.pk, to=consent.subject.contact, subject=text["use_subject"], body=body)
