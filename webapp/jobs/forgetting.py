"""What a person's erasure means here: their photos, the pictures they are replaced in, and every result with them.

Which file shows whom follows from what people confirmed: the photos a donor was asked about, the file whose face a
target person was asked about, the inputs and results of jobs under their permissions. The same bytes uploaded twice by
the same organisation count as one picture. A file that shows somebody else as well goes all the same; the other's own
permission stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator

from django.utils import timezone

from consent.erasure import Line, Scope
from consent.models import Consent
from webapp.jobs import segments
from webapp.jobs.models import Asset, Job, JobEvent, JobSource, JobSwap, Output, Segment
from webapp.jobs.upkeep import erase_asset_now, erase_output_now


def forget_person(scope: Scope, look_only: bool) -> Iterator[Line]:
    """See `consent.erasure.register_eraser`. Keys first, then objects, then the names and texts in the rows."""
    jobs = Job.objects.on_consents(scope.consent_ids)
    outputs = Output.objects.filter(job__in=jobs).order_by("pk")
    assets = Asset.objects.filter(pk__in=pictures(scope)).order_by("pk")
    events = JobEvent.objects.filter(job__in=jobs).exclude(message="")
    named = assets.exclude(name="")
    parts = Segment.objects.filter(job__in=jobs)
    if look_only:
        yield Line("parts of results that were being made", parts.exclude(object_name="").count())
        yield Line("results", outputs.filter(erased_at__isnull=True).count())
        yield Line("uploads with their previews and analyses", assets.exclude(object_name="").count())
        yield Line("file names", named.count())
        yield Line("remarks in job histories", events.count())
        return
    in_parts = set(parts.order_by().values_list("job_id", flat=True))
    yield Line("parts of results that were being made", sum(segments.drop(job_id) for job_id in in_parts))
    count = 0
    for output in outputs:
        # Withdrawn ones are hidden already; one of a permission that an operator revoked is as well.
        count += erase_output_now(output)
        Output.objects.filter(pk=output.pk, permission=Output.Permission.IN_FORCE).update(
            permission=Output.Permission.WITHDRAWN, permission_changed_at=timezone.now()
        )
    yield Line("results", count)
    names, count = named.count(), 0
    for asset in assets:
        count += erase_asset_now(asset)
    yield Line("uploads with their previews and analyses", count)
    yield Line("file names", names)
    assets.exclude(name="", failure_message="").update(name="", failure_message="")
    yield Line("remarks in job histories", events.update(message=""))
    jobs.exclude(failure_message="").update(failure_message="")


def kept_here(scope: Scope) -> Iterator[Line]:
    """See `consent.erasure.register_kept`."""
    jobs = Job.objects.on_consents(scope.consent_ids)
    yield Line(
        "marks, manifests and fingerprints of results, under random ids",
        Output.objects.filter(job__in=jobs).count(),
        True,
        "so that a copy in the wild is told as withdrawn and refused on upload (EU AI Act 50(2)); names nobody",
    )
    yield Line(
        "histories of jobs: states, times, random ids", jobs.count(), True, "proof of what was made (GDPR 17(3)(e))"
    )


def pictures(scope: Scope) -> set[str]:
    """The ids of all uploads that show the person."""
    found: set[str] = set()
    consents = Consent.objects.filter(pk__in=scope.consent_ids)
    for consent in consents:
        if consent.role == Consent.Role.FACE_DONOR:
            found |= {photo["asset_id"] for photo in consent.photos}
        else:
            found |= {target["asset_id"] for target in consent.targets}
    photos = JobSource.objects.filter(swap__donor_consent__in=scope.consent_ids)
    found |= set(photos.values_list("asset_id", flat=True))
    replaced = JobSwap.objects.filter(target_consent__in=scope.consent_ids)
    found |= set(replaced.values_list("job__target_id", flat=True))
    # The first event keeps what was asked: photos that the person did not confirm show them as well.
    asked: set[str] = set()
    for event in (event for consent in consents for event in consent.events.filter(type="requested")):
        asked |= set(event.data.get("photos", []))
    same = set(Asset.objects.filter(pk__in=found).values_list("organisation_id", "sha256"))
    same |= {(consent.organisation_id, sha256) for consent in consents for sha256 in asked}
    for organisation_id, sha256 in same:
        rows = Asset.objects.filter(organisation_id=organisation_id, sha256=sha256)
        found |= set(rows.values_list("pk", flat=True))
    return found
