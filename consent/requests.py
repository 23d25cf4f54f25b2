"""Asking a person, and finding the request again by the link they were given."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from consent import mail, territories
from consent.errors import ConsentError
from consent.levels import level_to_ask
from consent.models import Consent, Subject, consent_id
from consent.names import is_name
from consent.policy import PURPOSES, ROLES
from consent.scope import scope_digest
from consent.subjects import check_may_ask, is_email, plain_contact, subject_for
from consent.texts import consent_text, known_locale
from consent.transitions import record

MAX_DAYS = 365
MAX_OUTPUTS = 100
MAX_PHOTOS = 10
MAX_TARGETS = 10
MAX_PARTNERS = 10
MAX_SECONDS = 24 * 3600.0
LONGEST_NOTE = 500

_SHA256 = re.compile(r"[0-9a-f]{64}")
_OPEN = (Consent.State.REQUESTED, Consent.State.VIEWED)


@dataclass(frozen=True)
class PhotoRef:
    """A source photo, and which face of its analysis is the donor's."""

    asset_id: str
    sha256: str
    face: int = 0


@dataclass(frozen=True)
class Scope:
    """What is asked for beyond who, what for, and how often; all of it narrows what may be made, or says more of it.

    `partners` are names of organisations that may get results too; `territories` ISO 3166-1 alpha-2 codes, none for
    everywhere. `political`: the person is offered a tick that allows it. `max_seconds` is of one result,
    `max_total_seconds` of all together.
    """

    partners: Sequence[str] = ()
    territories: Sequence[str] = ()
    intended_use: str = ""
    relationship: str = ""
    political: bool = False
    max_seconds: float | None = None
    max_total_seconds: float | None = None


@dataclass(frozen=True)
class TargetRef:
    """A target, and which face (photo) or track (video) of its analysis is to be replaced."""

    asset_id: str
    sha256: str
    face: int = 0


def request_consent(
    *,
    organisation_id: str,
    organisation_name: str,
    requested_by: str,
    role: str,
    name: str,
    contact: str = "",
    locale: str = "en",
    purposes: Sequence[str],
    photos: Sequence[PhotoRef] = (),
    target: TargetRef | None = None,
    targets: Sequence[TargetRef] = (),
    max_outputs: int = 1,
    days: int = 90,
    livemode: bool,
    note: str = "",
    replaces: str = "",
    scope: Scope | None = None,
    assurance: str = "",
) -> tuple[Consent, str]:
    """Ask one person for one role; returns the record and the link's token, which is shown here once and never again.

    A mail with the link goes out if the contact is an e-mail address. `days` counts from now and is when the
    permission ends, not the link (that is open for settings.CONSENT_LINK_DAYS). `replaces` names an earlier consent of
    the same person to the same organisation, which gives way (`superseded`) once this one is given. `target` is the
    short form of one in `targets`. `assurance` asks for a higher level than the uses need (consent.levels).

    Raises ConsentError: request_invalid (with `fields`), contact_invalid, asking_blocked, asked_too_often,
    assurance_unknown, assurance_not_installed, assurance_too_low.
    """
    contact = plain_contact(contact or "")
    # Whoever asks twice for one purpose asks once.
    purposes = [purpose for purpose in PURPOSES if purpose in purposes] + sorted(set(purposes) - set(PURPOSES))
    wrong = _wrong_texts(organisation_name=organisation_name, requested_by=requested_by, name=name, note=note)
    targets = [*([target] if target is not None else []), *targets]
    scope = scope or Scope()
    wrong |= _wrong_scope(role, purposes, photos, targets) | _wrong_limits(scope)
    if not 1 <= max_outputs <= MAX_OUTPUTS:
        wrong["max_outputs"] = "out_of_range"
    if not 1 <= days <= MAX_DAYS:
        wrong["days"] = "out_of_range"
    if wrong:
        raise ConsentError(
            "request_invalid",
            f"The request is not complete or not allowed ({', '.join(wrong)}). Nobody was asked; correct it.",
            fields=wrong,
        )
    asked = level_to_ask(assurance, purposes, settings.PROFILE)
    token = secrets.token_urlsafe(32)
    with transaction.atomic():
        subject = _held(contact)
        now = timezone.now()
        consent = Consent(
            id=consent_id(),
            organisation_id=organisation_id,
            organisation_name=organisation_name.strip(),
            subject=subject,
            key_id=subject.key_id,
            role=role,
            livemode=livemode,
            assurance_asked=asked,
            purposes=purposes,
            photos=[asdict(photo) for photo in photos],
            targets=[asdict(each) for each in targets],
            max_seconds=scope.max_seconds,
            max_total_seconds=scope.max_total_seconds,
            partners=list(dict.fromkeys(" ".join(each.split()) for each in scope.partners)),
            territories=sorted(set(scope.territories)),
            relationship=scope.relationship,
            no_political=not scope.political,
            max_outputs=max_outputs,
            valid_until=now + timedelta(days=days),
            token_sha256=_hash(token),
            link_expires_at=now + timedelta(days=settings.CONSENT_LINK_DAYS),
            locale=known_locale(locale),
        )
        if replaces:
            consent.supersedes = _replaced(consent, replaces)
        check_may_ask(consent, now)
        for column, text in (
            ("name", name),
            ("requested_by", requested_by),
            ("note", note),
            ("intended_use", scope.intended_use),
        ):
            setattr(consent, f"{column}_sealed", consent.seal(column, text.strip()))
        notice = consent_text(consent, consent.locale)
        consent.notice_id, consent.notice_version, consent.notice_sha256 = notice.id, notice.version, notice.sha256
        consent.save(force_insert=True)
        record(
            consent,
            "requested",
            data={
                "purposes": purposes,
                "photos": consent.photo_sha256s,
                "targets": [[each.sha256, each.face] for each in targets],
                "days": days,
                "max_outputs": max_outputs,
                "scope": scope_digest(consent, answered=False),
                "territories": consent.territories,
                "political": scope.political,
                "assurance_asked": asked,
            },
        )
        if is_email(contact):
            mail.send_link(consent, token)
    return consent, token


def find_by_token(token: str) -> Consent:
    """The request behind a link, their first one or the receipt's. It works after the answer too: to see and withdraw.

    Raises ConsentError `link_unknown` (404), or `link_expired` (410) for a request not answered in time.
    """
    sha256 = _hash(token)
    known = Consent.objects.select_related("subject")
    consent = known.filter(token_sha256=sha256).first() or known.filter(receipt__token_sha256=sha256).first()
    # The look-up is by hash, so its timing tells nothing about the token; the comparison guards against a collation.
    if consent is None or sha256 not in _hashes(consent):
        raise ConsentError("link_unknown", "This link is not known. Open it again from the message.", status=404)
    if consent.state in _OPEN and consent.link_expires_at <= timezone.now():
        raise ConsentError(
            "link_expired", "This question was not answered in time. Nothing was agreed; ask again.", status=410
        )
    return consent


def _hashes(consent: Consent) -> set[str]:
    """Of every link that leads to this record."""
    receipt = getattr(consent, "receipt", None)
    return {consent.token_sha256} | ({receipt.token_sha256} if receipt else set())


def _held(contact: str) -> Subject:
    """The person of a contact, held until the end of the transaction; never one who is being erased meanwhile."""
    while True:
        subject = Subject.objects.select_for_update().get(pk=subject_for(contact).pk)
        if subject.erased_at is None:
            return subject


def _replaced(consent: Consent, older_id: str) -> Consent:
    older = Consent.objects.filter(
        pk=older_id, organisation_id=consent.organisation_id, role=consent.role, subject=consent.subject_id
    ).first()
    if older is None:
        raise ConsentError(
            "request_invalid",
            "The consent to be replaced is not one of this person to your organisation. Nobody was asked; correct it.",
            fields={"replaces": "not_found"},
        )
    return older


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _wrong_texts(*, organisation_name: str, requested_by: str, name: str, note: str) -> dict[str, str]:
    wrong: dict[str, str] = {}
    for field, text, longest in (
        ("organisation_name", organisation_name, 120),
        ("requested_by", requested_by, 254),
        ("name", name, 120),
    ):
        if not is_name(text, longest=longest):
            wrong[field] = "text_invalid"
    if len(note) > LONGEST_NOTE:
        wrong["note"] = "text_too_long"
    return wrong


def _wrong_scope(
    role: str, purposes: Sequence[str], photos: Sequence[PhotoRef], targets: Sequence[TargetRef]
) -> dict[str, str]:
    wrong: dict[str, str] = {}
    if role not in ROLES:
        wrong["role"] = "role_unknown"
    if not purposes or not set(purposes) <= set(PURPOSES):
        wrong["purposes"] = "purposes_invalid"
    hashes = [photo.sha256 for photo in photos]
    if (
        len(hashes) > MAX_PHOTOS
        or len(set(hashes)) < len(hashes)
        or not all(_SHA256.fullmatch(each) for each in hashes)
        or any(photo.face < 0 for photo in photos)
    ):
        wrong["photos"] = "photos_invalid"
    if role == "face_donor" and not photos:
        wrong["photos"] = "photos_missing"
    if role == "target_person" and photos:
        wrong["photos"] = "photos_of_another"  # the donor's photos are the donor's business
    if not targets and role == "target_person":
        wrong["target"] = "target_missing"
    if (
        len(targets) > MAX_TARGETS
        or len({(each.sha256, each.face) for each in targets}) < len(targets)
        or any(not _SHA256.fullmatch(each.sha256) or each.face < 0 for each in targets)
    ):
        wrong["target"] = "target_invalid"
    return wrong


def _wrong_limits(scope: Scope) -> dict[str, str]:
    wrong: dict[str, str] = {}
    if len(scope.partners) > MAX_PARTNERS or not all(is_name(each, longest=120) for each in scope.partners):
        wrong["partners"] = "text_invalid"
    if not set(scope.territories) <= territories.codes():
        wrong["territories"] = "territory_unknown"
    if len(scope.intended_use) > LONGEST_NOTE:
        wrong["intended_use"] = "text_too_long"
    if scope.relationship not in ("", *Consent.Relationship.values):
        wrong["relationship"] = "relationship_unknown"
    for name in ("max_seconds", "max_total_seconds"):
        value = getattr(scope, name)
        if value is not None and not 0 < value <= MAX_SECONDS:
            wrong[name] = "out_of_range"
    return wrong
