"""Uses are counted once, never beyond the limit, and never reached but from a given permission."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consent import services
from consent.errors import ConsentError
from consent.models import Consent, Use
from tests.databases import fresh_postgresql

pytestmark = pytest.mark.django_db


def _reserve(house, consent: Consent, job: str, **use):
    return services.reserve_use(consent.id, job_id=job, use=house.use(**use))


def test_no_more_is_reserved_than_allowed(house) -> None:
    consent = house.given(max_outputs=2)
    assert _reserve(house, consent, "job_1").ok
    assert _reserve(house, consent, "job_2").ok
    decision = _reserve(house, consent, "job_3")
    assert (decision.ok, decision.rule) == (False, "consent_exhausted")
    assert consent.uses.count() == 2


def test_one_job_reserves_once_however_often_it_asks(house) -> None:
    consent = house.given()
    for _ in range(3):
        assert _reserve(house, consent, "job_1").ok
    assert consent.uses.count() == 1
    assert consent.events.filter(type="reserved").count() == 1


def test_a_released_reservation_is_free_for_another_job(house) -> None:
    consent = house.given()
    assert _reserve(house, consent, "job_1").ok
    services.release_use(consent.id, "job_1")
    services.release_use(consent.id, "job_1")
    assert consent.events.filter(type="released").count() == 1
    assert _reserve(house, consent, "job_2").ok
    assert _reserve(house, consent, "job_1").rule == "consent_exhausted"
    with pytest.raises(ConsentError) as error:
        services.count_use(consent.id, "job_1")
    assert error.value.code == "use_not_reserved"


def test_the_last_use_exhausts_the_permission_and_still_covers_its_own_job(house, effects) -> None:
    consent = house.given()
    assert _reserve(house, consent, "job_1").ok
    effects.clear()
    services.count_use(consent.id, "job_1")
    services.count_use(consent.id, "job_1")
    consent.refresh_from_db()
    assert consent.state == "exhausted"
    assert effects == [(consent.pk, "given", "exhausted")]
    assert consent.events.filter(type="used").count() == 1
    assert _reserve(house, consent, "job_1").ok
    assert _reserve(house, consent, "job_2").rule == "consent_exhausted"
    services.release_use(consent.id, "job_1")
    assert consent.uses.get().state == Use.State.COUNTED


@pytest.mark.parametrize("end", ["withdraw", "revoke", "expire"])
def test_a_reserved_use_is_not_counted_after_the_permission_ended(house, end) -> None:
    consent = house.given()
    assert _reserve(house, consent, "job_1").ok
    if end == "withdraw":
        services.withdraw_consent(consent)
    elif end == "revoke":
        services.revoke_consent(consent, reason="fraud")
    else:  # the moment itself counts, not the timer that records it
        Consent.objects.filter(pk=consent.pk).update(valid_until=timezone.now() - timedelta(seconds=1))
    rule = {"withdraw": "consent_withdrawn", "revoke": "consent_revoked", "expire": "consent_expired"}[end]
    with pytest.raises(ConsentError) as error:
        services.count_use(consent.id, "job_1")
    assert error.value.code == rule
    assert _reserve(house, consent, "job_1").rule == rule
    assert consent.uses.get().state == Use.State.RESERVED
    assert not consent.events.filter(type="used").exists()


@pytest.mark.parametrize(
    "state",
    ["requested", "viewed", "refused", "lapsed", "expired", "withdrawn", "revoked", "superseded"],
)
def test_nothing_is_reserved_but_from_a_given_permission(house, state) -> None:
    consent = house.in_state(state)
    assert not _reserve(house, consent, "job_1").ok
    assert not consent.uses.exists()


def test_an_unknown_permission_is_not_found() -> None:
    with pytest.raises(ConsentError) as error:
        services.count_use("cns_none", "job_1")
    assert (error.value.code, error.value.status) == ("not_found", 404)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["view", "give", "refuse", "withdraw", "revoke", "expire", "reserve", "count", "release"]),
        st.sampled_from(["job_1", "job_2", "job_3"]),
    ),
    max_size=12,
)


@given(STEPS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_path_counts_a_use_but_in_force_nor_too_many(house, steps) -> None:
    with transaction.atomic():
        consent, _ = house.ask(contact="", max_outputs=2)
        for verb, job in steps:
            before = Consent.objects.get(pk=consent.pk)
            used = before.uses.filter(state=Use.State.COUNTED).count()
            with contextlib.suppress(ConsentError):
                {
                    "view": lambda: services.view_consent(consent),
                    "give": lambda: house.answer(consent),
                    "refuse": lambda: services.refuse_consent(consent),
                    "withdraw": lambda: services.withdraw_consent(consent),
                    "revoke": lambda: services.revoke_consent(consent, reason="x"),
                    "expire": lambda: services.expire_due(timezone.now() + timedelta(days=400)),
                    "reserve": lambda job=job: _reserve(house, consent, job),
                    "count": lambda job=job: services.count_use(consent.id, job),
                    "release": lambda job=job: services.release_use(consent.id, job),
                }[verb]()
            consent.refresh_from_db()
            held = consent.uses.exclude(state=Use.State.RELEASED).count()
            assert held <= consent.max_outputs
            if consent.uses.filter(state=Use.State.COUNTED).count() > used:
                assert before.state == "given"
        transaction.set_rollback(True)


RACE = """
import os, sys, threading
os.environ["DATABASE_URL"] = {url!r}
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
import django
django.setup()
from django.core.management import call_command
from django.db import connection, connections
from django.utils import timezone
from consent import models, services, transitions
from consent.policy import UseFacts
transitions._effects.clear()
if {create!r}:
    with connection.schema_editor() as editor:
        for model in (
            models.Subject, models.Consent, models.Event, models.Use, models.Block, models.LedgerEntry,
            models.Restriction, models.Wishes,
        ):
            editor.create_model(model)
    with connections["keys"].schema_editor() as editor:
        editor.create_model(models.DataKey)
photo, target = services.PhotoRef("p", "a" * 64), services.TargetRef("t", "c" * 64)
consent, _ = services.request_consent(
    organisation_id="org", organisation_name="O", requested_by="C", role="face_donor", name="Ada", contact="",
    purposes=["personal"], photos=[photo], target=target, max_outputs=3, livemode=False)
notice = services.consent_text(consent, "en")
services.give_consent(consent, ticks={{n: True for n, _ in notice.boxes}}, typed_name="Ada B",
    confirmed_photos=consent.photo_sha256s, notice_sha256=notice.sha256)
use = UseFacts(role="face_donor", purpose="personal", photo_sha256s=frozenset({{photo.sha256}}),
    target_sha256=target.sha256, target_face=0, organisation_id="org", seconds=None, at=timezone.now())
start, answers, errors = threading.Barrier(8), [], []
def work(number):
    try:
        start.wait()
        answers.append(services.reserve_use(consent.id, job_id=f"job_{{number}}", use=use).ok)
    except Exception as error:
        errors.append(repr(error))
    finally:
        connections.close_all()
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
assert not errors, errors
assert sorted(answers) == [False] * 5 + [True] * 3, answers
assert consent.uses.count() == 3
start, answers = threading.Barrier(8), []
def give(number):
    try:
        start.wait()
        answers.append(services.withdraw_consent(models.Consent.objects.get(pk=consent.pk)).state)
    finally:
        connections.close_all()
threads = [threading.Thread(target=give, args=(n,)) for n in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
assert answers == ["withdrawn"] * 8, answers
assert consent.events.filter(type="withdrawn").count() == 1
if connection.vendor == "postgresql":
    # Two people of one job withdraw at once, and each one's effect needs the other's row.
    pair, meet, undone = [], threading.Barrier(2), []
    for _ in range(2):
        each, _token = services.request_consent(
            organisation_id="org", organisation_name="O", requested_by="C", role="face_donor", name="Ada", contact="",
            purposes=["personal"], photos=[photo], target=target, livemode=False)
        notice = services.consent_text(each, "en")
        services.give_consent(each, ticks={{n: True for n, _ in notice.boxes}}, typed_name="Ada B",
            confirmed_photos=each.photo_sha256s, notice_sha256=notice.sha256)
        pair.append(each)
    def needs_the_other(changed, old, new):
        try:
            meet.wait(5)
        except threading.BrokenBarrierError:
            undone.append(changed.pk)
        transitions.lock(next(each.pk for each in pair if each.pk != changed.pk))
    services.register_effect(needs_the_other)
    done, errors = [], []
    def take_back(each):
        try:
            done.append(services.withdraw_consent(each).state)
        except Exception as error:
            errors.append(repr(error))
        finally:
            connections.close_all()
    threads = [threading.Thread(target=take_back, args=(each,)) for each in pair]
    [t.start() for t in threads]; [t.join() for t in threads]
    assert done == ["withdrawn"] * 2 and not errors, (done, errors)
    assert undone, "the two never waited for each other"
print("held")
"""


def _race(url: str, home, create: bool = True) -> None:
    script = textwrap.dedent(RACE).format(url=url, create=create)
    environment = {**os.environ, "IMPRIMATUR_TEST_HOME": str(home), "IMPRIMATUR_HOME": str(home), "PYTHONPATH": "."}
    environment.pop("PYTEST_XDIST_WORKER", None)
    (home / "main" / "keys").mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip().endswith("held"), done.stderr


def test_eight_threads_on_one_sqlite_file_reserve_no_more_than_three(tmp_path) -> None:
    _race(f"sqlite:///{tmp_path / 'race.sqlite3'}", tmp_path)


@pytest.mark.postgres
def test_eight_threads_on_postgresql_reserve_no_more_than_three(tmp_path) -> None:
    with fresh_postgresql() as url:
        _race(url, tmp_path)
