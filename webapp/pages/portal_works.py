"""What was made with a person's face: the jobs on their consents and the results, as far as it is theirs to know.

Other people of a job, the account's file names and its failures' details are not among it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings

from consent.models import Consent
from webapp.jobs.models import Job, Output


@dataclass(frozen=True)
class Work:
    """One job of one consent. `shown`: its file is still here and may be looked at; `ended` says why not, else ""."""

    job_id: str
    consent_id: str
    organisation: str
    state: str
    purpose: str
    created_at: datetime
    published_at: datetime | None
    expires_at: datetime | None
    output_id: str
    kind: str
    shown: bool
    ended: str  # "", gone, hidden, taken_down

    @property
    def status_url(self) -> str:
        """The public page of the result; "" if there is none."""
        return f"{settings.PUBLIC_URL}/verify/o/{self.output_id}" if self.output_id else ""

    def to_json(self) -> dict[str, Any]:
        """For the export."""
        return {
            "@type": "dpv:Process",
            "dct:identifier": self.job_id,
            "dpv:hasConsent": f"urn:imprimatur:consent:{self.consent_id}",
            "dpv:hasDataController": self.organisation,
            "dpv:hasPurpose": self.purpose,
            "imp:state": self.state,
            "dct:created": self.created_at.isoformat(),
            "dct:issued": self.published_at.isoformat() if self.published_at else None,
            "imp:expires": self.expires_at.isoformat() if self.expires_at else None,
            "imp:output": self.output_id or None,
            "imp:statusPage": self.status_url or None,
            "imp:kept": self.shown,
        }


def works_of(consents: Iterable[Consent]) -> dict[str, list[Work]]:
    """The works of each of these consents, the newest first, by the consent's id."""
    named = {consent.pk: consent for consent in consents}
    jobs = Job.objects.on_consents(named).select_related("output").prefetch_related("swaps")
    found: dict[str, list[Work]] = {consent_id: [] for consent_id in named}
    for job in jobs.order_by("-created_at", "-pk"):
        pairs = [(swap.donor_consent_id, swap.target_consent_id) for swap in job.swaps.all()]
        for consent_id in {each for pair in pairs for each in pair if each in named}:
            found[consent_id].append(_work(job, named[consent_id]))
    return found


def output_of(consents: Iterable[Consent], job_id: str) -> Output | None:
    """The result of a job on one of these consents, if it may be looked at."""
    output = Output.objects.filter(job__in=Job.objects.on_consents(consents).filter(pk=job_id)).first()
    return output if output is not None and not _ended(output) else None


def _work(job: Job, consent: Consent) -> Work:
    output: Output | None = getattr(job, "output", None)
    ended = _ended(output) if output is not None else ""
    return Work(
        job_id=job.pk,
        consent_id=consent.pk,
        organisation=consent.organisation_name,
        state=job.state,
        purpose=job.purpose,
        created_at=job.created_at,
        published_at=output.published_at if output is not None else None,
        expires_at=output.expires_at if output is not None else None,
        output_id=output.pk if output is not None else "",
        kind="video" if output is not None and output.mime.startswith("video/") else "photo",
        shown=output is not None and not ended,
        ended=ended,
    )


def _ended(output: Output) -> str:
    if output.permission == Output.Permission.TAKEN_DOWN:
        return "taken_down"
    if output.permission == Output.Permission.WITHDRAWN:
        return "hidden" if output.erased_at is None else "gone"
    return "gone" if output.erased_at is not None else ""
