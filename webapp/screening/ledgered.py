"""The gate's evidence and people's decisions after it, as the ledger commits to them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
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
        "reason_sha256": hashlib.sha256(review.reason.encode()).hexdigest(),  # the words may have to be forgotten
        "at": iso(review.decided_at) if review.decided_at else "",
    }


def forget(*, records: QuerySet[ScreeningRecord], reviews: QuerySet[Review]) -> tuple[int, int]:
    """Empty the measurements of these records and the words of these reviews, and say in the log that it was done."""
    with transaction.atomic():
        measured = list(records.exclude(signals=[]).values_list("pk", flat=True))
        worded = list(reviews.exclude(reason="").values_list("pk", flat=True))
        sources.forget([*(f"screening:{pk}" for pk in measured), *(f"review:{pk}" for pk in worded)])
        ScreeningRecord.objects.filter(pk__in=measured).update(signals=[])
        Review.objects.filter(pk__in=worded).update(reason="")
    return len(measured), len(worded)


def record_payloads(ids: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """For `ledger verify`: the payloads of these rows as they are now."""
    for evidence in ScreeningRecord.objects.filter(pk__in=list(ids)):
        yield evidence.pk, record_payload(evidence)


def review_payloads(ids: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The same for decisions."""
    for review in Review.objects.filter(pk__in=list(ids)):
        yield review.pk, review_payload(review)


def record_ids() -> Iterator[str]:
    """Every row that must have an entry."""
    yield from ScreeningRecord.objects.order_by("pk").values_list("pk", flat=True).iterator()


def review_ids() -> Iterator[str]:
    """Every decision that must have an entry: one still open has none."""
    decided = Review.objects.exclude(state=Review.State.OPEN)
    yield from decided.order_by("pk").values_list("pk", flat=True).iterator()
