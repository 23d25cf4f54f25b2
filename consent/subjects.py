"""Who is asked: one subject per contact, found by a keyed hash; and the wish not to be asked again."""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction

from consent import keys
from consent.errors import ConsentError
from consent.models import Block, Consent, Subject, subject_id

BLOCKED_FOR = timedelta(days=90)  # after every no
BLOCKED_FOR_GOOD = timedelta(days=36525)  # after a no with the wish never to be asked again
# Requests to one contact that were not answered with a yes, per day: by one organisation, and by all together.
UNGIVEN_PER_DAY = 5
UNGIVEN_PER_DAY_BY_ALL = 20

_TELEPHONE = re.compile(r"\+?\d{6,15}")


def plain_contact(contact: str) -> str:
    """One spelling per contact: a lower-case e-mail address, or a telephone number without blanks; "" for none.

    Raises ConsentError `contact_invalid` for anything else.
    """
    text = unicodedata.normalize("NFKC", contact).strip()
    if not text:
        return ""
    if is_email(text):
        return text.lower()
    digits = re.sub(r"[\s().\-/]", "", text)
    if _TELEPHONE.fullmatch(digits):
        return digits
    raise ConsentError(
        "contact_invalid",
        "The contact is neither an e-mail address nor a telephone number. Nobody was asked; correct it, or leave it "
        "empty and hand over the link yourself.",
        fields={"contact": "contact_invalid"},
    )


def is_email(contact: str) -> bool:
    """Can a mail be sent there?"""
    try:
        validate_email(contact)
    except ValidationError:
        return False
    return True


def subject_for(contact: str) -> Subject:
    """The subject of a contact (in one spelling), made if new; without a contact always a new one."""
    known = contact_hmac(contact) if contact else None
    if known and (found := Subject.objects.filter(contact_hmac=known).first()):
        return found
    subject = Subject(id=subject_id(), contact_hmac=known)
    subject.key_id = keys.create_key(f"subject:{subject.id}")
    if contact:
        subject.contact_sealed = subject.seal("contact", contact)
    try:
        with transaction.atomic():
            subject.save(force_insert=True)
    except IntegrityError:
        return Subject.objects.get(contact_hmac=known)  # another request for the same person was faster
    return subject


def known_subject(contact: str) -> Subject | None:
    """The subject of a contact (in one spelling), if there is one that was not erased; never makes one."""
    return Subject.objects.filter(contact_hmac=contact_hmac(contact), erased_at__isnull=True).first()


def contact_hmac(contact: str) -> str:
    """The keyed hash by which the person of a contact, in one spelling, is found again."""
    return _keyed("contact", contact)


def check_may_ask(consent: Consent, now: datetime) -> None:
    """Raises ConsentError if this person does not want to be asked, or was asked too often today.

    The caller holds the subject's row, so that two requests cannot both be the last allowed one.
    """
    if Block.objects.filter(key_hmac__in=_block_keys(consent), until__gt=now).exists():
        raise ConsentError(
            "asking_blocked",
            "This person said no not long ago, or does not want to be asked. Nobody was asked and nothing was made.",
            status=409,
        )
    recent = Consent.objects.filter(
        subject=consent.subject, given_at__isnull=True, created_at__gt=now - timedelta(days=1)
    )
    own = recent.filter(organisation_id=consent.organisation_id).count()
    if own >= UNGIVEN_PER_DAY or recent.count() >= UNGIVEN_PER_DAY_BY_ALL:
        raise ConsentError(
            "asked_too_often",
            "This person was asked several times today already. Nobody was asked now; wait for an answer.",
            status=429,
        )


def block_asking(consent: Consent, now: datetime, *, for_good: bool = False) -> None:
    """The organisation may not ask this contact, nor anybody for these same pictures, for 90 days (or ever)."""
    until = now + (BLOCKED_FOR_GOOD if for_good else BLOCKED_FOR)
    Block.objects.bulk_create(Block(key_hmac=key, until=until) for key in _block_keys(consent))


def _block_keys(consent: Consent) -> list[str]:
    """One organisation's blocks are its own: they tell another nothing, and nobody can be shut out by a third."""
    organisation = consent.organisation_id
    found: list[Iterable[str]] = []
    if consent.subject.contact_hmac:
        found.append((organisation, "contact", consent.subject.contact_hmac))
    found.extend((organisation, consent.role, sha256) for sha256 in consent.photo_sha256s)
    if consent.role == Consent.Role.TARGET_PERSON:
        found.extend((organisation, consent.role, each["sha256"], str(each["face"])) for each in consent.targets)
    return [_keyed("block", "|".join(parts)) for parts in found]


def _keyed(purpose: str, text: str) -> str:
    return hmac.new(keys.subkey(purpose), text.encode(), hashlib.sha256).hexdigest()
