"""The hold a person puts on what was permitted (GDPR 18), and the limit on their biometric data (CCPA 1798.121).

While it holds, no use is reserved and nothing is published; work in progress is stopped at once, because restricted
data may be stored but not processed. Only the person lifts it. Permissions stay given; what was published stays, too:
hiding that is what a withdrawal is for.
"""

from __future__ import annotations

from collections.abc import Callable

from django.db import transaction
from django.utils import timezone

from consent.deadlocks import survives_deadlocks
from consent.models import Consent, Subject
from consent.portal.models import Restriction, Wishes
from consent.transitions import companions_of, hold, lock_for_change, record

ConsentEffect = Callable[[Consent], None]
SubjectEffect = Callable[[Subject], None]

HOLDABLE = (Consent.State.GIVEN, Consent.State.EXHAUSTED)

_on_restricted: list[ConsentEffect] = []
_on_limited: list[SubjectEffect] = []


def register_restriction_effect(effect: ConsentEffect) -> None:
    """`effect(consent)` is called in the transaction that puts a consent on hold, with the consent locked."""
    if effect not in _on_restricted:
        _on_restricted.append(effect)


def register_limit_effect(effect: SubjectEffect) -> None:
    """`effect(subject)` destroys what another room keeps of a person's biometric data, in the same transaction."""
    if effect not in _on_limited:
        _on_limited.append(effect)


def restricted(consent: Consent) -> bool:
    """Is this consent on hold, by itself or with everything of its person?"""
    if Restriction.objects.filter(consent=consent).exists():
        return True
    wishes = Wishes.objects.filter(subject=consent.subject_id).first()
    return wishes is not None and (wishes.restricted_at is not None or wishes.limited_at is not None)


@survives_deadlocks
def restrict_consent(consent: Consent) -> None:
    """Put one consent on hold; again is fine."""
    with transaction.atomic():
        locked = lock_for_change(consent.pk)
        _, made = Restriction.objects.get_or_create(consent=locked, defaults={"since": timezone.now()})
        if made:
            record(locked, "restricted")
            _stop(locked)


@survives_deadlocks
def lift_consent(consent: Consent) -> None:
    """Take the hold off one consent; without one is fine."""
    with transaction.atomic():
        locked = lock_for_change(consent.pk)
        if Restriction.objects.filter(consent=locked).delete()[0]:
            record(locked, "restriction_lifted")


@survives_deadlocks
def restrict_all(subject: Subject) -> None:
    """Put everything of a person on hold, also what they will be asked later; again is fine."""
    with transaction.atomic():
        consents = _lock_all(subject)
        wishes = wishes_of(subject)
        if wishes.restricted_at is None:
            wishes.restricted_at = timezone.now()
            wishes.save()
            for consent in consents:
                record(consent, "restricted", code="everything")
                _stop(consent)


@survives_deadlocks
def lift_all(subject: Subject) -> None:
    """Take that hold off; consents that were put on hold one by one stay so."""
    with transaction.atomic():
        consents = _lock_all(subject)
        wishes = wishes_of(subject)
        if wishes.restricted_at is not None:
            wishes.restricted_at = None
            wishes.save()
            for consent in consents:
                record(consent, "restriction_lifted", code="everything")


@survives_deadlocks
def limit_biometrics(subject: Subject) -> None:
    """Hold everything, and destroy every descriptor and every photo of the person's face that is kept as an input."""
    with transaction.atomic():
        consents = _lock_all(subject)
        wishes = wishes_of(subject)
        if wishes.limited_at is not None:
            return
        wishes.limited_at = timezone.now()
        wishes.save()
        for consent in consents:
            record(consent, "restricted", code="biometrics_limited")
            _stop(consent)
        for effect in _on_limited:
            effect(subject)


@survives_deadlocks
def unlimit_biometrics(subject: Subject) -> None:
    """Allow it again. What was destroyed does not come back."""
    with transaction.atomic():
        consents = _lock_all(subject)
        wishes = wishes_of(subject)
        if wishes.limited_at is not None:
            wishes.limited_at = None
            wishes.save()
            for consent in consents:
                record(consent, "restriction_lifted", code="biometrics_limited")


def wishes_of(subject: Subject) -> Wishes:
    """The wishes of a person, as they stand."""
    return Wishes.objects.get_or_create(subject=subject)[0]


def _stop(consent: Consent) -> None:
    for effect in _on_restricted:
        effect(consent)


def _lock_all(subject: Subject) -> list[Consent]:
    """The person's row, so that no request comes in between, and their consents in the order everybody locks them.

    Returned are those that stand for something: holding a question or a refusal would mean nothing.
    """
    Subject.objects.select_for_update(no_key=True).get(pk=subject.pk)
    own = list(Consent.objects.filter(subject=subject).values_list("pk", flat=True))
    hold({*own, *(each for consent_id in own for each in companions_of(consent_id))})
    rows = Consent.objects.filter(subject=subject, state__in=HOLDABLE)
    return list(rows.order_by("pk"))
