"""The record of processing activities (GDPR 30), made of the tags on our columns, the schedule and the settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from webapp import privacy, retention

SECURITY = (
    "Every name, contact, text and picture of a person is encrypted (AES-256-GCM) under a key of that person or file; "
    "these keys are wrapped by a master key and kept in a database of their own. Untrusted media is decoded in a "
    "process without keys, database and network. Every view of a face by staff is logged. Erasing destroys the key."
)
TRANSFERS = "None by this software. It sends nothing anywhere but mails, partner webhooks and, where set, time stamps."


def record() -> dict[str, Any]:
    """The whole record as plain values."""
    activities = []
    purposes: dict[str, list[tuple[str, privacy.Record]]] = {}
    for model, kept in sorted(privacy.records().items()):
        purposes.setdefault(kept.purpose.name, []).append((model, kept))
    for name, models in sorted(purposes.items()):
        purpose = models[0][1].purpose
        activities.append(
            {
                "name": name,
                "purpose": purpose.words,
                "legal_basis": purpose.basis,
                "data_subjects": purpose.about,
                "recipients": purpose.recipients,
                "data": [_table(model, kept) for model, kept in models],
                "retention": _rules({kept.retention for _, kept in models}),
            }
        )
    return {
        "controller": {
            "name": settings.CONTROLLER_NAME,
            "contact": settings.CONTROLLER_CONTACT,
            "data_protection_officer": settings.DPO_CONTACT,
        },
        "service": urlsplit(settings.PUBLIC_URL).netloc,
        "profile": settings.PROFILE,
        "jurisdictions": list(settings.JURISDICTIONS),
        "transfers_to_third_countries": TRANSFERS,
        "security_measures": SECURITY,
        "activities": activities,
        "missing": missing(),
    }


def missing() -> list[str]:
    """What the operator still has to say before the record is whole."""
    wanted = {"CONTROLLER_NAME": settings.CONTROLLER_NAME, "CONTROLLER_CONTACT": settings.CONTROLLER_CONTACT}
    gaps = [f"{name} is not set" for name, value in wanted.items() if not value]
    if "noreply@" in settings.CONTROLLER_CONTACT:
        gaps.append("CONTROLLER_CONTACT is an address that nobody reads")
    if not settings.DPO_CONTACT:
        gaps.append("DPO_CONTACT is not set (leave it so only where no officer is required, GDPR 37)")
    return gaps + privacy.faults()


def markdown() -> str:
    """The record as a document for people."""
    return "\n".join(_lines(record())) + "\n"


def _lines(found: dict[str, Any]) -> Iterator[str]:
    controller = found["controller"]
    yield "# Record of processing activities (GDPR 30)"
    yield ""
    yield f"- Controller: {controller['name'] or '(not set)'}, {controller['contact'] or '(not set)'}"
    yield f"- Data protection officer: {controller['data_protection_officer'] or '(not set)'}"
    yield f"- Service: {found['service']}, profile {found['profile']}, rules of {', '.join(found['jurisdictions'])}"
    yield f"- Transfers to third countries: {found['transfers_to_third_countries']}"
    yield f"- Security (GDPR 32): {found['security_measures']}"
    for gap in found["missing"]:
        yield f"- **To be completed:** {gap}"
    for activity in found["activities"]:
        yield ""
        yield f"## {activity['purpose']}"
        yield ""
        yield f"- Legal basis: {activity['legal_basis']}"
        yield f"- About: {activity['data_subjects']}"
        yield f"- Recipients: {activity['recipients']}"
        yield ""
        yield "| table | categories of personal data | sealed |"
        yield "| --- | --- | --- |"
        for table in activity["data"]:
            if table["categories"]:
                kinds = "; ".join(f"{each['category']} ({each['dpv']})" for each in table["categories"])
                yield f"| {table['table']} | {kinds} | {', '.join(table['sealed']) or '-'} |"
        yield ""
        yield "| kept | how long | from | then | why |"
        yield "| --- | --- | --- | --- | --- |"
        for rule in activity["retention"]:
            yield (
                f"| {rule['data']} | {rule['period'] or '-'} | {rule['since']} | {rule['action']} | {rule['reason']} |"
            )


def _table(model: str, kept: privacy.Record) -> dict[str, Any]:
    personal: dict[str, list[str]] = {}
    for name, category in kept.fields.items():
        if category.personal:
            personal.setdefault(category, []).append(name)
    return {
        "table": model,
        "categories": [
            {
                "category": str(category),
                "dpv": privacy.Category(category).dpv,
                "special": category in privacy.SPECIAL,
                "columns": names,
            }
            for category, names in personal.items()
        ],
        "sealed": [name for name in kept.fields if name.endswith(privacy.SEALED)],
        "retention": kept.retention,
        "on_erasure": kept.on_erasure,
    }


def _rules(names: set[str]) -> list[dict[str, str]]:
    return [
        {
            "rule": name,
            "data": rule.data.en,
            "period": retention.period_words(rule.period()),
            "since": rule.since.en,
            "action": rule.action.en,
            "reason": rule.reason.en,
        }
        for name, rule in retention.RULES.items()
        if name in names
    ]
