"""The data categories of what is kept about depicted people (see `webapp.privacy`)."""

from __future__ import annotations

from consent.challenge.privacy import RECORDS as CHALLENGES
from consent.portal.privacy import RECORDS as PORTAL
from webapp.privacy import CONSENT, PROTECTION, REPLACEMENT, Category, Record

ID, T, C, N = Category.IDENTIFIER, Category.TECHNICAL, Category.CONTACT, Category.NAME
E, ORG, TEXT, DID = Category.EVIDENCE, Category.ORGANISATION, Category.TEXT, Category.BEHAVIOUR
LANGUAGE, NETWORK, CONTENT, SECRET = Category.LANGUAGE, Category.NETWORK, Category.CONTENT, Category.SECRET

RECORDS = {
    "consent.DataKey": Record(
        PROTECTION,
        "keys",
        {"id": ID, "owner": ID, "wrapped": SECRET, "master": T, "created_at": T, "destroyed_at": T},
    ),
    "consent.MasterKey": Record(PROTECTION, "keys", {"fingerprint": T, "uri": T, "sealed": SECRET, "created_at": T}),
    "consent.Erasure": Record(
        PROTECTION,
        "consent_events",
        {
            "id": ID,
            "subject": ID,
            "by": E,
            "state": E,
            "begun_at": E,
            "tried_at": T,
            "finished_at": E,
            "report": E,
        },
        on_erasure="is the record of it",
    ),
    "consent.Subject": Record(
        CONSENT,
        "consent_record",
        {
            "id": ID,
            "key_id": ID,
            "contact_hmac": C,  # a keyed hash is still the contact to whoever holds the key
            "contact_sealed": C,
            "created_at": T,
            "erased_at": T,
        },
        on_erasure="contact and its hash are removed, the key is destroyed; the random id stays",
    ),
    "consent.Consent": Record(
        CONSENT,
        "consent_record",
        {
            "id": ID,
            "key_id": ID,
            "organisation_id": ORG,
            "subject": ID,
            "state": E,
            "role": E,
            "livemode": T,
            "assurance_asked": E,
            "assurance": E,
            "draft_sealed": TEXT,  # the answered form while its check is under way
            "answered_at": DID,
            "supersedes": ID,
            "purposes": E,
            "photos": CONTENT,  # ids and SHA-256s of the pictures, never the pictures
            "targets": CONTENT,  # likewise
            "max_outputs": E,
            "max_seconds": E,
            "max_total_seconds": E,
            "partners": ORG,
            "territories": E,
            "relationship": E,
            "intended_use_sealed": TEXT,
            "no_sexual": E,
            "no_political": E,
            "valid_from": E,
            "valid_until": E,
            "organisation_name": ORG,
            "requested_by_sealed": N,
            "name_sealed": N,
            "note_sealed": TEXT,
            "token_sha256": Category.CREDENTIAL,
            "link_expires_at": T,
            "locale": LANGUAGE,
            "notice_id": E,
            "notice_version": E,
            "notice_sha256": E,
            "notice_text_sealed": TEXT,
            "typed_name_sealed": N,
            "ticks": E,
            "evidence": NETWORK,
            "created_at": E,
            "viewed_at": DID,
            "given_at": E,
            "ended_at": E,
            "changed_at": T,
        },
        on_erasure="name, message, asker, network and link are removed; scope, dates and hashes stay as proof",
    ),
    "consent.Receipt": Record(
        CONSENT,
        "consent_record",
        {
            "id": ID,
            "key_id": ID,
            "consent": ID,
            "kid": T,
            "jws_sealed": E,
            "house_jws_sealed": E,
            "sha256": E,
            "token_sha256": Category.CREDENTIAL,
            "ledger_index": T,
            "issued_at": E,
        },
        on_erasure="both copies and the link are removed; number, hash and place in the log stay",
    ),
    "consent.ReceiptKey": Record(
        PROTECTION, "none", {"kid": T, "public": T, "key_id": ID, "created_at": T, "retired_at": T}
    ),
    "consent.Event": Record(
        CONSENT,
        "consent_events",
        {"id": T, "consent": ID, "at": E, "type": E, "state": E, "code": E, "data": E},
        on_erasure="kept: append-only, no personal data",
    ),
    "consent.Use": Record(
        CONSENT,
        "consent_events",
        {"id": T, "consent": ID, "job_id": ID, "state": E, "seconds": E, "created_at": E, "changed_at": T},
        on_erasure="kept: random ids",
    ),
    "consent.Block": Record(CONSENT, "blocks", {"id": T, "key_hmac": C, "until": T, "created_at": T}),
    "consent.Attestation": Record(
        REPLACEMENT,
        "declarations",
        {
            "id": ID,
            "key_id": ID,
            "organisation_id": ORG,
            "kind": E,
            "basis": E,
            "target_sha256": CONTENT,
            "statement_sealed": TEXT,
            "locale": LANGUAGE,
            "text_sha256": E,
            "text_version": E,
            "ticks": E,
            "made_by": ID,
            "at": E,
        },
    ),
    "consent.LedgerEntry": Record(
        CONSENT,
        "consent_events",
        {
            "id": T,
            "kind": E,
            "type": E,
            "at": E,
            "ref": ID,
            "source": ID,
            "event": ID,
            "key_id": ID,
            "opening_sealed": E,
            "ref_commit": E,
            "payload_commit": E,
            "row_commit": E,
            "seq": T,
            "leaf": E,
            "leaf_hash": E,
            "chain": E,
        },
        on_erasure="kept: its salt is under the destroyed key",
    ),
    "consent.LedgerTile": Record(CONSENT, "none", {"id": T, "level": T, "number": T, "hashes": E, "root": E}),
    "consent.LedgerCheckpoint": Record(CONSENT, "none", {"id": T, "size": T, "root": E, "note": T, "at": T}),
    "consent.LedgerLock": Record(CONSENT, "none", {"id": T}),
    "consent.AuditRecord": Record(
        PROTECTION,
        "audit",
        {
            "id": ID,
            "key_id": ID,
            "at": E,
            "actor_id": ID,
            "action": E,
            "subject_ref": ID,
            "reason_sealed": TEXT,
        },
    ),
}
RECORDS |= PORTAL | CHALLENGES
