"""Every path through the verbs, walked at random against a model of product requirement 1.4."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from consent import services
from consent.errors import ConsentError
from consent.models import Consent, Use
from tests.consent.conftest import House

pytestmark = pytest.mark.django_db

JOBS = st.sampled_from(["job_1", "job_2", "job_3"])
# Requirement 1.4 in the words of DESIGN.md section 4; what is not here must not happen.
NEXT = {
    "requested": {"viewed", "refused", "lapsed"},
    "viewed": {"given", "refused", "lapsed"},
    "given": {"expired", "exhausted", "withdrawn", "revoked", "superseded"},
    "expired": {"withdrawn", "revoked"},
    "exhausted": {"withdrawn", "revoked"},
    "superseded": {"withdrawn", "revoked"},
}
FINAL = {"refused", "lapsed", "withdrawn", "revoked"}


@dataclass
class Model:
    """What should be the case for one consent."""

    id: str
    most: int
    budget: float | None
    state: str = "requested"
    over: bool = False  # the time of the permission has run out, whether or not the timer has seen it
    link_over: bool = False
    uses: dict[str, tuple[str, float]] = field(default_factory=dict)

    def held(self) -> list[float]:
        return [seconds for state, seconds in self.uses.values() if state != "released"]

    def counted(self) -> int:
        return sum(state == "counted" for state, _ in self.uses.values())


class Consents(RuleBasedStateMachine):
    """Several people are asked and answer in any order; jobs reserve, publish and give back in between."""

    consents = Bundle("consents")

    def __init__(self) -> None:
        super().__init__()
        self.house = House()
        self.models: list[Model] = []
        self.atomic = transaction.atomic()
        self.atomic.__enter__()

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.atomic.__exit__(None, None, None)

    @rule(
        target=consents,
        most=st.integers(1, 2),
        budget=st.none() | st.sampled_from([5.0, 10.0]),
    )
    def ask(self, most: int, budget: float | None) -> Model:
        scope = services.Scope(max_total_seconds=budget)
        consent = self._ask(max_outputs=most, scope=scope)
        self.models.append(Model(consent.pk, most, budget))
        return self.models[-1]

    @rule(target=consents, older=consents)
    def ask_in_its_place(self, older: Model) -> Model:
        subject = Consent.objects.get(pk=older.id).subject
        # Without a contact a new person is asked each time; here it must be the same one.
        consent = self._ask(max_outputs=1)
        Consent.objects.filter(pk=consent.pk).update(supersedes=older.id, subject=subject)
        self.models.append(Model(consent.pk, 1, None))
        self.models[-1].replaces = older  # type: ignore[attr-defined]
        return self.models[-1]

    @rule(model=consents)
    def view(self, model: Model) -> None:
        services.view_consent(self._row(model))
        if model.state == "requested":
            model.state = "viewed"

    @rule(model=consents)
    def give(self, model: Model) -> None:
        if self._try(lambda: self.house.answer(self._row(model)), self._open(model)):
            model.state = "given"
            older = getattr(model, "replaces", None)
            if older is not None and older.state == "given" and all(s != "reserved" for s, _ in older.uses.values()):
                older.state = "superseded"

    @rule(model=consents)
    def refuse(self, model: Model) -> None:
        if self._try(lambda: services.refuse_consent(self._row(model)), self._open(model)):
            model.state = "refused"

    @rule(model=consents)
    def withdraw(self, model: Model) -> None:
        may = "withdrawn" in NEXT.get(model.state, ()) or model.state == "withdrawn"
        if self._try(lambda: services.withdraw_consent(self._row(model)), may):
            model.state = "withdrawn"

    @rule(model=consents, reason=st.sampled_from(["wrong_person", "fraud", "court"]))
    def revoke(self, model: Model, reason: str) -> None:
        may = "revoked" in NEXT.get(model.state, ())
        if self._try(lambda: services.revoke_consent(self._row(model), reason=reason), may):
            model.state = "revoked"
            assert self._row(model).events.get(type="revoked").code == reason

    @rule(model=consents)
    def its_time_runs_out(self, model: Model) -> None:
        Consent.objects.filter(pk=model.id).update(valid_until=timezone.now() - timedelta(seconds=1))
        model.over = True

    @rule(model=consents)
    def its_link_runs_out(self, model: Model) -> None:
        Consent.objects.filter(pk=model.id).update(link_expires_at=timezone.now() - timedelta(seconds=1))
        model.link_over = True

    @rule()
    def the_timer_comes_by(self) -> None:
        services.expire_due()
        for model in self.models:
            if model.state in {"requested", "viewed"} and model.link_over:
                model.state = "lapsed"
            elif model.state == "given" and model.over:
                model.state = "expired"

    @rule(model=consents, job=JOBS, seconds=st.sampled_from([0.0, 3.0, 6.0]))
    def reserve(self, model: Model, job: str, seconds: float) -> None:
        held = model.uses.get(job, ("released", 0.0))[0] != "released"
        room = len(model.held()) < model.most and (model.budget is None or sum(model.held()) + seconds <= model.budget)
        in_force = model.state == "given" or (model.state == "exhausted" and held)
        photos = frozenset(self._row(model).photo_sha256s)
        use = self.house.use(seconds=seconds, photo_sha256s=photos)
        decision = services.reserve_use(model.id, job_id=job, use=use)
        assert decision.ok == (in_force and not model.over and (held or room)), decision
        if decision.ok and not held:
            model.uses[job] = ("reserved", seconds)

    @rule(model=consents, job=JOBS)
    def publish(self, model: Model, job: str) -> None:
        state = model.uses.get(job, ("released", 0.0))[0]
        in_force = model.state in {"given", "exhausted"} and not model.over
        if self._try(lambda: services.count_use(model.id, job), state != "released" and in_force):
            model.uses[job] = ("counted", model.uses[job][1])
            if model.counted() >= model.most:
                model.state = "exhausted"

    @rule(model=consents, job=JOBS)
    def give_back(self, model: Model, job: str) -> None:
        services.release_use(model.id, job)
        if model.uses.get(job, ("", 0.0))[0] == "reserved":
            model.uses[job] = ("released", model.uses[job][1])

    @invariant()
    def all_is_as_it_should_be(self) -> None:
        for model in self.models:
            row = self._row(model)
            assert row.state == model.state
            assert {use.job_id: use.state for use in row.uses.all()} == {job: s for job, (s, _) in model.uses.items()}
            events = list(row.events.all())
            # Used only while given, once per job, never more often than allowed.
            used = [(event.state, event.data["job"]) for event in events if event.type == "used"]
            assert all(state == "given" for state, _ in used)
            assert len({job for _, job in used}) == len(used) == model.counted() <= model.most
            assert model.budget is None or sum(model.held()) <= model.budget
            # The states of the events form a legal path, and nothing follows a final one but what gives back.
            path = [events[0].state]
            for event in events[1:]:
                if event.state != path[-1]:
                    assert event.state in NEXT[path[-1]], (path, event.state)
                    path.append(event.state)
            assert not FINAL & set(path[:-1])
            ended = row.uses.filter(state=Use.State.COUNTED, changed_at__gt=row.ended_at) if row.ended_at else None
            assert ended is None or not ended.exists()

    def _ask(self, **scope: Any) -> Consent:
        """About a photo of its own: whoever said no is not asked about the same one again."""
        photo = services.PhotoRef("ast_photo", f"{len(self.models):064x}", 0)
        return self.house.ask(contact="", photos=[photo], **scope)[0]

    def _open(self, model: Model) -> bool:
        return model.state in {"requested", "viewed"} and not model.link_over and not model.over

    def _row(self, model: Model) -> Consent:
        return Consent.objects.get(pk=model.id)

    def _try(self, act: object, expected: bool) -> bool:
        """Did it work? It must work exactly when the model says so."""
        try:
            act()  # type: ignore[operator]
        except ConsentError:
            assert not expected
            return False
        assert expected
        return True


def _settings(examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],  # a found path is short enough to read, and shrinking takes minutes
        suppress_health_check=list(HealthCheck),
    )


def test_every_path_keeps_to_the_states_and_uses_only_what_is_given() -> None:
    run_state_machine_as_test(Consents, settings=_settings(20, 20))


@pytest.mark.soak
def test_very_many_paths_keep_to_the_states() -> None:
    run_state_machine_as_test(Consents, settings=_settings(1500, 60))
