"""Several replacements in one job: everybody in it is asked, and one person's no is everybody's no."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from consent import erasure
from consent import services as consents
from consent.models import Consent, Use
from tests.webapp import cast
from tests.webapp.conftest import TWO_FACES, Stage
from webapp.jobs import flow, hiding, permission, services, upkeep
from webapp.jobs.errors import JobsError
from webapp.jobs.forgetting import pictures
from webapp.jobs.models import Asset, Job, JobSwap, Output
from webapp.pages.portal_works import output_of, works_of

pytestmark = pytest.mark.django_db

EVERYBODY = [(cast.donor, 0), (cast.replaced, 0), (cast.donor, 1), (cast.replaced, 1)]
Whose = tuple[Callable[..., Consent], int]


def refused(stage: Stage, **changes: Any) -> JobsError:
    """The error of a submission; no row may be left."""
    before = Job.objects.count()
    with pytest.raises(JobsError) as error:
        stage.submit(**changes)
    assert Job.objects.count() == before
    return error.value


def crowd(stage: Stage, faces: int) -> Asset:
    return stage.ready("target", faces=[{"index": n, "size": 90.0} for n in range(faces)])


def test_a_job_names_its_pairs_in_order_and_everybodys_permission(stage: Stage) -> None:
    job = stage.two()
    found = services.job_state(job)
    assert found["target"] == {"asset": job.target_id}
    assert [swap["target_face"] for swap in found["swaps"]] == [0, 1]
    assert [consent["role"] for consent in found["consents"]] == ["face_donor", "target_person"] * 2
    assert {each["id"] for each in found["consents"]} == {whose(job, place).pk for whose, place in EVERYBODY}
    assert len(job.inputs()) == 3


def test_a_job_waits_until_the_last_of_all_has_agreed(stage: Stage) -> None:
    job = stage.screened(stage.two(give=False))
    for number, (whose, place) in enumerate(EVERYBODY):
        assert job.state == "awaiting_consent", number
        stage.agree(whose(job, place))
        job.refresh_from_db()
    assert job.state == "ready"


@pytest.mark.parametrize("whose", EVERYBODY)
@pytest.mark.parametrize("moment", ["queued", "ready", "finishing", "succeeded"])
def test_one_withdrawal_anywhere_ends_the_whole_job_and_hides_its_result(
    stage: Stage, whose: Whose, moment: str
) -> None:
    job = stage.two(most=2)
    if moment != "queued":
        stage.screened(job)
    if moment in {"finishing", "succeeded"}:
        stage.run(job)
    if moment == "succeeded":
        stage.publish(job)
    consents.withdraw_consent(whose[0](job, whose[1]))
    job.refresh_from_db()
    reserved = Use.objects.filter(state__in=[Use.State.RESERVED, Use.State.COUNTED])
    if moment == "succeeded":
        assert Output.objects.get().permission == "withdrawn"
        assert reserved.count() == 4  # what was made stays counted
    else:
        assert (job.state, job.failure_code) == ("refused", "consent_withdrawn")
        assert not reserved.exists()
        assert not Output.objects.exists()


@pytest.mark.parametrize("whose", EVERYBODY)
def test_a_no_a_hold_and_an_end_of_time_count_from_anybody(stage: Stage, whose: Whose) -> None:
    job = stage.screened(stage.two(give=False))
    for each, place in EVERYBODY:
        if (each, place) != whose:
            stage.agree(each(job, place))
    consents.refuse_consent(whose[0](job, whose[1]), block=False)
    job.refresh_from_db()
    assert (job.state, job.failure_code) == ("refused", "consent_refused")
    late = stage.screened(stage.two())
    stage.run(late)
    Consent.objects.filter(pk=whose[0](late, whose[1]).pk).update(valid_until=timezone.now())
    assert permission.outlook(late, reserved=True).code == "consent_expired"


def test_the_locks_of_a_change_are_those_of_the_whole_job(stage: Stage) -> None:
    job = stage.two()
    ids = {consent.pk for consent in job.consents()}
    assert len(ids) == 4
    for consent_id in ids:
        assert flow.companions_of(consent_id) == ids - {consent_id}
        held = [consent.pk for consent, _ in permission.uses(job)]
        assert held == sorted(held)


def test_one_donor_onto_two_faces_is_asked_for_both_and_counts_once(stage: Stage) -> None:
    target, source = stage.ready("target", faces=TWO_FACES), stage.ready("source")
    scene = [consents.TargetRef(asset_id=target.pk, sha256=target.sha256, face=face) for face in (0, 1)]
    only_one = stage.ask("face_donor", source, target=scene[0])
    both = stage.ask("face_donor", source, targets=scene)

    def swaps(donor: Consent) -> list[services.SwapWanted]:
        replaced = [stage.pair(target, face) for face in (0, 1)]
        return [
            services.SwapWanted(face, [(source, 0)], donor, pair.target_consent) for face, pair in enumerate(replaced)
        ]

    assert refused(stage, target=target, swaps=swaps(only_one)).code == "consent_other_target"
    job = stage.screened(stage.submit(target=target, swaps=swaps(both)))
    assert [use.target_face for consent, use in permission.uses(job) if consent.pk == both.pk] == [0, 1]
    stage.publish(stage.run(job))
    both.refresh_from_db()
    assert both.state == "exhausted"  # one result was allowed, and one was made
    assert [event.type for event in both.events.all()][-2:] == ["used", "exhausted"]
    assert both.uses.count() == 1
    assert refused(stage, target=target, swaps=swaps(both)).code == "consent_exhausted"


def test_one_person_seen_twice_answers_once_for_both_faces(stage: Stage) -> None:
    target = stage.ready("target", faces=TWO_FACES)
    scene = [consents.TargetRef(asset_id=target.pk, sha256=target.sha256, face=face) for face in (0, 1)]
    person = stage.ask("target_person", target, target=None, targets=scene)
    swaps = [stage.swap(target, target_face=face, target_consent=person) for face in (0, 1)]
    job = stage.screened(stage.submit(target=target, swaps=swaps))
    stage.run(job)
    assert person.uses.get().state == Use.State.RESERVED
    assert len(job.consents()) == 3
    services.cancel_job(job)
    assert person.uses.get().state == Use.State.RELEASED


def test_a_donors_photo_does_not_serve_another_pairs_donor(stage: Stage) -> None:
    target = stage.ready("target", faces=TWO_FACES)
    ada, eve = stage.pair(target, 0), stage.pair(target, 1)
    mixed = [ada, services.SwapWanted(1, ada.sources, eve.donor_consent, eve.target_consent)]
    assert refused(stage, target=target, swaps=mixed).code == "consent_other_photo"
    crossed = [ada, services.SwapWanted(1, eve.sources, eve.donor_consent, ada.target_consent)]
    assert refused(stage, target=target, swaps=crossed).code == "consent_other_target"


def test_each_face_is_replaced_once_and_at_most_four_are(stage: Stage) -> None:
    target = crowd(stage, 5)
    pairs = [stage.pair(target, face) for face in range(5)]
    assert refused(stage, target=target, swaps=pairs).code == "too_many_swaps"
    assert refused(stage, target=target, swaps=[pairs[0], pairs[0]]).code == "face_twice"
    assert refused(stage, target=target, swaps=[]).code == "swap_required"
    empty = services.SwapWanted(1, [], pairs[1].donor_consent, pairs[1].target_consent)
    assert refused(stage, target=target, swaps=[pairs[0], empty]).code == "source_required"
    nobody = services.SwapWanted(1, pairs[1].sources, pairs[1].donor_consent)
    error = refused(stage, target=target, swaps=[pairs[0], nobody])
    assert error.code == "consent_required"
    assert "face 1" in error.message
    assert stage.submit(target=target, swaps=pairs[:4]).swaps.count() == 4


def test_a_statement_of_rights_may_stand_for_one_of_the_replaced(stage: Stage) -> None:
    target = stage.ready("target", faces=TWO_FACES)
    asked = stage.pair(target, 0)
    stated = stage.swap(target, target_face=1, target_consent=None, target_attestation=stage.attest(target))
    job = stage.submit(target=target, swaps=[asked, stated])
    assert [bool(swap["target_attestation"]) for swap in services.job_state(job)["swaps"]] == [False, True]
    assert len(job.consents()) == 3


def test_the_database_itself_refuses_what_is_covered_twice_or_not_at_all(stage: Stage) -> None:
    job = stage.two()
    with pytest.raises(IntegrityError), transaction.atomic():
        job.swaps.filter(position=1).update(target_consent=None)
    with pytest.raises(IntegrityError), transaction.atomic():
        job.swaps.filter(position=1).update(target_face=0)


def test_an_erasure_takes_the_persons_own_photos_and_the_result_and_leaves_the_others_photos(stage: Stage) -> None:
    job = stage.screened(stage.two())
    output = stage.publish(stage.run(job))
    one, other = (swap.photos.get().asset for swap in job.swaps.all())
    subject = cast.donor(job, 1).subject
    ids = tuple(subject.consents.values_list("pk", flat=True))
    assert pictures(erasure.Scope(subject.pk, ids)) == {other.pk}
    assert erasure.erase_subject(subject, by="person").finished
    for row in (one, other, output):
        row.refresh_from_db()
    assert (one.erased_at is None, other.erased_at is None, output.erased_at is None) == (True, False, False)
    assert output.permission == "withdrawn"


def test_the_photos_of_every_pair_are_kept_as_long_as_the_job_needs_them(stage: Stage, settings: Any) -> None:
    job = stage.two()
    settings.INPUT_RETENTION_HOURS = 0
    assert upkeep.erase_assets(timezone.now() + upkeep.UNUSED_ASSETS * 2) == 0
    services.cancel_job(job)
    assert upkeep.erase_assets(timezone.now() + upkeep.UNUSED_ASSETS * 2) == 3


def test_a_job_whose_last_photo_was_settled_unseen_is_found_by_the_sweep(stage: Stage) -> None:
    target = stage.ready("target", faces=TWO_FACES)
    pairs = [stage.pair(target, face) for face in (0, 1)]
    late = pairs[1].sources[0][0]
    Asset.objects.filter(pk=late.pk).update(state=Asset.State.SCREENING)
    job = stage.submit(target=target, swaps=pairs)
    Job.objects.filter(pk=job.pk).update(created_at=timezone.now() - upkeep.OVERLOOKED_AFTER * 2)
    assert upkeep._go_on() == 0
    Asset.objects.filter(pk=late.pk).update(state=Asset.State.READY)
    assert upkeep._go_on() == 1
    job.refresh_from_db()
    assert job.queued_at is not None


def test_a_yes_given_unseen_in_any_pair_is_found_by_the_sweep(stage: Stage) -> None:
    job = stage.screened(stage.two(give=False))
    Job.objects.filter(pk=job.pk).update(created_at=timezone.now() - upkeep.OVERLOOKED_AFTER * 2)
    everybody = [consent.pk for consent in job.consents()]
    given = {"state": "given", "valid_from": timezone.now(), "given_at": timezone.now()}
    Consent.objects.filter(pk__in=everybody[:3]).update(**given)
    assert upkeep._go_on() == 0
    Consent.objects.filter(pk=everybody[3]).update(**given)
    assert upkeep._go_on() == 1
    job.refresh_from_db()
    assert job.state == "ready"


def test_each_of_the_people_finds_the_work_in_their_portal_once(stage: Stage) -> None:
    job = stage.screened(stage.two())
    output = stage.publish(stage.run(job))
    for whose, place in EVERYBODY:
        consent = whose(job, place)
        assert [work.output_id for work in works_of([consent])[consent.pk]] == [output.pk]
        assert output_of([consent], job.pk) == output
    stranger = stage.ask("face_donor", stage.ready("source"))
    assert works_of([stranger]) == {stranger.pk: []}
    assert output_of([stranger], job.pk) is None


def test_whoever_hears_of_hidden_results_hears_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr(hiding, "_listeners", [lambda outputs: heard.extend(each.pk for each in outputs)])
    job = stage.screened(stage.two())
    output = stage.publish(stage.run(job))
    for whose, place in EVERYBODY:
        consents.withdraw_consent(whose(job, place))
    assert heard == [output.pk]


def test_nothing_of_a_pair_is_left_when_its_job_goes(stage: Stage) -> None:
    job = stage.two()
    job.events.all().delete()
    Job.objects.filter(pk=job.pk).delete()
    assert not JobSwap.objects.exists()
