"""Everything about a person as a ZIP file (GDPR 15 and 20): JSON-LD, receipts, proofs, and a page that explains them.

Made of the person's own rows only, one entry at a time, so that it needs no room. Other people of a job, the account's
files and their names are not in it.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.utils import timezone

from consent.keys import KeyDestroyedError
from consent.models import Consent
from consent.portal import joins as portal_joins
from consent.portal import services as portal
from consent.portal.models import PortalSession
from webapp.pages.portal_works import Work, works_of
from webapp.screening.listed import ListedFace

CONTEXT = {
    "dct": "http://purl.org/dc/terms/",
    "dpv": "https://w3id.org/dpv#",
    "imp": "urn:imprimatur:terms:1:",
    "dct:created": {"@type": "http://www.w3.org/2001/XMLSchema#dateTime"},
    "dct:issued": {"@type": "http://www.w3.org/2001/XMLSchema#dateTime"},
}
README = """Your data at {house}, as of {now}.

person.jsonld        who you are here: your address, your wishes, your entries in the list "never my face"
consents/ID.jsonld   each question to you: scope, state, the words you agreed to, every event
works/ID.jsonld      what was made with each permission, and where its public page is
notes.jsonld         what you wrote to the operator, and the answers
receipts/ID.jwt      your receipts: signed, and to be checked with {house}/.well-known/jwks.json
proofs/ID.json       proofs that the events are in the log ({house}/log/checkpoint), as RFC 9162 describes

The files are JSON-LD in terms of the Data Privacy Vocabulary (https://w3id.org/dpv). Folders that would be empty are
left out. Pictures are not in here: results can be looked at in the portal as long as they are kept. Of your face no
description is given out: one is kept only if you are on the list "never my face", encrypted, and is good for nothing
else. Nothing in here is about anybody else than you and the organisations that asked you.
"""


def archive(session: PortalSession) -> Iterator[bytes]:
    """The ZIP file in pieces, one or more for each of its entries."""
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in _entries(session):
            with file.open(_stamped(name), "w") as entry:
                entry.write(content)
            if made := pipe.taken():
                yield made
    yield pipe.taken()


def _entries(session: PortalSession) -> Iterator[tuple[str, bytes]]:
    now = timezone.now()
    yield "README.txt", README.format(house=settings.PUBLIC_URL, now=f"{now:%Y-%m-%d %H:%M} UTC").encode()
    yield "person.jsonld", _json(_person(session))
    consents = list(portal.consents_of(session))
    works = works_of(consents)
    for consent in consents:
        yield f"consents/{consent.pk}.jsonld", _json(_record(consent))
        if works[consent.pk]:
            yield f"works/{consent.pk}.jsonld", _json(_works(works[consent.pk]))
        if (receipt := portal_joins.receipt_of(consent)) is not None:
            yield f"receipts/{consent.pk}.jwt", receipt.encode()
        proofs = [proof for event in consent.events.all() if (proof := portal_joins.proof_of(event)) is not None]
        if proofs:
            yield f"proofs/{consent.pk}.json", _json(proofs)
    notes = list(portal.notes_of(session))
    if notes:
        yield (
            "notes.jsonld",
            _json(
                {
                    "@context": CONTEXT,
                    "@graph": [
                        {
                            "dct:identifier": note.pk,
                            "imp:kind": note.kind,
                            "imp:about": note.consent_id,
                            "dct:created": note.created_at.isoformat(),
                            "imp:text": note.text,
                            "imp:answer": note.answer or None,
                        }
                        for note in notes
                    ],
                }
            ),
        )


def _person(session: PortalSession) -> dict[str, Any]:
    subject = session.subject
    wishes = portal.wishes_of(subject)
    person: dict[str, Any] = {
        "@context": CONTEXT,
        "@id": f"urn:imprimatur:subject:{subject.pk}",
        "@type": "dpv:DataSubject",
        "dct:created": subject.created_at.isoformat(),
    }
    if not session.whole:
        return person  # by the link of one request, which somebody else was given as well
    return person | {
        "imp:contact": subject.contact or None,
        "imp:restrictedSince": wishes.restricted_at.isoformat() if wishes.restricted_at else None,
        "imp:biometricsLimitedSince": wishes.limited_at.isoformat() if wishes.limited_at else None,
        "imp:toldOfUses": wishes.told_of_uses,
        "imp:neverMyFace": [
            {
                "dct:identifier": entry.pk,
                "imp:state": entry.state,
                "dct:created": entry.created_at.isoformat(),
                "imp:noticeSha256": entry.notice_sha256,
            }
            for entry in ListedFace.objects.filter(subject=subject).order_by("created_at")
        ],
    }


def _record(consent: Consent) -> dict[str, Any]:
    """One question and its answer. What can no longer be opened is said to be erased."""
    return {
        "@context": CONTEXT,
        "@id": f"urn:imprimatur:consent:{consent.pk}",
        "@type": "dpv:ConsentRecord",
        "dct:identifier": consent.pk,
        "dpv:hasDataSubject": f"urn:imprimatur:subject:{consent.subject_id}",
        "dpv:hasDataController": {
            "@id": f"urn:imprimatur:organisation:{consent.organisation_id}",
            "imp:name": consent.organisation_name,
            "imp:askedBy": _opened(consent, "requested_by"),
        },
        "dpv:hasConsentStatus": consent.state,
        "imp:role": consent.role,
        "dpv:hasPurpose": list(consent.purposes),
        "imp:photos": [photo["sha256"] for photo in consent.photos],
        "imp:targets": [target["sha256"] for target in consent.targets],
        "imp:intendedUse": _opened(consent, "intended_use"),
        "imp:relationship": consent.relationship or None,
        "imp:partners": list(consent.partners),
        "imp:territories": list(consent.territories),
        "imp:maxOutputs": consent.max_outputs,
        "imp:maxSeconds": consent.max_seconds,
        "imp:maxTotalSeconds": consent.max_total_seconds,
        "imp:noSexual": consent.no_sexual,
        "imp:noPolitical": consent.no_political,
        "imp:validFrom": consent.valid_from.isoformat() if consent.valid_from else None,
        "imp:validUntil": consent.valid_until.isoformat(),
        "imp:assurance": consent.assurance,
        "imp:livemode": consent.livemode,
        "imp:name": _opened(consent, "name"),
        "imp:message": _opened(consent, "note"),
        "imp:signedBy": _opened(consent, "typed_name"),
        "imp:ticks": dict(consent.ticks),
        "imp:evidence": dict(consent.evidence),
        "dpv:hasNotice": {
            "dct:identifier": consent.notice_id,
            "dct:hasVersion": consent.notice_version,
            "dct:language": consent.locale,
            "imp:sha256": consent.notice_sha256,
            "imp:text": _opened(consent, "notice_text"),
        },
        "dct:created": consent.created_at.isoformat(),
        "imp:events": [
            {
                "imp:type": event.type,
                "imp:state": event.state,
                "imp:code": event.code or None,
                "at": event.at.isoformat(),
            }
            for event in consent.events.all()
        ],
    }


def _works(works: list[Work]) -> dict[str, Any]:
    return {"@context": CONTEXT, "@graph": [work.to_json() for work in works]}


def _opened(consent: Consent, column: str) -> str | None:
    try:
        return consent.unseal(column) or None
    except KeyDestroyedError:
        return None


def _json(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode()


def _stamped(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, datetime.now(UTC).timetuple()[:6])
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o600 << 16
    return info


class _Pipe(io.RawIOBase):
    """What a ZIP file is written into: it cannot be sought in, and what was written can be taken away at any time."""

    def __init__(self) -> None:
        self._made = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._made += data
        return len(data)

    def taken(self) -> bytes:
        """What was written since the last call."""
        made = bytes(self._made)
        self._made.clear()
        return made
