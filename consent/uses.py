"""Uses of a permission, counted under the row lock: reserved when a job is authorised, counted when it publishes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from django.db import transaction
from django.db.models import Sum
from django.utils import timezone

from consent.deadlocks import survives_deadlocks
from consent.errors import ConsentError
from consent.models import Consent, Use
from consent.policy import MESSAGES, ConsentFacts, Decision, UseFacts, covers
from consent.portal.restriction import restricted
from consent.portal.telling import tell_of_use
from consent.transitions import State, lock, move, record

COUNTING = (Use.State.RESERVED, Use.State.COUNTED)


def facts_of(consent: Consent) -> ConsentFacts:
    """The facts that `policy.covers` decides on."""
    return ConsentFacts(
        state=consent.state,
        organisation_id=consent.organisation_id,
        role=consent.role,
        purposes=frozenset(consent.purposes),
        photo_sha256s=frozenset(consent.photo_sha256s),
        targets=frozenset((each["sha256"], each["face"]) for each in consent.targets) if consent.targets else None,
        valid_from=consent.valid_from,
        valid_until=consent.valid_until,
        max_outputs=consent.max_outputs,
        uses=consent.uses.filter(state__in=COUNTING).count(),
        max_seconds=consent.max_seconds,
        max_total_seconds=consent.max_total_seconds,
        seconds_used=seconds_used(consent),
        partners=frozenset(consent.partners),
        territories=frozenset(consent.territories) if consent.territories else None,
        no_sexual=consent.no_sexual,
        no_political=consent.no_political,
        livemode=consent.livemode,
        restricted=restricted(consent),
    )


def seconds_used(consent: Consent) -> float:
    """Seconds of video made with this permission, or reserved for a job that is at work."""
    found = consent.uses.filter(state__in=COUNTING).aggregate(total=Sum("seconds"))
    return float(found["total"] or 0.0)


def left_of(consent: Consent) -> tuple[int, float | None]:
    """(outputs, seconds) that the permission still allows; None seconds: as many as one likes."""
    outputs = max(0, consent.max_outputs - consent.uses.filter(state__in=COUNTING).count())
    if consent.max_total_seconds is None:
        return outputs, None
    return outputs, max(0.0, consent.max_total_seconds - seconds_used(consent))


def state_of(consent_ids: Iterable[str]) -> dict[str, str]:
    """The state of each of these consents that exists."""
    return dict(Consent.objects.filter(pk__in=list(consent_ids)).values_list("pk", "state"))


@survives_deadlocks
def reserve_use(consent_id: str, *, job_id: str, use: UseFacts) -> Decision:
    """Reserve one result for a job, if the permission covers it; again for the same job asks again, counts once.

    `use.reserved` is set here, from what is recorded. Raises ConsentError `not_found` only.
    """
    with transaction.atomic():
        consent = lock(consent_id)
        own = consent.uses.filter(job_id=job_id).first()
        held = own is not None and own.state in COUNTING
        decision = covers(facts_of(consent), replace(use, reserved=held))
        if not decision.ok or held:
            return decision
        Use.objects.update_or_create(
            consent=consent, job_id=job_id, defaults={"state": Use.State.RESERVED, "seconds": use.seconds}
        )
        record(consent, "reserved", data={"job": job_id, "seconds": use.seconds})
        return decision


@survives_deadlocks
def count_use(consent_id: str, job_id: str) -> None:
    """The job publishes: its reservation becomes a use. Call it in the transaction that publishes.

    Again is fine. Raises ConsentError with the rule's code (`consent_withdrawn`, `consent_expired`, …) if the
    permission is no longer in force, and `use_not_reserved` without a reservation.
    """
    with transaction.atomic():
        consent = lock(consent_id)
        use = consent.uses.filter(job_id=job_id).first()
        if use is None or use.state == Use.State.RELEASED:
            raise ConsentError(
                "use_not_reserved", "This job holds no reservation of the permission; nothing is published.", status=409
            )
        if rule := _not_in_force(consent):
            raise ConsentError(rule, MESSAGES[rule], status=409)
        if use.state == Use.State.COUNTED:
            return
        use.state = Use.State.COUNTED
        use.save(update_fields=["state", "changed_at"])
        record(consent, "used", data={"job": job_id})
        tell_of_use(consent, job_id)
        counted = consent.uses.filter(state=Use.State.COUNTED).count()
        if counted >= consent.max_outputs and consent.state == State.GIVEN:
            move(consent, State.EXHAUSTED)


@survives_deadlocks
def release_use(consent_id: str, job_id: str) -> None:
    """The job will not publish: its reservation is free again. A counted use stays counted; no use is fine."""
    with transaction.atomic():
        consent = lock(consent_id)
        if consent.uses.filter(job_id=job_id, state=Use.State.RESERVED).update(
            state=Use.State.RELEASED, changed_at=timezone.now()
        ):
            record(consent, "released", data={"job": job_id})


def _not_in_force(consent: Consent) -> str:
    """The rule that forbids publishing now, or ""."""
    if consent.state in (State.GIVEN, State.EXHAUSTED):
        if restricted(consent):
            return "consent_restricted"
        return "" if timezone.now() < consent.valid_until else "consent_expired"
    rule = f"consent_{consent.state}"
    return rule if rule in MESSAGES else "consent_not_given"
