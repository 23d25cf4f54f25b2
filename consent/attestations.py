"""What accounts declare: with every job, and in place of a replaced person's own consent."""

from __future__ import annotations

import re
from collections.abc import Mapping

from django.db import transaction
from django.utils import timezone

from consent import keys, ledger
from consent.errors import ConsentError
from consent.models import Attestation, attestation_id
from consent.texts import NoticeText, declaration_text, rights_bases, target_rights_text

LONGEST_STATEMENT = 2000
SHORTEST_STATEMENT = 20


def attest_declaration(
    *, organisation_id: str, made_by: str, ticks: Mapping[str, bool], locale: str = "en"
) -> Attestation:
    """Record an account's declaration; every box of `declaration_text` must be ticked.

    Raises ConsentError `declaration_incomplete` with the boxes that are missing.
    """
    return _attest(
        Attestation.Kind.DECLARATION,
        declaration_text(locale),
        organisation_id=organisation_id,
        made_by=made_by,
        ticks=ticks,
        missing={},
    )


def attest_target_rights(
    *,
    organisation_id: str,
    made_by: str,
    basis: str,
    statement: str,
    ticks: Mapping[str, bool],
    target_sha256: str,
    locale: str = "en",
) -> Attestation:
    """Record why a target may be used without asking the replaced person, in the account's own words.

    `basis` is one of `rights_bases`; the statement is stored sealed. It speaks of one file, by SHA-256. Raises
    ConsentError `declaration_incomplete` with the fields that are missing.
    """
    statement = statement.strip()
    missing: dict[str, str] = {}
    if basis not in dict(rights_bases(locale)):
        missing["basis"] = "basis_unknown"
    if not SHORTEST_STATEMENT <= len(statement) <= LONGEST_STATEMENT:
        missing["statement"] = "statement_length"
    if not re.fullmatch(r"[0-9a-f]{64}", target_sha256):
        missing["target_sha256"] = "target_invalid"
    return _attest(
        Attestation.Kind.TARGET_RIGHTS,
        target_rights_text(locale),
        organisation_id=organisation_id,
        made_by=made_by,
        ticks=ticks,
        missing=missing,
        statement=statement,
        basis=basis,
        target_sha256=target_sha256,
    )


def _attest(
    kind: str,
    text: NoticeText,
    *,
    organisation_id: str,
    made_by: str,
    ticks: Mapping[str, bool],
    missing: dict[str, str],
    statement: str = "",
    basis: str = "",
    target_sha256: str = "",
) -> Attestation:
    boxes = [name for name, _ in text.boxes]
    if not set(ticks) <= set(boxes):
        missing["ticks"] = "ticks_unknown"
    missing |= {name: "tick_required" for name in boxes if not ticks.get(name)}
    if missing:
        raise ConsentError(
            "declaration_incomplete",
            f"The declaration is not complete ({', '.join(missing)}). Nothing was recorded; complete it.",
            fields=missing,
        )
    with transaction.atomic():
        attestation = Attestation(
            id=attestation_id(),
            organisation_id=organisation_id,
            kind=kind,
            basis=basis,
            target_sha256=target_sha256,
            locale=text.locale,
            text_sha256=text.sha256,
            text_version=text.version,
            ticks=dict.fromkeys(boxes, True),
            made_by=made_by,
            at=timezone.now(),
        )
        if statement:  # it may name people, so it lies under a key of its own
            attestation.key_id = keys.create_key(f"attestation:{attestation.id}")
            attestation.statement_sealed = attestation.seal("statement", statement)
        attestation.save(force_insert=True)
        ledger.append_attestation(attestation)
    return attestation
