"""What goes with a person here: their photos, the pictures they were replaced in, results with them; nobody else's."""

from __future__ import annotations

from typing import Any

import pytest

from consent import erasure, keys
from consent import services as consents
from consent.models import Consent, DataKey
from tests.webapp import cast
from webapp import storage
from webapp.jobs.forgetting import pictures
from webapp.jobs.models import Asset, Job, Output

pytestmark = pytest.mark.django_db


def _erase(consent: Consent) -> erasure.ErasureReport:
    report = erasure.erase_subject(consent.subject, by="person")
    assert report.finished
    return report


def _gone(asset: Asset) -> bool:
    """The row says so, the object is away, and the key opens nothing more."""
    asset.refresh_from_db()
    alive = DataKey.objects.filter(pk=asset.key_id, destroyed_at__isnull=True).exists()
    told = asset.erased_at is not None
    assert told == (not alive) == (asset.name == "") == (asset.object_name == "")
    return told


def _shown(consent: Consent) -> set[str]:
    ids = consent.subject.consents.values_list("pk", flat=True)
    return pictures(erasure.Scope(consent.subject_id, tuple(ids)))


def test_a_donors_photos_go_and_the_target_stays(stage: Any) -> None:
    source, target = stage.ready("source"), stage.ready("target")
    donor, person = stage.ask("face_donor", source), stage.ask("target_person", target)
    job = stage.submit(source=source, target=target, donor_consent=donor, target_consent=person)
    names = [source.object_name, source.analysis_name, *source.previews.values()]
    _erase(donor)
    assert (_gone(source), _gone(target)) == (True, False)
    assert not any(storage.exists(name) for name in names if name)
    job.refresh_from_db()
    assert (job.state, job.failure_code, job.failure_message) == ("refused", "consent_withdrawn", "")
    assert not job.events.exclude(message="").exists()
    person.refresh_from_db()
    assert person.state == "given"


def test_of_a_replaced_person_every_target_goes_and_the_donors_photos_stay(stage: Any) -> None:
    source, first, second = stage.ready("source"), stage.ready("target"), stage.ready("target")
    donor = stage.ask("face_donor", source)
    refs = [consents.TargetRef(asset_id=each.pk, sha256=each.sha256, face=0) for each in (first, second)]
    person = stage.ask("target_person", first, target=None, targets=refs)
    assert _shown(person) == {first.pk, second.pk}
    stage.submit(source=source, target=first, donor_consent=donor, target_consent=person)
    _erase(person)
    assert (_gone(first), _gone(second), _gone(source)) == (True, True, False)


def test_the_same_photo_uploaded_again_goes_too_and_another_photo_stays(stage: Any) -> None:
    source, again, other = stage.ready("source"), stage.ready("source"), stage.ready("source")
    Asset.objects.filter(pk=again.pk).update(sha256=source.sha256)
    donor = stage.ask("face_donor", source)
    _erase(donor)
    assert (_gone(source), _gone(again), _gone(other)) == (True, True, False)


def test_a_photo_that_shows_two_goes_with_one_and_the_others_permission_stays(stage: Any) -> None:
    group = stage.ready("source")
    one, two = (stage.ask("face_donor", group, contact=f"{name}@example.org") for name in ("one", "two"))
    assert one.subject_id != two.subject_id
    _erase(one)
    assert _gone(group)
    two.refresh_from_db()
    assert (two.state, two.name) == ("given", "Ada")


def test_a_published_result_goes_and_is_still_told_as_withdrawn(stage: Any) -> None:
    job = stage.run(stage.screened(stage.submit()))
    output = stage.publish(job)
    output_key = keys.create_key(f"output:{job.pk}")
    Output.objects.filter(pk=output.pk).update(key_id=output_key)
    report = _erase(Consent.objects.get(pk=cast.donor(job).pk))
    output.refresh_from_db()
    assert output.erased_at is not None
    assert output.permission == "withdrawn"
    assert bytes(output.mark_id) == bytes(job.mark_id or b"")
    with pytest.raises(keys.KeyDestroyedError):
        keys.data_key(output_key)
    kept = {line.what: line.count for line in report.kept}
    assert kept["marks, manifests and fingerprints of results, under random ids"] == 1


def test_a_running_job_is_stopped_before_its_inputs_go(stage: Any) -> None:
    job = stage.run(stage.screened(stage.submit()))
    _erase(Consent.objects.get(pk=cast.donor(job).pk))
    found = Job.objects.get(pk=job.pk)
    assert (found.state, found.cancel_requested, found.lease_owner) == ("refused", True, "")
    assert not Output.objects.filter(job=job).exists()


def test_looking_only_changes_nothing_and_tells_the_same(stage: Any) -> None:
    job = stage.submit()
    donor = Consent.objects.get(pk=cast.donor(job).pk)
    before = {line.what: line.count for line in erasure.survey(donor.subject) if not line.kept}
    source = cast.photo(job)
    assert not _gone(source)
    donor.refresh_from_db()
    assert donor.state == "given"
    after = {line.what: line.count for line in _erase(donor).destroyed}
    counted = ("permissions ended", "uploads with their previews and analyses", "file names", "keys of the person")
    assert {what: before[what] for what in counted} == {what: after.get(what, 0) for what in counted}
