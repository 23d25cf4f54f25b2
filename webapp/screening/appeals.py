"""The account's way against the gate's refusal: once for each upload or job, with a statement, to two people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from django.conf import settings
from django.db import IntegrityError, transaction

from webapp.accounts.models import User
from webapp.jobs import flow, intake
from webapp.jobs.models import Asset, Job
from webapp.screening import ledgered, reasons
from webapp.screening.models import Review, ScreeningRecord
from webapp.screening.services import ScreeningError, due

SHORTEST: Final = 10
LONGEST: Final = 1000
NOT_POSSIBLE: Final = "appeal_not_possible"
MADE_BEFORE: Final = "appeal_made_before"


@dataclass(frozen=True)
class Prospect:
    """May an upload or job be appealed? If not: the stable code, and what to do instead."""

    evidence: ScreeningRecord | None
    code: str = ""
    message: str = ""

    @property
    def possible(self) -> bool:
        """Can an appeal be made now?"""
        return not self.code


def prospect(about: Asset | Job) -> Prospect:
    """What an appeal about this would meet with."""
    evidence = about.screenings.order_by("-created_at").first()
    if evidence is not None and appeal_about(about) is not None:
        return Prospect(evidence, MADE_BEFORE, "There was an appeal about this already, and there is one only.")
    if evidence is None or evidence.decision != "reject" or about.state != about.State.REFUSED:
        message = "The automatic screening did not refuse this, so there is nothing to appeal against."
        return Prospect(evidence, NOT_POSSIBLE, message)
    if isinstance(about, Asset) and about.erased_at is not None:
        return Prospect(evidence, NOT_POSSIBLE, "The file was erased in the meantime. Send it again first.")
    if any(code in reasons.NEVER_RELEASED for code in evidence.reasons):
        return Prospect(evidence, NOT_POSSIBLE, f"Nobody here can let this through. If you object, {write_to()}.")
    if any(code in reasons.UNWORKABLE for code in evidence.reasons):
        message = "This is about what the file is, not about whether it may be used. Choose another file."
        return Prospect(evidence, NOT_POSSIBLE, message)
    return Prospect(evidence)


def appeal(about: Asset | Job, user: User | None, statement: str) -> Review:
    """Have two people look at what the gate refused; it is in review again until they have decided.

    `user` is who appeals; None for a partner's program. Raises ScreeningError: statement_length (422),
    appeal_made_before, appeal_not_possible (409).
    """
    statement = statement.replace("\x00", "").replace("\r\n", "\n").strip()
    if not SHORTEST <= len(statement) <= LONGEST:
        raise ScreeningError(
            "statement_length",
            f"An appeal says in {SHORTEST} to {LONGEST} characters why the refusal is wrong; this one has "
            f"{len(statement)}. Nothing was sent.",
            status=422,
        )
    found = prospect(about)
    if found.evidence is None or not found.possible:
        raise ScreeningError(found.code, f"{found.message} Nothing was changed.")
    try:
        with transaction.atomic():
            review = Review.objects.create(
                screening=found.evidence,
                kind=Review.Kind.APPEAL,
                statement=statement,
                appellant=user,
                due_at=due(soon=True),
            )
            ledgered.enter_appeal(review)
            moved = intake.asset_appealed(about.pk) if isinstance(about, Asset) else flow.gate_appealed(about.pk)
            if not moved:
                raise ScreeningError(NOT_POSSIBLE, "This changed in the meantime. Nothing was sent.")
    except IntegrityError:
        if appeal_about(about) is None:
            raise
        # Somebody else of the organisation was a moment faster.
        raise ScreeningError(MADE_BEFORE, "There was an appeal about this already. Nothing was changed.") from None
    about.refresh_from_db()
    return review


def appeal_about(about: Asset | Job) -> Review | None:
    """The appeal about an upload or job, if there was one."""
    rows = Review.objects.filter(kind=Review.Kind.APPEAL)
    return rows.filter(screening__in=about.screenings.all()).first()


def write_to() -> str:
    """Where to write, as the end of a sentence."""
    contact = settings.CONTROLLER_CONTACT
    unread = not contact or "noreply@" in contact
    return "write to whoever runs this service" if unread else f"write to {contact}"
