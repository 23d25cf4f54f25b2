"""What our records say about an output: the look-up that the verdict is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from watermark.credentials import Credentials
from watermark.verdict import OutputRecord, PossibleMatch
from webapp import keys_of_house
from webapp.jobs import repository
from webapp.jobs.models import Output
from webapp.screening.models import ScreeningRecord
from worker.media import client
from worker.media.errors import ChildError, MediaError

POSSIBLE = 5
"""Possible matches that are shown."""


class PublishedOutputs:
    """`watermark.verdict.Records` on the Output rows of all organisations: whoever holds a file may ask about it.

    `claim_of` reads the claim of a stored manifest, which is asked of a media child; without it, a record that is found
    by its manifest's label is not known to be of the very manifest.
    """

    def __init__(self, claim_of: Callable[[bytes], str] | None = None) -> None:
        self._claim_of = claim_of
        self._claims: dict[str, str] = {}

    def by_mark(self, mark_id: bytes) -> OutputRecord | None:
        """The output that carries this mark."""
        return _record(Output.objects.filter(mark_id=mark_id).select_related("job").first())

    def by_manifest(self, label: str) -> OutputRecord | None:
        """The output with this manifest label."""
        if "\x00" in label:
            return None
        output = Output.objects.filter(manifest_label=label).select_related("job").first()
        record = _record(output)
        if output is None or record is None or self._claim_of is None:
            return record
        if output.pk not in self._claims:  # asked for several times in one verification
            self._claims[output.pk] = self._claim_of(bytes(output.manifest_store))
        return replace(record, claim_sha256=self._claims[output.pk])

    def by_id(self, output_id: str) -> OutputRecord | None:
        """The output with this id."""
        return _record(Output.objects.filter(pk=output_id).select_related("job").first())


def published_credentials(output_id: str) -> Credentials:
    """What the manifest of an output says, read from our record of it; nothing of it speaks of any file at hand.

    It may hold a stranger's manifest, of an input, so a media child reads it, once for all visits.
    """
    store = Output.objects.filter(pk=output_id).values_list("manifest_store", flat=True).first()
    try:
        return _read_store(bytes(store or b""), keys_of_house.anchors_pem(), keys_of_house.tsa_anchors_pem())
    except (ChildError, MediaError) as error:
        return Credentials("broken", failures=(error.code,))


@lru_cache(maxsize=64)
def _read_store(store: bytes, anchors_pem: str, tsa_anchors_pem: str) -> Credentials:
    return Credentials.from_dict(client.read_store(store, anchors_pem, tsa_anchors_pem=tsa_anchors_pem))


def possible_matches(pdq: bytes) -> list[PossibleMatch]:
    """Outputs that look like a picture with this fingerprint, the nearest first."""
    near = repository.by_fingerprint(pdq, limit=POSSIBLE)
    known = Output.objects.in_bulk([each.output_id for each in near])
    return [
        PossibleMatch(output.manifest_label, output.permission, each.distance, each.seconds)
        for each in near
        if (output := known.get(each.output_id)) is not None
    ]


def as_now(found: Iterable[PossibleMatch]) -> tuple[PossibleMatch, ...]:
    """Possible matches that were found before, with the permission as it is now."""
    earlier = {each.manifest_label: each for each in found}
    states = dict(Output.objects.filter(manifest_label__in=earlier).values_list("manifest_label", "permission"))
    return tuple(replace(each, state=states[label]) for label, each in earlier.items() if label in states)


def _record(output: Output | None) -> OutputRecord | None:
    if output is None:
        return None
    attested = output.job.swaps.filter(target_attestation__isnull=False).exists()
    return OutputRecord(
        output_id=output.pk,
        mark_id=bytes(output.mark_id),
        manifest_label=output.manifest_label,
        state=output.permission,
        published_at=output.published_at,
        livemode=output.livemode,
        permission_changed_at=output.permission_changed_at,
        sha256=output.sha256,
        fingerprint=_mapping(output.fingerprint),
        target_cover="attestation" if attested else "consent",
        not_screened=_not_screened(output),
        time_stamp=output.time_stamp,
    )


def _mapping(value: Any) -> Mapping[str, Any] | None:
    return value if isinstance(value, Mapping) and value else None


def _not_screened(output: Output) -> tuple[str, ...]:
    """What was not screened in any of the job's inputs, each kind once."""
    job = output.job
    rows = ScreeningRecord.objects.filter(asset__in=job.inputs()) | ScreeningRecord.objects.filter(job=job)
    kinds = {str(kind) for row in rows.values_list("not_screened", flat=True) for kind in row}
    return tuple(sorted(kinds))
