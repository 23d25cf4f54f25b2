"""The whole scope, from the question to the job: what the person did not allow is refused, and says which rule."""

from __future__ import annotations

from typing import Any

import pytest

from consent import services as consents
from consent.models import Consent
from tests.webapp import cast
from webapp.jobs import permission
from webapp.jobs.errors import JobsError
from webapp.jobs.models import Job

pytestmark = pytest.mark.django_db


def asked(stage: Any, source: Any, **scope: Any) -> Consent:
    return stage.ask("face_donor", source, max_outputs=3, scope=consents.Scope(**scope))


@pytest.mark.parametrize(
    ("scope", "options", "rule"),
    [
        ({"territories": ["DE", "FR"]}, {"territories": ["DE"]}, ""),
        ({"territories": ["DE", "FR"]}, {"territories": ["DE", "CN"]}, "consent_other_territory"),
        ({"territories": ["DE", "FR"]}, {}, "consent_other_territory"),  # nothing said: everywhere
        ({"territories": ["CN"]}, {"jurisdictions": ["cn"]}, ""),
        ({"territories": ["CN"]}, {"jurisdictions": ["cn", "us-ca"]}, "consent_other_territory"),
        ({"partners": ["Big Screen Ltd"]}, {"partner": "Big Screen Ltd"}, ""),
        ({"partners": ["Big Screen Ltd"]}, {"partner": "Other Ltd"}, "consent_other_partner"),
        ({}, {"partner": "Other Ltd"}, "consent_other_partner"),
        ({"political": True}, {"political": True}, ""),
        ({}, {"political": True}, "consent_no_political"),
    ],
)
def test_a_job_keeps_to_places_partners_and_politics(stage: Any, scope: Any, options: Any, rule: str) -> None:
    source, target = stage.ready("source"), stage.ready("target")
    donor = asked(stage, source, **scope)
    person = stage.ask("target_person", target, scope=consents.Scope(**scope))
    parts = {"source": source, "target": target, "donor_consent": donor, "target_consent": person, "options": options}
    if not rule:
        assert stage.submit(**parts).state == "queued"
        return
    with pytest.raises(JobsError) as error:
        stage.submit(**parts)
    assert error.value.code == rule
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    "options", [{"territories": ["XX"]}, {"territories": "DE"}, {"partner": "a\nb"}, {"political": 1}, {"partner": 3}]
)
def test_a_job_that_says_it_badly_is_refused(stage: Any, options: Any) -> None:
    with pytest.raises(JobsError) as error:
        stage.submit(options=options)
    assert error.value.code == "option_invalid"


def test_seconds_in_all_are_counted_when_a_job_reserves_and_given_back_when_it_does_not_publish(stage: Any) -> None:
    source = stage.ready("source")
    target = stage.ready("target", media={"duration": 6.0})
    donor = asked(stage, source, max_total_seconds=10.0)
    person = stage.ask("target_person", target, max_outputs=3)
    parts = {"source": source, "target": target, "donor_consent": donor, "target_consent": person}
    first = stage.run(stage.screened(stage.submit(**parts)))
    assert consents.left_of(donor) == (2, 4.0)
    with pytest.raises(JobsError) as error:
        stage.submit(**parts)
    assert error.value.code == "consent_seconds_used_up"
    from webapp.jobs import services

    services.cancel_job(first)
    assert consents.left_of(donor) == (3, 10.0)
    stage.publish(stage.run(stage.screened(stage.submit(**parts))))
    assert consents.left_of(donor) == (2, 4.0)


def test_one_person_may_allow_several_targets_and_no_other(stage: Any) -> None:
    source, (one, two, three) = stage.ready("source"), [stage.ready("target") for _ in range(3)]
    refs = [consents.TargetRef(each.pk, each.sha256, 0) for each in (one, two)]
    donor = stage.ask("face_donor", source, max_outputs=3, targets=refs)
    assert "the 2 pictures or videos shown here" in donor.notice_text
    for target in (one, two):
        stage.submit(source=source, target=target, donor_consent=donor)
    with pytest.raises(JobsError) as error:
        stage.submit(source=source, target=three, donor_consent=donor)
    assert error.value.code == "consent_other_target"


@pytest.mark.parametrize("locale", ["en", "zh-hans"])
def test_the_person_reads_all_of_the_scope(stage: Any, locale: str) -> None:
    source = stage.ready("source")
    scope = consents.Scope(
        partners=["Big Screen Ltd"],
        territories=["FR", "DE"],
        intended_use="A poster for the summer play",
        relationship="employee",
        political=True,
        max_seconds=30,
        max_total_seconds=90.5,
    )
    consent = stage.ask("face_donor", source, give=False, scope=scope, locale=locale)
    notice = consents.consent_text(consent, locale)
    places = {"en": "Germany, France", "zh-hans": "德国、法国"}
    employee = {"en": "You are free to say no", "zh-hans": "您完全可以拒绝"}
    for words in ("Big Screen Ltd", "A poster for the summer play", "30", "90.5", places[locale], employee[locale]):
        assert words in notice.text
    assert notice.boxes[-1][0] == "political"
    plain = consents.consent_text(stage.ask("face_donor", source, give=False), locale)
    assert "political" not in dict(plain.boxes)
    assert "Big Screen" not in plain.text


def test_politics_need_the_persons_own_tick(stage: Any) -> None:
    source = stage.ready("source")
    for ticked in (True, False):
        consent = stage.ask("face_donor", source, give=False, scope=consents.Scope(political=True))
        notice = consents.consent_text(consent, "en")
        consents.give_consent(
            consent,
            ticks={name: True for name, _ in notice.boxes if ticked or name != "political"},
            typed_name="Ada Byron",
            confirmed_photos=consent.photo_sha256s,
            notice_sha256=notice.sha256,
        )
        consent.refresh_from_db()
        assert consent.no_political is not ticked
    consent = stage.ask("face_donor", source, give=False)
    sha256 = consents.consent_text(consent, "en").sha256
    ticks = {"political": True}
    with pytest.raises(consents.ConsentError) as error:
        consents.give_consent(consent, ticks=ticks, typed_name="Ada", confirmed_photos=[], notice_sha256=sha256)
    assert error.value.code == "consent_form_invalid"


@pytest.mark.parametrize(
    ("scope", "field"),
    [
        ({"territories": ["EU"]}, "territories"),
        ({"territories": ["de"]}, "territories"),
        ({"partners": ["a\nb"]}, "partners"),
        ({"partners": ["Big"] * 11}, "partners"),
        ({"relationship": "boss"}, "relationship"),
        ({"intended_use": "x" * 501}, "intended_use"),
        ({"max_seconds": float("nan")}, "max_seconds"),
        ({"max_total_seconds": 0}, "max_total_seconds"),
        ({"max_total_seconds": 1e9}, "max_total_seconds"),
    ],
)
def test_a_scope_that_cannot_be_is_refused(stage: Any, scope: Any, field: str) -> None:
    with pytest.raises(consents.ConsentError) as error:
        stage.ask("face_donor", stage.ready("source"), give=False, scope=consents.Scope(**scope))
    assert field in error.value.fields


def test_the_intended_use_lies_sealed(stage: Any) -> None:
    consent = stage.ask("face_donor", stage.ready("source"), scope=consents.Scope(intended_use="For MARKER's play"))
    assert consent.intended_use == "For MARKER's play"
    row = Consent.objects.filter(pk=consent.pk).values().get()
    assert not any(b"MARKER" in bytes(value) for value in row.values() if isinstance(value, bytes))
    assert "MARKER" not in str({name: value for name, value in row.items() if not isinstance(value, bytes)})


def test_the_api_asks_for_all_of_it_and_shows_what_is_left(cleo: cast.Account) -> None:
    source, target = cast.ready(cleo, "source"), cast.ready(cleo, "target")
    body = {
        "role": "face_donor",
        "name": "Ada",
        "purposes": ["personal"],
        "photos": [{"asset": source.pk}],
        "targets": [{"asset": target.pk, "face": 0}],
        "territories": ["FR", "DE"],
        "partners": ["Big Screen Ltd"],
        "relationship": "talent",
        "political": True,
        "max_outputs": 2,
        "max_total_seconds": 20,
    }
    made = cleo.browser.post("/v1/consent_requests", body, content_type="application/json", headers=cleo.api)
    assert made.status_code == 201, made.content
    shown = made.json()
    assert shown["targets"] == [{"asset": target.pk, "face": 0}] == [shown["target"]]
    assert (shown["territories"], shown["outputs_left"], shown["seconds_left"]) == (["DE", "FR"], 2, 20.0)
    listed = cleo.browser.get("/v1/consents?state=requested", headers=cleo.api).json()["data"]
    assert [each["id"] for each in listed] == [shown["id"]]
    assert cleo.browser.get("/v1/consents?state=given", headers=cleo.api).json()["data"] == []
    assert cleo.browser.get("/v1/consents?state=gone", headers=cleo.api).json()["code"] == "state_unknown"
    wrong = {**body, "territories": ["ZZ"]}
    answer = cleo.browser.post("/v1/consent_requests", wrong, content_type="application/json", headers=cleo.api)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/territories")


def test_what_a_job_asks_for_is_what_its_options_say(stage: Any) -> None:
    job = stage.submit(options={"jurisdictions": ["eu"]}, livemode=False)
    use = permission.uses(job)[0][1]
    assert use.territories is not None
    assert len(use.territories) == 27
    assert not use.political
