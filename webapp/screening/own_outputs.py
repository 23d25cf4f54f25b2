"""`worker.gate.declared.own.Outputs` on the repository, for the organisation that sends a file."""

from __future__ import annotations

from collections.abc import Mapping

from django.db.models import QuerySet

from webapp.jobs.models import Output


class OwnOutputs:
    """Our published results, told apart by whose they are; hidden and erased ones are ours as well."""

    def __init__(self, organisation_id: str) -> None:
        self._organisation_id = organisation_id

    def by_mark(self, mark_id: bytes) -> Mapping[str, str]:
        """{"output", "job", "owner"} of the result with this mark; empty for none."""
        return self._found(Output.objects.filter(mark_id=mark_id))

    def by_manifest(self, label: str) -> Mapping[str, str]:
        """The same by the label of its manifest."""
        return self._found(Output.objects.filter(manifest_label=label)) if label else {}

    def _found(self, outputs: QuerySet[Output]) -> Mapping[str, str]:
        found = outputs.values_list("pk", "job_id", "organisation_id").first()
        if found is None:
            return {}
        output, job, organisation = found
        return {
            "output": str(output),
            "job": str(job),
            "owner": "same" if organisation == self._organisation_id else "another",
        }
