"""The gate's evidence and people's decisions after it, as the ledger commits to them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from consent import ledger
from consent.ledger import sources
from consent.ledger.canonical import canonical
from consent.ledger.entries import iso
from consent.ledger.models import LedgerEntry
from webapp.screening.models import Review, ScreeningRecord

KIND = LedgerEntry.Kind.SCREENING
Payloads = Iterator[tuple[str, dict[str, Any]]]


def enter_record(evidence: ScreeningRecord) -> None:
    """The entry of one gate run."""
    ledger.append(
        KIND,
        evidence.decision,
        record_payload(evidence),
        ref=evidence.pk,
        source=f"screening:{evidence.pk}",
        at=evidence.created_at,
    )


def enter_decision(review: Review) -> None:
    """The entry of one person's decision."""
    ledger.append(
        KIND,
        f"review_{review.state}",
        review_payload(review),
        ref=review.screening_id,
        source=f"review:{review.pk}",
        at=review.decided_at,
    )


def enter_first(review: Review) -> None:
    """The entry of the first of two people's release."""
    ledger.append(
        KIND,
        "review_first_released",
        first_payload(review),
        ref=review.screening_id,
        source=f"review_first:{review.pk}",
        at=review.first_at,
    )


def enter_appeal(review: Review) -> None:
    """The entry of an account's appeal."""
    ledger.append(
        KIND,
        "appealed",
        appeal_payload(review),
        ref=review.screening_id,
        source=f"appeal:{review.pk}",
        at=review.opened_at,
    )


def record_payload(evidence: ScreeningRecord) -> dict[str, Any]:
    """What a gate run's entry commits to; the signals by their digest."""
    return {
        "id": evidence.pk,
        "at": iso(evidence.created_at),
        "asset": evidence.asset_id,
        "job": evidence.job_id,
        "profile": evidence.profile,
        "policy_version": evidence.policy_version,
        "signals_sha256": hashlib.sha256(canonical(evidence.signals)).hexdigest(),
        "decision": evidence.decision,
        "reasons": evidence.reasons,
        "not_screened": evidence.not_screened,
    }


def review_payload(review: Review) -> dict[str, Any]:
    """What a decision's entry commits to. The reviewer is not in it: their account may be deleted."""
    return {
        "id": review.pk,
        "screening": review.screening_id,
        "state": review.state,
        "reason_sha256": _digest(review.reason),  # the words may have to be forgotten
        "at": iso(review.decided_at) if review.decided_at else "",
        **({"kind": review.kind, "two": True} if review.needs_two else {}),
    }


def first_payload(review: Review) -> dict[str, Any]:
    """What the entry of a first release commits to."""
    return {
        "id": review.pk,
        "screening": review.screening_id,
        "kind": review.kind,
        "reason_sha256": _digest(review.first_reason),
        "at": iso(review.first_at) if review.first_at else "",
    }


def appeal_payload(review: Review) -> dict[str, Any]:
    """What an appeal's entry commits to."""
    return {
        "id": review.pk,
        "screening": review.screening_id,
        "kind": review.kind,
        "statement_sha256": _digest(review.statement),
        "at": iso(review.opened_at),
    }


def forget(*, records: QuerySet[ScreeningRecord], reviews: QuerySet[Review]) -> tuple[int, int]:
    """Empty the measurements of these records and the words of these reviews, and say in the log that it was done."""
    with transaction.atomic():
        measured = list(records.exclude(signals=[]).values_list("pk", flat=True))
        worded = list(reviews.exclude(reason="", first_reason="", statement=""))
        gone = [f"screening:{pk}" for pk in measured]
        for review in worded:
            gone += [f"review:{review.pk}"] if review.reason else []
            gone += [f"review_first:{review.pk}"] if review.first_reason else []
            gone += [f"appeal:{review.pk}"] if review.statement else []
        sources.forget(gone)
        ScreeningRecord.objects.filter(pk__in=measured).update(signals=[])
        Review.objects.filter(pk__in=[review.pk for review in worded]).update(reason="", first_reason="", statement="")
    return len(measured), len(worded)


def record_payloads(ids: Iterable[str]) -> Payloads:
    """For `ledger verify`: the payloads of these rows as they are now."""
    for evidence in ScreeningRecord.objects.filter(pk__in=list(ids)):
        yield evidence.pk, record_payload(evidence)


def _payloads_of(payload: Callable[[Review], dict[str, Any]]) -> Callable[[Iterable[str]], Payloads]:
    """The same for what a review enters."""

    def payloads(ids: Iterable[str]) -> Payloads:
        for review in Review.objects.filter(pk__in=list(ids)):
            yield review.pk, payload(review)

    return payloads


review_payloads = _payloads_of(review_payload)
first_payloads = _payloads_of(first_payload)
appeal_payloads = _payloads_of(appeal_payload)


def record_ids() -> Iterator[str]:
    """Every row that must have an entry."""
    return _ids(ScreeningRecord.objects.all())


def review_ids() -> Iterator[str]:
    """Every decision that must have an entry: one still open has none."""
    return _ids(Review.objects.exclude(state=Review.State.OPEN))


def first_ids() -> Iterator[str]:
    """Every first release that must have an entry."""
    return _ids(Review.objects.filter(first_at__isnull=False))


def appeal_ids() -> Iterator[str]:
    """Every appeal that must have an entry."""
    return _ids(Review.objects.filter(kind=Review.Kind.APPEAL))


def _ids(rows: QuerySet[Any]) -> Iterator[str]:
    return rows.order_by("pk").values_list("pk", flat=True).iterator()


def _digest(words: str) -> str:
    return hashlib.sha256(words.encode()).hexdigest()
