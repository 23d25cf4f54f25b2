"""The live selfie as a resource: issued before the camera, used once, decided once."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import IntegrityError, transaction
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from consent import erasure, services
from consent.challenge import services as challenges
from consent.challenge import upkeep as challenge_upkeep
from consent.errors import ConsentError
from consent.models import Challenge, Consent
from tests.consent.conftest import TARGET, House
from webapp import storage
from webapp.jobs import challenges as work
from webapp.jobs import leases
from webapp.outbox import services as outbox
from webapp.outbox.models import OutboxMessage

pytestmark = pytest.mark.django_db

CLIP = b"\x1aE\xdf\xa3 eight seconds of Ada"
REPORT = {"verdict": "pass", "seconds": 8.0}
MATCH = {"score": 0.31, "threshold": 0.45, "model": "face_descriptor"}
State = Challenge.State


class Studio:
    """What the tests do with a challenge."""

    def __init__(self, house: House) -> None:
        self.house = house

    def form(self, consent: Consent, **changes: Any) -> dict[str, Any]:
        notice = services.consent_text(consent, "en")
        return {
            "ticks": {name: True for name, _ in notice.boxes},
            "typed_name": "Ada Byron",
            "confirmed_photos": consent.photo_sha256s,
            "notice_sha256": notice.sha256,
            **changes,
        }

    def answered(self, role: str = "face_donor", **changes: Any) -> Consent:
        consent, _ = self.house.ask(role, **{"assurance": "L2", "purposes": ["personal"], **changes})
        return services.answer_consent(consent, **self.form(consent))

    def issued(self, **changes: Any) -> Challenge:
        return services.issue_challenge(self.answered(**changes))

    def send(self, challenge: Challenge, data: bytes = CLIP, **changes: Any) -> Challenge:
        return services.submit_clip(
            challenge.consent,
            challenge.pk,
            io.BytesIO(data),
            **{"mime": "video/webm;codecs=vp8", "size": len(data), **changes},
        )

    def check(self, challenge: Challenge, verdict: str = "pass", codes: tuple[str, ...] = ()) -> Challenge:
        owner = leases.new_owner()
        assert work.claim(challenge.pk, owner) is not None
        assert services.settle_check(challenge.pk, owner, verdict=verdict, codes=codes, report=REPORT, match=MATCH)
        challenge.refresh_from_db()
        challenge.consent.refresh_from_db()
        return challenge


@pytest.fixture
def studio(house: House) -> Studio:
    return Studio(house)


def _refused(act, *arguments, **more) -> ConsentError:
    with pytest.raises(ConsentError) as error:
        act(*arguments, **more)
    return error.value


def test_the_movements_are_three_different_ones_and_drawn_anew_for_each(studio) -> None:
    seen = set()
    for _ in range(30):
        challenge = studio.issued(contact="")
        assert len(challenge.actions) == len(set(challenge.actions)) == 3
        assert set(challenge.actions) <= set(challenges.ACTIONS)
        assert challenge.expires_at - challenge.issued_at == timedelta(minutes=5)
        seen.add(tuple(challenge.actions))
    assert len(seen) > 10
    assert {action for actions in seen for action in actions} == set(challenges.ACTIONS)


def test_before_the_ticks_no_movement_is_drawn(studio, house) -> None:
    consent, _ = house.ask(assurance="L2")
    assert _refused(services.issue_challenge, consent).code == "answer_first"
    notice = services.consent_text(consent, "en")
    ticks = {name: name != "selfie_match" for name, _ in notice.boxes}
    error = _refused(services.answer_consent, consent, **studio.form(consent, ticks=ticks))
    assert (error.code, error.fields) == ("consent_incomplete", {"selfie_match": "tick_required"})
    assert not Challenge.objects.exists()


def test_asking_again_within_the_time_is_the_same_challenge(studio) -> None:
    first = studio.issued()
    assert services.issue_challenge(first.consent).pk == first.pk
    assert first.consent.events.filter(type="challenge_issued").count() == 1
    Challenge.objects.update(expires_at=timezone.now())
    second = services.issue_challenge(first.consent)
    first.refresh_from_db()
    assert (first.state, second.state) == (State.EXPIRED, State.ISSUED)


def test_an_answer_is_no_permission_and_is_kept_sealed(studio) -> None:
    consent = studio.answered()
    assert (consent.state, consent.given_at, consent.assurance) == ("viewed", None, "L1")
    assert b"Ada Byron" not in bytes(consent.draft_sealed)
    assert consent.events.last().type == "answered"
    assert "Ada" not in str(list(consent.events.values()))
    services.answer_consent(consent, **studio.form(consent))  # sent twice
    assert consent.events.filter(type="answered").count() == 1


def test_a_clip_that_passes_completes_the_yes_with_its_evidence(studio) -> None:
    challenge = studio.send(studio.issued())
    assert challenge.state == State.SUBMITTED
    studio.check(challenge)
    consent = challenge.consent
    assert (challenge.state, consent.state, consent.assurance) == (State.PASSED, "given", "L2")
    assert consent.typed_name == "Ada Byron"
    assert consent.draft_sealed is None
    assert consent.notice_text == services.consent_text(consent, "en").text
    assert consent.evidence["challenge_id"] == challenge.pk
    assert consent.evidence["selfie_match"] == MATCH | {"clip_sha256": challenge.clip_sha256, "decided_by": "policy"}
    assert consent.ticks["selfie_match"] is True
    last = consent.events.last()
    assert (last.type, last.data["assurance"], last.data["challenge"]) == ("given", "L2", challenge.pk)


def test_a_clip_that_fails_leaves_the_answer_for_another_try(studio) -> None:
    challenge = studio.check(studio.send(studio.issued()), "fail", ("wrong_order", "no_motion"))
    assert (challenge.state, challenge.codes) == (State.FAILED, ["wrong_order", "no_motion"])
    assert (challenge.consent.state, challenge.consent.assurance) == ("viewed", "L1")
    again = services.issue_challenge(challenge.consent)
    assert again.pk != challenge.pk
    studio.check(studio.send(again))
    again.consent.refresh_from_db()
    assert again.consent.state == "given"


@pytest.mark.parametrize("verdict", ["", "PASS", "maybe"])
def test_what_is_not_a_verdict_is_no_pass(studio, verdict: str) -> None:
    challenge = studio.check(studio.send(studio.issued()), verdict)
    assert (challenge.state, challenge.codes) == (State.FAILED, ["check_failed"])
    assert challenge.consent.state == "viewed"


@pytest.mark.parametrize(
    ("purpose", "profile", "state"),
    [
        ("personal", "standard", "given"),
        ("social", "standard", "viewed"),
        ("film", "strict", "viewed"),
        ("social", "evaluation", "given"),
    ],
)
def test_public_use_is_looked_at_by_a_person_even_if_all_is_well(
    studio, settings, purpose: str, profile: str, state: str
) -> None:
    settings.PROFILE = profile
    challenge = studio.check(studio.send(studio.issued(purposes=[purpose])))
    assert challenge.consent.state == state
    if state == "viewed":
        assert (challenge.state, challenge.codes) == (State.REVIEW, ["public_use"])


@pytest.mark.parametrize("release", [True, False])
def test_a_reviewer_decides_once_with_a_reason(studio, release: bool) -> None:
    challenge = studio.check(studio.send(studio.issued()), "review", ("face_unsure",))
    assert challenge.state == State.REVIEW
    assert challenge.consent.state == "viewed"
    decide = services.release_challenge if release else services.reject_challenge
    assert _refused(decide, challenge, by="usr_mod", reason=" ").code == "reason_invalid"
    decide(challenge, by="usr_mod", reason="The same person, a new beard.")
    challenge.refresh_from_db()
    challenge.consent.refresh_from_db()
    assert challenge.state == (State.PASSED if release else State.FAILED)
    assert challenge.consent.state == ("given" if release else "viewed")
    assert challenge.reason == "The same person, a new beard."
    assert b"beard" not in bytes(challenge.reason_sealed)
    for verb in (services.release_challenge, services.reject_challenge):
        assert _refused(verb, challenge, by="usr_mod", reason="Once more.").code == "review_closed"
    outbox.relay()
    words = mail.outbox[-1]
    assert words.to == ["ada@example.org"]
    assert ("was accepted" in words.body) == release
    if release:
        assert challenge.consent.evidence["selfie_match"]["decided_by"] == "usr_mod"


def test_the_same_clip_again_is_answered_as_the_first_time(studio) -> None:
    challenge = studio.send(studio.issued())
    first = challenge.clip_name
    for state in (State.SUBMITTED, State.CHECKING, State.REVIEW, State.PASSED, State.FAILED):
        Challenge.objects.update(state=state)
        again = studio.send(challenge)
        assert (again.pk, again.clip_name) == (challenge.pk, first)
        assert _refused(studio.send, challenge, b"another clip").code == "challenge_used"
    assert OutboxMessage.objects.filter(topic="task").count() == 1
    assert challenge.consent.events.filter(type="challenge_sent").count() == 1
    assert storage.exists(first)


def test_what_is_not_taken_is_not_kept(studio, settings) -> None:
    challenge = studio.issued()
    other = studio.issued(contact="other@example.org")
    big = 24 * 1024 * 1024 + 1
    for code, act in {
        "clip_too_large": lambda: studio.send(challenge, size=big),
        "clip_invalid": lambda: studio.send(challenge, mime="image/jpeg"),
        "challenge_unknown": lambda: services.submit_clip(
            challenge.consent, other.pk, io.BytesIO(CLIP), mime="video/webm", size=len(CLIP)
        ),
    }.items():
        assert _refused(act).code == code
    assert _refused(studio.send, challenge, b"").code == "clip_invalid"
    Challenge.objects.update(expires_at=timezone.now())
    assert _refused(studio.send, challenge).code == "challenge_expired"
    challenge.refresh_from_db()
    assert (challenge.clip_name, challenge.submitted_at) == ("", None)
    assert not list(storage.objects(older_than=timezone.now() + timedelta(days=1))) or not [
        name for name in storage.objects(older_than=timezone.now() + timedelta(days=1)) if name in work.objects()
    ]


def test_tries_are_limited_per_day_and_our_own_faults_do_not_count(studio) -> None:
    consent = studio.answered()
    for number in range(challenges.CLIPS_PER_DAY):
        codes = ("worker_crash",) if number == 0 else ("no_motion",)
        studio.check(studio.send(services.issue_challenge(consent), CLIP + bytes([number])), "fail", codes)
    studio.check(studio.send(services.issue_challenge(consent), b"the fifth that counts"), "fail", ("no_motion",))
    error = _refused(services.issue_challenge, consent)
    assert (error.code, error.status) == ("challenge_attempts", 429)
    consent.refresh_from_db()
    assert consent.draft_sealed is not None
    Challenge.objects.update(issued_at=timezone.now() - timedelta(days=1, seconds=1))
    assert services.issue_challenge(consent).state == State.ISSUED


def test_nobody_waits_for_easy_movements(studio) -> None:
    consent = studio.answered()
    for _ in range(challenges.ISSUED_PER_DAY):
        services.issue_challenge(consent)
        Challenge.objects.update(expires_at=timezone.now())
    assert _refused(services.issue_challenge, consent).code == "challenge_attempts"


def test_a_question_that_closed_ends_its_check_and_its_clip(studio) -> None:
    challenge = studio.send(studio.issued())
    owner = leases.new_owner()
    work.claim(challenge.pk, owner)
    services.refuse_consent(challenge.consent)
    assert not services.settle_check(challenge.pk, owner, verdict="pass", codes=[], report=REPORT, match=MATCH)
    challenge.refresh_from_db()
    assert (challenge.state, challenge.codes) == (State.EXPIRED, ["consent_closed"])
    name = challenge.clip_name
    assert challenge_upkeep.forget_clips() == 1
    assert not storage.exists(name)
    challenge.refresh_from_db()
    assert (challenge.clip_name, bool(challenge.clip_sha256)) == ("", True)


def test_the_clip_goes_when_its_dispute_time_is_over_or_the_permission_is_taken_back(studio, settings) -> None:
    settings.CHALLENGE_RETENTION_DAYS = 30
    challenge = studio.check(studio.send(studio.issued()))
    assert challenge_upkeep.forget_clips() == 0
    assert challenge_upkeep.forget_clips(timezone.now() + timedelta(days=30, seconds=1)) == 1
    assert not storage.exists(challenge.clip_name)
    other = studio.check(studio.send(studio.issued(contact="other@example.org")))
    services.withdraw_consent(other.consent)
    assert challenge_upkeep.forget_clips() == 1


def test_a_check_under_way_does_not_lapse_and_its_answer_does_not_change(studio) -> None:
    challenge = studio.issued()
    soon = timezone.now() + timedelta(seconds=30)
    Consent.objects.update(link_expires_at=soon)
    studio.send(challenge)
    assert services.expire_due(soon + timedelta(minutes=1)) == 0
    consent = challenge.consent
    consent.refresh_from_db()
    assert _refused(services.answer_consent, consent, **studio.form(consent)).code == "challenge_pending"
    assert _refused(services.issue_challenge, consent).code == "challenge_pending"


def test_a_dead_workers_check_is_done_by_the_next_and_given_up_at_last(studio, settings) -> None:
    challenge = studio.send(studio.issued())
    for _ in range(settings.MAX_STARTS_WITHOUT_PROGRESS):
        assert work.claim(challenge.pk, leases.new_owner()) is not None
        assert work.claim(challenge.pk, leases.new_owner()) is None
        Challenge.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
        assert work.reap() == 1
    challenge.refresh_from_db()
    assert (challenge.state, challenge.codes) == (State.FAILED, ["worker_crash"])
    assert challenge.consent.events.filter(type="challenge_failed").count() == 1


def test_a_lost_message_is_sent_again(studio) -> None:
    challenge = studio.send(studio.issued())
    OutboxMessage.objects.all().delete()
    assert work.sweep() == 0
    Challenge.objects.update(queued_at=timezone.now() - timedelta(minutes=1))
    assert work.sweep() == 1
    assert OutboxMessage.objects.get(topic="task").payload["args"] in ([challenge.pk], {})


def test_whom_the_clip_must_match(studio, house) -> None:
    donor = studio.answered(photos=[house.photo, house.photo_two], contact="")
    assert challenges.wanted_faces(services.issue_challenge(donor)) == [("ast_photo", 0), ("ast_photo2", 1)]
    target = studio.answered("target_person", contact="")
    assert challenges.wanted_faces(services.issue_challenge(target)) == [("ast_target", 2)]
    twice = [TARGET, replace(TARGET, face=3)]
    both = studio.answered("target_person", contact="", target=None, targets=twice)
    assert challenges.wanted_faces(services.issue_challenge(both)) == [("ast_target", 2), ("ast_target", 3)]


def test_what_the_account_learns_is_one_word(studio) -> None:
    consent = studio.answered()
    assert services.check_state(consent) == "waiting"
    challenge = services.issue_challenge(consent)
    studio.send(challenge)
    assert services.check_state(consent) == "checking"
    studio.check(challenge, "fail", ("other_face",))
    assert services.check_state(consent) == "waiting"


def test_the_database_itself_refuses_a_yes_below_the_level_asked(studio) -> None:
    consent = studio.answered()
    for door in (
        lambda: services.give_consent(consent, **studio.form(consent)),
        lambda: services.view_consent(consent) and services.give_consent(consent, **studio.form(consent)),
    ):
        assert _refused(door).code == "assurance_required"
    with pytest.raises(IntegrityError), transaction.atomic():
        Consent.objects.filter(pk=consent.pk).update(state="given")


class Paths(RuleBasedStateMachine):
    """Any order of steps by the person, the worker and a moderator: `given` only ever by a check that passed."""

    def __init__(self) -> None:
        super().__init__()
        self.atomic = transaction.atomic()
        self.atomic.__enter__()
        self.studio = Studio(House())
        self.consent, _ = self.studio.house.ask(assurance="L2", purposes=["personal"], contact="")
        self.passed = False

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.atomic.__exit__(None, None, None)

    def _try(self, act, *arguments, **more):
        try:
            with transaction.atomic():
                return act(*arguments, **more)
        except ConsentError:
            return None

    @property
    def challenge(self) -> Challenge | None:
        return challenges.latest(self.consent)

    @rule()
    def give(self) -> None:
        self._try(services.give_consent, self.consent, **self.studio.form(self.consent))

    @rule()
    def answer(self) -> None:
        self._try(services.answer_consent, self.consent, **self.studio.form(self.consent))

    @rule()
    def view(self) -> None:
        self._try(services.view_consent, self.consent)

    @rule()
    def issue(self) -> None:
        self._try(services.issue_challenge, self.consent)

    @precondition(lambda self: self.challenge is not None)
    @rule(data=st.sampled_from([b"one", b"two"]))
    def send(self, data: bytes) -> None:
        self._try(self.studio.send, self.challenge, data)

    @precondition(lambda self: self.challenge is not None)
    @rule(verdict=st.sampled_from(["pass", "review", "fail", "nonsense"]))
    def check(self, verdict: str) -> None:
        owner = leases.new_owner()
        if work.claim(self.challenge.pk, owner) is not None:
            self._try(
                services.settle_check, self.challenge.pk, owner, verdict=verdict, codes=[], report=REPORT, match=MATCH
            )
            self.passed |= verdict == "pass"

    @precondition(lambda self: self.challenge is not None)
    @rule(release=st.booleans())
    def judge(self, release: bool) -> None:
        in_review = self.challenge.state == State.REVIEW
        act = services.release_challenge if release else services.reject_challenge
        self._try(act, self.challenge, by="usr_mod", reason="I looked at it.")
        self.passed |= in_review and release

    @rule()
    def refuse(self) -> None:
        self._try(services.refuse_consent, self.consent)

    @rule()
    def stale(self) -> None:
        Challenge.objects.update(expires_at=timezone.now())
        challenge_upkeep.expire_challenges()

    @invariant()
    def given_only_after_a_pass(self) -> None:
        self.consent.refresh_from_db()
        if self.consent.state not in ("requested", "viewed", "refused", "lapsed"):
            assert self.passed
            assert self.consent.assurance == "L2"
            assert self.consent.challenges.filter(state=State.PASSED).count() == 1
        open_ones = self.consent.challenges.filter(state__in=["issued", "submitted", "checking", "review"])
        assert open_ones.count() <= 1


def test_no_path_leads_to_given_below_the_level_asked(db) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        Paths,
        settings=settings(
            max_examples=12,
            stateful_step_count=15,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_an_erasure_takes_the_clip_at_once_and_what_was_written_about_it(studio) -> None:
    challenge = studio.check(studio.send(studio.issued()), "review", ("identity_unsure",))
    services.release_challenge(challenge, by="usr_mod", reason="The same person, a new beard.")
    challenge.refresh_from_db()
    name = challenge.clip_name
    assert storage.exists(name)
    assert "videos of live checks, with their stills" in {
        line.what for line in erasure.survey(challenge.consent.subject)
    }
    report = erasure.erase_subject(challenge.consent.subject, by="operator")
    assert report.finished
    assert not storage.exists(name)
    challenge.refresh_from_db()
    assert (challenge.clip_name, challenge.stills, challenge.reason_sealed) == ("", [], None)
    assert challenge.clip_sha256
