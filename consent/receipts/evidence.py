"""The evidence pack: everything about one consent, to read and to check, in one ZIP.

Equal content gives equal bytes but for the date it was made. It holds the house's copy of the receipt, whose link is a
hash only: who is handed the pack cannot withdraw in the person's name.
"""

from __future__ import annotations

import base64
import io
import json
import zipfile
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction

from consent import ledger
from consent.ledger import house
from consent.ledger.entries import open_entry
from consent.models import Consent, Event
from consent.receipts import services as receipts
from consent.receipts.body import iso, scope_of
from consent.receipts.check import ATTACHED_AS
from consent.receipts.pdf import Pages, attach
from consent.texts import long_date
from consent.transitions import lock

FORMAT = "imprimatur-evidence/1"

README = """EVIDENCE OF ONE PERMISSION
Record {consent}, made {made} by {house}.

chronicle.pdf    to read: who was asked what in which words, what was ticked, what happened since
record.json      the same for machines
proofs.json      for each event: its entry in the public log, what that entry commits to, and its path to the root
checkpoint.txt   the signed state of the log that the paths lead to (C2SP signed note)
jwks.json        the public keys of receipts and of the log, as published at {house}/.well-known/jwks.json
log-keys.txt     the log's public keys in the form in which C2SP tools want them
{receipt}
To check it, without database or network:

    manage.py receipt evidence FILE.zip
{check}
Both use the keys in this pack. Whoever does not trust the pack gets jwks.json from the address above (or from somebody
who kept it) and adds --jwks FILE. `manage.py ledger verify` checks an export of the whole log, of which these entries
are a part.

Times are UTC. This pack holds personal data of the person who was asked.
"""
RECEIPT_LINE = "receipt.jwt      the signed receipt (compact JWS, EdDSA), without the person's own link\n"
CHECK_LINE = "    manage.py receipt check receipt.jwt --jwks jwks.json\n"


def evidence_pack(consent: Consent, *, at: datetime) -> bytes:
    """The pack as a ZIP. Raises keys.KeyDestroyedError after erasure, ledger.LedgerError while the log is empty."""
    with transaction.atomic():
        # Held meanwhile, so that no event comes between the record and its proofs.
        consent = lock(consent.pk)
        record, proofs = record_of(consent, at=at), proofs_of(consent)
        signed = receipts.house_receipt_of(consent)
    files = {
        "README.txt": README.format(
            consent=consent.pk,
            made=f"{at:%Y-%m-%d %H:%M} UTC",
            house=settings.PUBLIC_URL,
            receipt=RECEIPT_LINE if signed else "",
            check=CHECK_LINE if signed else "",
        ).encode(),
        "chronicle.pdf": chronicle(record, proofs, signed),
        "record.json": _json(record),
        "proofs.json": _json(proofs),
        "checkpoint.txt": ledger.checkpoint().encode(),
        "jwks.json": _json(receipts.jwks()),
        "log-keys.txt": "".join(f"{each.text}\n" for each in house.verifiers()).encode(),
    }
    if signed:
        files["receipt.jwt"] = signed.encode()
    return _zip(files, at)


def record_of(consent: Consent, *, at: datetime) -> dict[str, Any]:
    """Everything the house knows about one consent, in plain. Raises keys.KeyDestroyedError after erasure."""
    return {
        "format": FORMAT,
        "made": iso(at),
        "house": settings.PUBLIC_URL,
        "consent": consent.pk,
        "subject": consent.subject_id,
        "state": consent.state,
        "livemode": consent.livemode,
        "assurance": consent.assurance,
        "asked": {
            "organisation": {"id": consent.organisation_id, "name": consent.organisation_name},
            "by": consent.requested_by_name,
            "name": consent.name,
            "contact": consent.subject.contact,
            "note": consent.note,
            "intended_use": consent.intended_use,
            "relationship": consent.relationship,
            "at": iso(consent.created_at),
        },
        "scope": scope_of(consent) if consent.valid_from else None,
        "notice": {
            "id": consent.notice_id,
            "version": consent.notice_version,
            "locale": consent.locale,
            "sha256": consent.notice_sha256,
            "text": consent.notice_text,
        },
        "answer": {
            "ticks": dict(sorted(consent.ticks.items())),
            "typed_name": consent.typed_name,
            "given_at": iso(consent.given_at) if consent.given_at else None,
            "evidence": dict(sorted(consent.evidence.items())),
        },
        "photos": consent.photos,
        "targets": consent.targets,
        "replaces": consent.supersedes_id,
        "receipt": getattr(receipts.receipt_row(consent), "pk", None),
        "events": [_event(event) for event in consent.events.order_by("id")],
        "uses": [
            {
                "job": use.job_id,
                "state": use.state,
                "seconds": use.seconds,
                "reserved_at": iso(use.created_at),
                "changed_at": iso(use.changed_at),
            }
            for use in consent.uses.order_by("created_at", "id")
        ],
    }


def proofs_of(consent: Consent) -> dict[str, Any]:
    """For each event its entry, opened, and its way to the root. Raises keys.KeyDestroyedError after erasure."""
    found: list[dict[str, Any]] = []
    waiting: list[int] = []
    for event in consent.events.select_related("ledger_entry").order_by("id"):
        entry = getattr(event, "ledger_entry", None)
        proof = ledger.proof(entry) if entry is not None else None
        if entry is None or proof is None:
            waiting.append(event.pk)
            continue
        opening = open_entry(entry)
        found.append(
            {
                "event": event.pk,
                "index": proof.index,
                "size": proof.size,
                "leaf": proof.leaf.decode(),
                "path": [step.hex() for step in proof.path],
                "salt": base64.urlsafe_b64encode(opening.salt).rstrip(b"=").decode(),
                "ref": opening.ref,
                "payload": opening.payload,
                "checkpoint": proof.checkpoint,
            }
        )
    return {"format": FORMAT, "consent": consent.pk, "proofs": found, "not_yet_in_the_log": waiting}


def chronicle(record: dict[str, Any], proofs: dict[str, Any], signed: str | None) -> bytes:
    """The record as pages to read."""
    asked, answer, notice = record["asked"], record["answer"], record["notice"]
    title = f"Evidence of permission {record['consent']}"
    pages = Pages(
        title=title, footer=f"{record['consent']} · {record['made'][:16].replace('T', ' ')} UTC", language="en"
    )
    pages.heading("Evidence of one permission")
    pages.paragraph(
        f"Made {long_date(datetime.fromisoformat(record['made']), 'en')} by {record['house']}. "
        "It holds personal data of the person who was asked.",
        small=True,
    )
    pages.title("Who was asked, by whom")
    pages.rows(
        [
            ("Record", record["consent"]),
            ("State when this was made", record["state"]),
            ("Person asked", f"{asked['name']}\n{asked['contact'] or 'no contact: the link was handed over'}"),
            ("Asked by", f"{asked['by']}, {asked['organisation']['name']}\n{asked['organisation']['id']}"),
            ("Asked at", _time(asked["at"])),
            ("Their message", asked["note"] or "none"),
            ("What the results are for", asked["intended_use"] or "not said"),
            ("Relationship, as they say", asked["relationship"] or "not said"),
            ("Mode", "live" if record["livemode"] else "test"),
        ]
    )
    pages.title("What was allowed")
    pages.rows([(_words(name), _value(value)) for name, value in (record["scope"] or {}).items()])
    if not record["scope"]:
        pages.paragraph("Nothing: no permission was given.")
    pages.title("What was answered")
    pages.rows(
        [
            ("Given at", _time(answer["given_at"]) if answer["given_at"] else "never"),
            ("Name typed as signature", answer["typed_name"] or "none"),
            (
                "Ticks",
                "\n".join(f"[{'x' if ticked else ' '}] {name}" for name, ticked in answer["ticks"].items()) or "-",
            ),
            ("Level of assurance", record["assurance"]),
            *((_words(name), in_lines(value)) for name, value in answer["evidence"].items()),
        ]
    )
    pages.title("In which words")
    pages.rows(
        [
            ("Text", f"{notice['id']}, version {notice['version']}, language {notice['locale']}"),
            ("SHA-256", notice["sha256"]),
        ],
        code=True,
    )
    pages.paragraph(notice["text"] or "The text as shown is kept only for a permission that was given.")
    pages.title("What happened")
    places = {proof["event"]: f"log entry {proof['index']}" for proof in proofs["proofs"]}
    pages.rows(
        (
            _time(event["at"]),
            f"{event['type']}{' (' + event['code'] + ')' if event['code'] else ''}: state {event['state']}; "
            f"{places.get(event['id'], 'not yet in the log')}",
        )
        for event in record["events"]
    )
    pages.title("How it was used")
    pages.rows((_time(use["changed_at"]), f"{use['job']}: {use['state']}") for use in record["uses"])
    if not record["uses"]:
        pages.paragraph("It was never used.")
    pages.title("How to check this")
    pages.paragraph(
        "The pack this came in holds each event's entry in the public log with its proof, the signed receipt and the "
        "public keys. README.txt says how to check them without this house."
    )
    pdf = pages.pdf()
    return attach(pdf, [(ATTACHED_AS, signed.encode())]) if signed else pdf


def _event(event: Event) -> dict[str, Any]:
    return {
        "id": event.pk,
        "at": iso(event.at),
        "type": event.type,
        "state": event.state,
        "code": event.code,
        "data": event.data,
    }


def _time(text: str) -> str:
    return f"{text[:10]} {text[11:19]} UTC"


def in_lines(value: Any) -> str:
    """A value of the evidence as text: of several named ones, one a line."""
    if isinstance(value, dict):
        return "\n".join(f"{_words(name).lower()}: {each}" for name, each in value.items())
    return str(value)


def _words(name: str) -> str:
    """`imp:maxOutputs` and `browser_hmac` as a reader expects them."""
    plain = name.removeprefix("imp:")
    spaced = "".join(f" {char.lower()}" if char.isupper() else char for char in plain).replace("_", " ")
    return spaced[:1].upper() + spaced[1:]


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "no limit"
    if isinstance(value, list):
        return "\n".join(_value(each) for each in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{_words(name).lower()} {_value(each)}" for name, each in value.items())
    return str(value)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n"


def _zip(files: dict[str, bytes], at: datetime) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name, (at.year, at.month, at.day, at.hour, at.minute, at.second // 2 * 2))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)
    return target.getvalue()
