"""The receipt in a person's words: one description, drawn as a page and as a PDF."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings

from consent import territories
from consent.models import Consent
from consent.receipts.models import Receipt
from consent.receipts.services import body_of, withdraw_link
from consent.texts import PURPOSE_BOX, consent_text, fill, long_date, words

Rows = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Described:
    """A receipt as shown: (label, value) rows, the words agreed to, and where to withdraw and to check."""

    locale: str
    title: str
    sentence: str
    facts: Rows
    proof: Rows
    notice: str
    withdraw_link: str
    check: str
    text: dict[str, Any]  # the words of the page around it


def describe(consent: Consent, receipt: Receipt, locale: str, *, now: datetime) -> Described:
    """The receipt in a language. Raises keys.KeyDestroyedError after erasure."""
    text = words(locale)
    shown = text["document"]
    body = body_of(receipt.jws)
    assert consent.given_at is not None
    assert consent.valid_from is not None
    return Described(
        locale=locale,
        title=shown["heading"],
        sentence=fill(
            shown["given"], given=long_date(consent.given_at, locale), organisation=consent.organisation_name
        ),
        facts=_facts(consent, locale, shown, now),
        proof=(
            (shown["receipt"], receipt.id),
            (shown["record"], consent.id),
            (
                shown["log"],
                fill(shown["log_value"], index=str(receipt.ledger_index), size=str(body["imp:log"]["size"])),
            ),
            (shown["notice_sha256"], consent.notice_sha256),
            (shown["issued"], f"{long_date(receipt.issued_at, locale)}, {receipt.issued_at:%H:%M} UTC"),
            (shown["key"], receipt.kid),
        ),
        notice=consent.notice_text,
        withdraw_link=withdraw_link(body),
        check=fill(
            shown["check"],
            page=f"{settings.PUBLIC_URL}/receipts/check",
            keys=f"{settings.PUBLIC_URL}/.well-known/jwks.json",
        ),
        text=text,
    )


def state_words(consent: Consent, locale: str) -> str:
    """How the permission stands now, in a few words."""
    states = words(locale)["document"]["states"]
    ended = long_date(consent.ended_at or consent.changed_at, locale)
    return fill(states[consent.state], ended=ended) if consent.state in states else consent.state


def purpose_labels(consent: Consent, locale: str) -> list[str]:
    """The granted purposes in words."""
    labels = dict(consent_text(consent, locale).boxes)
    return [labels[PURPOSE_BOX + purpose] for purpose in consent.purposes]


def _facts(consent: Consent, locale: str, shown: dict[str, Any], now: datetime) -> Rows:
    assert consent.valid_from is not None
    scope = [shown["sexual"]] * consent.no_sexual + [shown["political"]] * consent.no_political
    count = len(consent.targets)
    rows = [
        (shown["asker"], f"{consent.requested_by_name}, {consent.organisation_name}"),
        (shown["role"], shown["roles"][consent.role]),
        (shown["purposes"], "\n".join(purpose_labels(consent, locale))),
    ]
    if consent.photos:
        rows.append((shown["photos"], fill(shown["photos_value"], count=str(len(consent.photos)))))
    rows += [
        (shown["targets"], fill(shown["targets_value"], count=str(count)) if count else shown["targets_any"]),
        *_limits(consent, locale, shown),
        (shown["max_outputs"], fill(shown["max_outputs_value"], count=str(consent.max_outputs))),
        (shown["from"], long_date(consent.valid_from, locale)),
        (shown["until"], long_date(consent.valid_until, locale)),
    ]
    if scope:
        rows.append((shown["never"], "\n".join(scope)))
    rows += [
        (shown["assurance"], shown["levels"].get(consent.assurance, consent.assurance)),
        (shown["signed"], consent.typed_name),
        (
            shown["notice"],
            fill(shown["notice_value"], version=consent.notice_version, language=words(consent.locale)["language"]),
        ),
        (fill(shown["state"], today=long_date(now, locale)), state_words(consent, locale)),
    ]
    return tuple(rows)


def _limits(consent: Consent, locale: str, shown: dict[str, Any]) -> list[tuple[str, str]]:
    """The parts of a scope that a request need not have."""
    rows = [
        ("intended_use", consent.intended_use),
        ("territories", territories.listed(consent.territories, locale)),
        ("partners", "\n".join(consent.partners)),
        ("max_seconds", f"{consent.max_seconds:g} s" if consent.max_seconds else ""),
        ("max_total_seconds", f"{consent.max_total_seconds:g} s" if consent.max_total_seconds else ""),
    ]
    return [(shown[name], value) for name, value in rows if value]
