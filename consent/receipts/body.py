"""What a receipt says: ISO/IEC TS 27560 (header, processing, parties, events) in terms of the Data Privacy Vocabulary.

Of the person it holds opaque ids only; they know who they are. Terms that DPV lacks are `imp:`; the context is part of
the receipt, so that reading one needs no network (guide: https://w3id.org/dpv/guides/consent-27560).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from consent.models import Consent, Event

PROFILE = "https://w3id.org/dpv/schema/dpv-27560#"
TERMS = "urn:imprimatur:terms:1:"
SCHEMA_VERSION = "1"
# The limitation period after the permission ends (product requirement 1.8), after which the key is destroyed.
KEPT_AFTER_END = timedelta(days=3 * 365)

CONTEXT: dict[str, Any] = {
    "dct": "http://purl.org/dc/terms/",
    "dpv": "https://w3id.org/dpv#",
    "pd": "https://w3id.org/dpv/pd#",
    "eu-gdpr": "https://w3id.org/dpv/legal/eu/gdpr#",
    "schema": "https://schema.org/",
    "skos": "http://www.w3.org/2004/02/skos/core#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
    "imp": TERMS,
    "dct:created": {"@type": "xsd:dateTime"},
    "dct:date": {"@type": "xsd:dateTime"},
    "imp:validFrom": {"@type": "xsd:dateTime"},
    "imp:validUntil": {"@type": "xsd:dateTime"},
    "imp:retainedUntil": {"@type": "xsd:dateTime"},
}

_BROADER = {"advertising": "dpv:Advertising"}
_METHODS = ("dpv:Collect", "dpv:Analyse", "dpv:Match", "dpv:Alter", "dpv:Store", "dpv:Share", "dpv:Erase")
_DATA = ("pd:Picture", "pd:FacialPrint", "pd:Name", "pd:Contact")
# Columns of a scope that may be empty, and are then no limit.
_WIDER = {
    "max_total_seconds": "imp:maxTotalSeconds",
    "partners": "imp:partners",
    "territories": "imp:territories",
    "relationship": "imp:relationship",
}
_EVENT_STATUS = {
    "requested": "dpv:ConsentRequested",
    "given": "dpv:ConsentGiven",
    "refused": "dpv:ConsentRefused",
    "withdrawn": "dpv:ConsentWithdrawn",
    "revoked": "dpv:ConsentRevoked",
    "expired": "dpv:ConsentExpired",
}


def receipt_body(consent: Consent, *, receipt: str, at: datetime, copy: str, link: dict[str, str]) -> dict[str, Any]:
    """The JSON-LD of a receipt, without the proof from the log. `link` is where and how to withdraw."""
    return {
        "@context": CONTEXT,
        "@id": f"urn:imprimatur:receipt:{receipt}",
        "@type": "dpv:ConsentReceipt",
        "dct:identifier": receipt,
        "dct:conformsTo": [f"{PROFILE}receipt-record", f"{PROFILE}receipt-eu-gdpr"],
        "dct:created": iso(at),
        "dct:publisher": _house(),
        "imp:schemaVersion": SCHEMA_VERSION,
        "imp:copy": copy,
        "dpv:hasRecordOfActivity": _record(consent, link),
    }


def events_of(consent: Consent) -> list[dict[str, Any]]:
    """What happened to a consent, as 27560 has it: time, type and state of each event."""
    return [_event(event) for event in consent.events.order_by("id")]


def iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _record(consent: Consent, link: dict[str, str]) -> dict[str, Any]:
    organisation = {
        "@id": f"urn:imprimatur:organisation:{consent.organisation_id}",
        "@type": "dpv:DataController",
        "schema:name": consent.organisation_name,
    }
    record: dict[str, Any] = {
        # Header
        "@id": f"urn:imprimatur:consent:{consent.id}",
        "@type": "dpv:ConsentRecord",
        "dct:identifier": consent.id,
        "dct:conformsTo": [f"{PROFILE}record"],
        "dpv:hasDataSubject": {"@id": f"urn:imprimatur:subject:{consent.subject_id}", "@type": "dpv:DataSubject"},
        # Parties
        "dpv:hasDataController": [organisation],
        "dpv:hasDataProcessor": [_house()],
        "dpv:hasJurisdiction": list(settings.JURISDICTIONS),
        # Processing
        "dpv:hasProcess": _process(consent, organisation["@id"]),
        "dpv:hasNotice": {
            "@type": "dpv:ConsentNotice",
            "dct:identifier": consent.notice_id,
            "dct:hasVersion": consent.notice_version,
            "dct:language": consent.locale,
            "imp:sha256": consent.notice_sha256,
        },
        "dpv:hasLegalBasis": ["eu-gdpr:A6-1-a", "eu-gdpr:A9-2-a"],
        "imp:consentType": "dpv:ExplicitlyExpressedConsent",
        "dpv:hasConsentStatus": "dpv:ConsentGiven",
        "imp:assurance": consent.assurance,
        "imp:livemode": consent.livemode,
        "imp:ticks": dict(sorted(consent.ticks.items())),
        "dpv:hasConsentControl": {"@type": "dpv:WithdrawConsent", **link},
        # Events
        "imp:events": events_of(consent),
    }
    if consent.supersedes_id:
        record["dct:replaces"] = {"@id": f"urn:imprimatur:consent:{consent.supersedes_id}"}
    return record


def _process(consent: Consent, organisation: str) -> dict[str, Any]:
    return {
        "@type": "dpv:Process",
        "dpv:hasPurpose": [
            {"@id": f"imp:purpose-{purpose}", "@type": _BROADER.get(purpose, "dpv:Purpose")}
            for purpose in consent.purposes
        ],
        "dpv:hasPersonalData": list(_DATA),
        "imp:sensitive": True,
        "dpv:hasProcessing": list(_METHODS),
        "dpv:hasRecipient": [{"@id": organisation}, *({"schema:name": partner} for partner in consent.partners)],
        "dpv:hasStorageCondition": {
            "@type": "dpv:StorageCondition",
            "dpv:hasLocation": settings.PUBLIC_URL,
            "imp:inputHours": settings.INPUT_RETENTION_HOURS,
            "imp:outputDays": settings.OUTPUT_RETENTION_DAYS,
            "imp:retainedUntil": iso(consent.valid_until + KEPT_AFTER_END),
        },
        "imp:scope": scope_of(consent),
    }


def scope_of(consent: Consent) -> dict[str, Any]:
    """What exactly is allowed, in the terms of product requirement 1.3."""
    assert consent.valid_from is not None
    scope = {
        "imp:role": consent.role,
        "imp:purposes": list(consent.purposes),
        "imp:photos": consent.photo_sha256s,
        # The files and faces allowed, by hash: asset ids say nothing to the holder of a receipt.
        "imp:targets": [{"imp:sha256": target["sha256"], "imp:face": target["face"]} for target in consent.targets]
        or "any",
        "imp:maxOutputs": consent.max_outputs,
        "imp:maxSeconds": consent.max_seconds,
        "imp:sexual": not consent.no_sexual,
        "imp:political": not consent.no_political,
        "imp:training": False,
        "imp:validFrom": iso(consent.valid_from),
        "imp:validUntil": iso(consent.valid_until),
    }
    for column, term in _WIDER.items():
        if value := getattr(consent, column):
            scope[term] = value
    return scope


def _event(event: Event) -> dict[str, Any]:
    shown: dict[str, Any] = {"dct:date": iso(event.at), "imp:event": event.type, "imp:state": event.state}
    if event.type in _EVENT_STATUS:
        shown["dpv:hasConsentStatus"] = _EVENT_STATUS[event.type]
    return shown


def _house() -> dict[str, Any]:
    return {
        "@id": settings.PUBLIC_URL,
        "@type": "dpv:DataProcessor",
        "schema:name": urlsplit(settings.PUBLIC_URL).netloc,
        "schema:email": settings.DEFAULT_FROM_EMAIL,
    }
