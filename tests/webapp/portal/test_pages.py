"""What a person sees is theirs alone, and what they do takes effect in the services themselves."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import pytest
from django.core import mail
from django.urls import get_resolver

from consent import services
from consent.errors import ConsentError
from consent.models import Consent, Event, Use
from consent.portal.models import Note, Restriction, Wishes
from tests.webapp import cast
from tests.webapp.portal.conftest import ADA, BEN, Person
from webapp.jobs import running
from webapp.jobs.errors import JobsError
from webapp.jobs.models import Asset, Job, Output
from webapp.outbox import services as outbox
from webapp.pages.portal_export import archive
from webapp.pages.urls import urlpatterns

pytestmark = pytest.mark.django_db

RESULT = b"the very bytes of a result"


@pytest.fixture
def shown(made: tuple[Job, Output], tmp_path: Any) -> Output:
    """The published result with its file in place."""
    from consent import keys
    from webapp import storage

    output = made[1]
    path = tmp_path / "result.jpg"
    path.write_bytes(RESULT)
    key = keys.create_key(f"output:{output.pk}")
    name = storage.store_file(path, key_id=key, prefix="output")
    Output.objects.filter(pk=output.pk).update(object_name=name, key_id=key, size=len(RESULT))
    output.refresh_from_db()
    return output


def test_the_overview_and_the_permission_say_what_was_asked_and_made(ada: Person, shown: Output) -> None:
    ada.enter()
    home = ada.browser.get("/me").content.decode()
    assert "Cleo&#x27;s studio asks" in home
    assert "Results: 1" in home
    page = ada.browser.get(f"/me/consents/{ada.consent.pk}").content.decode()
    for fact in ("Your face is put into a picture", "Personal", "You agreed", "Made and published", "By your own link"):
        assert fact in page
    assert f"/verify/o/{shown.pk}" in page
    file = ada.browser.get(f"/me/works/{ada.job.pk}")
    assert b"".join(file.streaming_content) == RESULT
    assert "no-store" in file["Cache-Control"]


def test_the_other_language_is_kept_for_the_session(ada: Person) -> None:
    ada.enter()
    assert "您的面部在此" in ada.browser.get("/me?lang=zh-hans").content.decode()
    page = ada.browser.get(f"/me/consents/{ada.consent.pk}").content.decode()
    assert '<html lang="zh-Hans">' in page
    assert "将您的面部放入图片或视频" in page


def test_nobody_sees_or_changes_what_is_another_persons(ada: Person, ben: Person, shown: Output, stage: Any) -> None:
    """Every address of the portal that takes an id, with every id of the other: found is none of them."""
    ada.enter()
    other = stage.submit()  # a third and a fourth person
    foreign = {
        "consent_id": [ben.consent.pk, cast.donor(other).pk, "cns_nothing", "é", "%00"],
        "job_id": [other.pk, "job_nothing", "é", "%00"],
        "entry_id": ["lst_nothing", "é", "%00"],
    }
    from webapp.screening.listed import ListedFace

    foreign["entry_id"].append(ListedFace.objects.create(subject=ben.subject, key_id=ben.subject.key_id).pk)
    events, tried = Event.objects.count(), 0
    for pattern in urlpatterns:
        route = str(pattern.pattern)
        name = next((name for name in foreign if f"<str:{name}>" in route), None)
        if not route.startswith("me/") or name is None:
            continue
        for value in foreign[name]:
            address = "/" + route.replace(f"<str:{name}>", value)
            for response in (ada.browser.get(address), ada.browser.post(address, {"hold": "1"})):
                assert response.status_code in {404, 405}, (address, response.status_code)
                tried += 1
    assert tried >= 40
    assert get_resolver().resolve("/me/works/x").url_name == "portal_work"
    assert Event.objects.count() == events
    for consent in Consent.objects.all():
        assert consent.state == "given"
    text = ada.browser.get("/me").content.decode() + ada.browser.get(f"/me/consents/{ada.consent.pk}").content.decode()
    for marker in (BEN, "Ben Okri", ben.consent.pk, ben.subject.pk, cast.donor(other).pk):
        assert marker not in text


def test_a_consent_withdrawn_here_ends_like_one_withdrawn_by_the_link(ada: Person, shown: Output) -> None:
    ada.enter()
    address = f"/me/consents/{ada.consent.pk}/withdraw"
    assert ada.browser.get(address).status_code == 200
    assert Consent.objects.get(pk=ada.consent.pk).state == "given"
    assert ada.browser.post(address).status_code == 303
    ada.consent.refresh_from_db()
    shown.refresh_from_db()
    assert (ada.consent.state, shown.permission) == ("withdrawn", "withdrawn")
    assert ada.browser.post(address).status_code == 303
    page = ada.browser.get(f"/me/consents/{ada.consent.pk}").content.decode()
    assert "You withdrew" in page
    assert "Hidden, because permission was withdrawn" in page
    assert ada.browser.get(f"/me/works/{ada.job.pk}").status_code == 404


@pytest.mark.parametrize("everything", [False, True])
def test_a_hold_refuses_new_uses_until_it_is_lifted(ada: Person, stage: Any, everything: bool) -> None:
    ada.enter()
    address = "/me/hold" if everything else f"/me/consents/{ada.consent.pk}/hold"
    assert ada.browser.post(address, {"hold": "1"}).status_code == 303
    facts = services.facts_of(ada.consent)
    from webapp.jobs import permission

    use = next(use for consent, use in permission.uses(ada.job) if consent.pk == ada.consent.pk)
    assert services.reserve_use(ada.consent.pk, job_id="job_next", use=use).rule == "consent_restricted"
    assert facts.restricted
    assert not Use.objects.filter(job_id="job_next").exists()
    assert Consent.objects.get(pk=ada.consent.pk).state == "given"
    ada.browser.post(address, {"hold": "0"})
    assert services.reserve_use(ada.consent.pk, job_id="job_next", use=use).ok
    assert [e.type for e in ada.consent.events.all()][-3:] == ["restricted", "restriction_lifted", "reserved"]


@pytest.mark.parametrize("everything", [False, True])
def test_a_hold_stops_running_work_and_nothing_is_published(stage: Any, everything: bool) -> None:
    source = stage.ready("source")
    consent = stage.ask("face_donor", source, contact=ADA)
    job = stage.run(stage.screened(stage.submit(source=source, donor_consent=consent)))
    assert running.begin_finishing(job.pk, "worker")
    person = Person(ADA, consent, job)
    person.enter()
    mail.outbox.clear()
    person.browser.post("/me/hold" if everything else f"/me/consents/{consent.pk}/hold", {"hold": "1"})
    job.refresh_from_db()
    assert (job.state, job.failure_code, job.cancel_requested) == ("refused", "consent_restricted", True)
    with pytest.raises(JobsError):
        running.publish_output(job.pk, "worker", stage.draft(job))
    assert Output.objects.count() == 0
    assert Use.objects.get(consent=consent).state == "released"


def test_publishing_itself_asks_for_holds(stage: Any) -> None:
    """Also where the effect on jobs had not run: the count of the use refuses, under the lock."""
    job = stage.run(stage.screened(stage.submit()))
    Restriction.objects.create(consent=cast.donor(job), since=job.created_at)
    with pytest.raises(ConsentError) as refused:
        services.count_use(cast.donor(job).pk, job.pk)
    assert refused.value.code == "consent_restricted"
    assert running.begin_finishing(job.pk, "worker")
    with pytest.raises(JobsError) as caught:
        running.publish_output(job.pk, "worker", stage.draft(job))
    assert caught.value.code == "consent_restricted"
    assert Output.objects.count() == 0


def test_a_hold_on_everything_holds_what_is_agreed_to_later(ada: Person, stage: Any) -> None:
    ada.enter()
    ada.browser.post("/me/hold", {"hold": "1"})
    later = stage.ask("face_donor", stage.ready("source"), contact=ADA)
    assert services.facts_of(later).restricted
    ada.browser.post("/me/hold", {"hold": "0"})
    assert not services.facts_of(later).restricted


def test_limiting_biometrics_holds_and_destroys_the_pictures_with_their_descriptors(ada: Person, ben: Person) -> None:
    ada.enter()
    assert "destroyed" in ada.browser.get("/me/limit").content.decode()
    assert Wishes.objects.filter(limited_at__isnull=False).count() == 0
    ada.browser.post("/me/limit", {"limit": "1"})
    assert services.facts_of(ada.consent).restricted
    source = Asset.objects.get(pk=ada.consent.photos[0]["asset_id"])
    target = Asset.objects.get(pk=ben.consent.targets[0]["asset_id"])
    assert source.erased_at is not None
    assert source.faces == []
    assert target.erased_at is None
    ada.browser.post("/me/limit", {"limit": "0"})
    assert not services.facts_of(ada.consent).restricted


def test_the_signal_of_a_browser_against_sale_is_answered(ada: Person) -> None:
    ada.enter()
    assert b"Global Privacy Control" not in ada.browser.get("/me").content
    assert b"Global Privacy Control" in ada.browser.get("/me", headers={"Sec-GPC": "1"}).content
    assert ada.browser.get("/.well-known/gpc.json").json()["gpc"] is True


def publish_another(stage: Any, job: Job) -> Job:
    """Another result under the same two permissions."""
    again = stage.submit(
        source=cast.photo(job), target=job.target, donor_consent=cast.donor(job), target_consent=cast.replaced(job)
    )
    again = stage.run(stage.screened(again))
    stage.publish(again)
    return again


def told(person: Person) -> list[Any]:
    outbox.relay()
    outbox.relay()
    return [message for message in mail.outbox if message.to == [person.contact]]


def test_each_published_use_is_told_once_to_who_wants_it(ada: Person, ben: Person, stage: Any) -> None:
    ada.enter()
    ada.browser.post("/me/told", {"told": "1"})
    mail.outbox.clear()
    again = publish_another(stage, ada.job)
    services.count_use(ada.consent.pk, again.pk)  # a second time, as after a lost answer
    assert len(told(ada)) == 1
    assert told(ben) == []
    (message,) = told(ada)
    assert message.attachments == []
    assert "Cleo's studio published a result with your face" in message.body
    assert "/me" in message.body
    for never in ("Ben", again.pk, "/c/", "/v1/"):
        assert never not in message.body
    ada.browser.post("/me/told", {"told": "0"})
    mail.outbox.clear()
    publish_another(stage, ada.job)
    assert told(ada) == []


def test_who_is_in_source_and_target_is_told_once(stage: Any) -> None:
    source, target = stage.ready("source"), stage.ready("target", media={"width": 512, "height": 512})
    donor = stage.ask("face_donor", source, contact=ADA)
    replaced = stage.ask("target_person", target, contact=ADA)
    Wishes.objects.create(subject=donor.subject, told_of_uses=True)
    job = stage.submit(source=source, target=target, donor_consent=donor, target_consent=replaced)
    outbox.relay()
    mail.outbox.clear()
    stage.publish(stage.run(stage.screened(job)))
    assert len(told(Person(ADA, donor, job))) == 1


def test_a_note_reaches_the_console_and_its_answer_the_person(ada: Person, ben: Person, stage: Any) -> None:
    ada.enter()
    bad = ada.browser.post("/me/notes", {"kind": "", "text": " "})
    assert bad.status_code == 422
    assert Note.objects.count() == 0
    words = "I object: my hair was red. <b>"
    sent = ada.browser.post("/me/notes", {"kind": "objection", "text": words, "about": ada.consent.pk})
    assert sent.status_code == 303
    note = Note.objects.get()
    assert words.encode() not in bytes(note.text_sealed)
    foreign = ada.browser.post("/me/notes", {"kind": "objection", "text": "x", "about": ben.consent.pk})
    assert foreign.status_code == 404

    from django.test import Client

    moderator, account = Client(), Client()
    moderator.force_login(stage.mod)
    account.force_login(stage.cleo)
    assert account.get("/console/notes").status_code == 403
    page = moderator.get("/console/notes").content.decode()
    assert "my hair was red. &lt;b&gt;" in page
    mail.outbox.clear()
    assert moderator.post(f"/console/notes/{note.pk}", {"text": "We stopped it."}).status_code == 302
    outbox.relay()
    assert [message.to for message in mail.outbox] == [[ADA]]
    assert "We stopped it." not in mail.outbox[0].body
    assert "We stopped it." in ada.browser.get("/me/notes").content.decode()
    ben.enter()
    assert "hair" not in ben.browser.get("/me/notes").content.decode()


def test_notes_cannot_be_piled_up(ada: Person) -> None:
    ada.enter()
    codes = [ada.browser.post("/me/notes", {"kind": "question", "text": f"{n}"}).status_code for n in range(11)]
    assert codes == [303] * 10 + [429]


def test_the_export_holds_everything_of_the_person_and_nothing_of_another(
    ada: Person, ben: Person, shown: Output
) -> None:
    for person, words in ((ada, "a marker of Ada"), (ben, "a marker of Ben")):
        person.enter()
        person.browser.post("/me/notes", {"kind": "question", "text": words})
    response = ada.browser.post("/me/export")
    assert response["Content-Type"] == "application/zip"
    data = b"".join(response.streaming_content)
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        assert file.testzip() is None
        found = {name: file.read(name).decode() for name in file.namelist()}
    record = json.loads(found[f"consents/{ada.consent.pk}.jsonld"])
    assert record["imp:signedBy"] == "Ada Example"
    assert record["dpv:hasNotice"]["imp:text"] == ada.consent.notice_text
    assert [event["imp:type"] for event in record["imp:events"]][:3] == ["requested", "viewed", "given"]
    works = json.loads(found[f"works/{ada.consent.pk}.jsonld"])["@graph"]
    assert [work["imp:output"] for work in works] == [shown.pk]
    assert json.loads(found["person.jsonld"])["imp:contact"] == ADA
    everything = "\n".join(found.values())
    assert "a marker of Ada" in everything
    for marker in (BEN, "Ben Okri", "a marker of Ben", ben.consent.pk, ben.subject.pk, "target-2", ben.consent.key_id):
        assert marker not in everything
    assert "example.org" not in everything.replace(ADA, "")


def test_the_export_comes_in_pieces(ada: Person) -> None:
    ada.enter()
    assert len(list(archive(ada.session))) >= 4


@pytest.mark.django_db(transaction=True)
def test_erasing_asks_for_a_tick_and_ends_the_session(ada: Person) -> None:
    ada.enter()
    page = ada.browser.get("/me/erase").content.decode()
    assert "What is kept, and why" in page
    assert ada.browser.post("/me/erase").status_code == 422
    ada.subject.refresh_from_db()
    assert ada.subject.erased_at is None
    assert "Your data was erased" in ada.browser.post("/me/erase", {"sure": "yes"}).content.decode()
    assert ada.browser.get(f"/me/consents/{ada.consent.pk}").status_code == 303
    mail.outbox.clear()
    from tests.webapp.portal.conftest import ask

    ask(ada.browser, ADA)
    assert mail.outbox == []
