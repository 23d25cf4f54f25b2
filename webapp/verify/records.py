"""What our records say about an output: the look-up that the verdict is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from watermark.credentials import Credentials
from watermark.credentials_reader import claim_of_store, read
from watermark.verdict import OutputRecord
from webapp import keys_of_house
from webapp.jobs.models import Output
from webapp.screening.models import ScreeningRecord


class PublishedOutputs:
    """`watermark.verdict.Records` on the Output rows of all organisations: whoever holds a file may ask about it."""

    def by_mark(self, mark_id: bytes) -> OutputRecord | None:
        """The output that carries this mark."""
        return _record(Output.objects.filter(mark_id=mark_id).select_related("job").first())

    def by_manifest(self, label: str) -> OutputRecord | None:
        """The output with this manifest label."""
        if "\x00" in label:
            return None
        return _record(Output.objects.filter(manifest_label=label).select_related("job").first())

    def by_id(self, output_id: str) -> OutputRecord | None:
        """The output with this id."""
        return _record(Output.objects.filter(pk=output_id).select_related("job").first())


def published_credentials(output_id: str) -> Credentials:
    """What the manifest of an output says, read from our record of it; nothing of it speaks of any file at hand."""
    store = Output.objects.filter(pk=output_id).values_list("manifest_store", flat=True).first()
    return read(bytes(store or b""), "application/c2pa", anchors_pem=keys_of_house.anchors_pem())


def _record(output: Output | None) -> OutputRecord | None:
    if output is None:
        return None
    return OutputRecord(
        output_id=output.pk,
        mark_id=bytes(output.mark_id),
        manifest_label=output.manifest_label,
        state=output.permission,
        published_at=output.published_at,
        livemode=output.livemode,
        permission_changed_at=output.permission_changed_at,
        sha256=output.sha256,
        claim_sha256=claim_of_store(bytes(output.manifest_store)),
        fingerprint=_mapping(output.fingerprint),
        target_cover="attestation" if output.job.target_attestation_id else "consent",
        not_screened=_not_screened(output),
        time_stamp=output.time_stamp,
    )


def _mapping(value: Any) -> Mapping[str, Any] | None:
    return value if isinstance(value, Mapping) and value else None


def _not_screened(output: Output) -> tuple[str, ...]:
    """What was not screened in any of the job's inputs, each kind once."""
    job = output.job
    assets = [job.target_id, *job.sources.values_list("pk", flat=True)]
    rows = ScreeningRecord.objects.filter(asset_id__in=assets) | ScreeningRecord.objects.filter(job=job)
    kinds = {str(kind) for row in rows.values_list("not_screened", flat=True) for kind in row}
    return tuple(sorted(kinds))
