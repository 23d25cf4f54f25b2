"""Operators find consents without names, see one after a reason, export and revoke it; all of it is logged."""

from __future__ import annotations

import io
import zipfile
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from consent import keys, ledger
from consent import services as consents
from consent.models import AuditRecord, Consent, LedgerEntry
from consent.portal.views_of import views_of
from consent.receipts import services as receipts
from consent.receipts.evidence_check import check_pack
from tests.webapp import cast
from webapp.accounts.models import User

pytestmark = pytest.mark.django_db

SECRETS = ("Ada Lovelace", "ada.secret@example.org", "Cleo Asker", "For the poster", "Ada Signed", "May your face")
REASON = {"why": "subject_request", "reason": "ticket 12"}


@pytest.fixture
def consent(cleo: cast.Account) -> Consent:
    source, target = cast.ready(cleo, "source"), cast.ready(cleo, "target")
    asked, _ = consents.request_consent(
        organisation_id=cleo.organisation.pk,
        organisation_name=cleo.organisation.name,
        requested_by="Cleo Asker",
        role="face_donor",
        name="Ada Lovelace",
        contact="ada.secret@example.org",
        note="For the poster",
        purposes=["personal"],
        photos=[consents.PhotoRef(source.pk, source.sha256, 0)],
        target=consents.TargetRef(target.pk, target.sha256, 0),
        livemode=False,
    )
    consents.give_consent(asked, **cast.whole_answer(asked, "Ada Signed"))
    ledger.sequence()
    receipts.issue_due()
    asked.refresh_from_db()
    return asked


@pytest.fixture
def mod() -> Client:
    return cast.moderator()[1]


def clean(answer: Any) -> bool:
    """Does nothing in the answer name or show the person?"""
    body = answer.getvalue() if answer.streaming else answer.content
    everything = body + repr(dict(answer.headers)).encode()
    return not any(secret.encode() in everything for secret in SECRETS) and b"\xff\xd8\xff" not in everything


def addresses(consent: Consent) -> dict[str, str]:
    base = f"/console/consents/{consent.pk}"
    return {
        "detail": base,
        "look": f"{base}/look",
        "evidence": f"{base}/evidence.zip",
        "revoke": f"{base}/revoke",
        "photo": f"{base}/photo/0.jpg",
        "target": f"{base}/target/0.jpg",
    }


def test_strangers_and_accounts_see_nothing(cleo: cast.Account, consent: Consent) -> None:
    for path in ["/console/consents", "/console/audit", *addresses(consent).values()]:
        for method in ("get", "post"):
            answer = getattr(Client(), method)(path)
            assert answer.status_code in (302, 405)
            answer = getattr(cleo.browser, method)(path)
            assert answer.status_code in (403, 405)
            assert clean(answer)


def test_no_response_names_or_shows_the_person_before_a_reason(consent: Consent, mod: Client) -> None:
    where = addresses(consent)
    answers = [
        mod.get("/console/consents"),
        mod.get(f"/console/consents?q={consent.pk}"),
        mod.get("/console/audit"),
        mod.get(where["detail"]),
        mod.get(where["photo"]),
        mod.get(where["target"]),
        mod.post(where["look"], {}),
        mod.post(where["look"], {"why": "other"}),
        mod.post(where["evidence"]),
        mod.post(where["revoke"], {"code": "fraud", "sure": "yes"}),
    ]
    assert all(clean(answer) for answer in answers)
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 404, 404, 422, 422, 403, 403]
    consent.refresh_from_db()
    assert consent.state == "given"
    assert not AuditRecord.objects.exists()


def test_after_a_reason_everything_is_shown_for_15_minutes_and_the_look_is_logged(
    consent: Consent, mod: Client
) -> None:
    where = addresses(consent)
    assert mod.post(where["look"], REASON)["Location"] == where["detail"]
    html = mod.get(where["detail"]).content.decode()
    for secret in SECRETS:
        assert secret in html
    assert "log entry" in html
    assert mod.get(where["photo"])["Content-Type"] == "image/jpeg"
    assert mod.get(f"{where['detail']}/photo/9.jpg").status_code == 404
    assert mod.get(f"{where['detail']}/target/1.jpg").status_code == 404
    record = AuditRecord.objects.get()
    assert (record.action, record.subject_ref, record.reason) == (
        "consent.viewed",
        consent.pk,
        "subject_request: ticket 12",
    )
    assert LedgerEntry.objects.filter(kind="audit", type="consent.viewed", key_id=consent.key_id).exists()
    session = mod.session
    session["looks"] = {name: until - 15 * 60 for name, until in session["looks"].items()}
    session.save()
    assert clean(mod.get(where["detail"]))
    assert mod.get(where["photo"]).status_code == 404


def test_a_look_at_one_record_opens_no_other(cleo: cast.Account, consent: Consent, mod: Client) -> None:
    source, target = cast.ready(cleo, "source"), cast.ready(cleo, "target")
    other, _ = cast.ask(cleo, "target_person", "Ben Other", source, target)
    mod.post(addresses(consent)["look"], REASON)
    assert "Ben Other" not in mod.get(addresses(other)["detail"]).content.decode()


def test_search_by_number_state_and_organisation(cleo: cast.Account, consent: Consent, mod: Client) -> None:
    def found(query: str) -> bool:
        return consent.pk in mod.get(f"/console/consents?{query}").content.decode()

    assert found("")
    assert found(f"q={consent.pk[:12]}")
    assert found(f"q={consent.subject_id}")
    assert found("state=given&organisation=cleo")
    assert found(f"organisation={cleo.organisation.pk}")
    assert not found("state=withdrawn")
    assert not found("organisation=dan")
    assert not found("q=Ada+Lovelace")  # names cannot be searched for: they lie sealed
    assert mod.get("/console/consents?q=%00&state=%00&organisation=%00").status_code == 200
    assert mod.get("/console/consents?before=nothing").status_code == 404
    assert mod.get("/console/consents/%00").status_code == 404


def test_the_evidence_pack_is_one_click_and_logged(consent: Consent, mod: Client) -> None:
    where = addresses(consent)
    mod.post(where["look"], REASON)
    answer = mod.post(where["evidence"])
    assert answer["Content-Disposition"] == f'attachment; filename="evidence-{consent.pk}.zip"'
    assert check_pack(answer.content).consent_id == consent.pk
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert "chronicle.pdf" in archive.namelist()
    assert AuditRecord.objects.filter(action="consent.exported", subject_ref=consent.pk).count() == 1


def test_revoking_needs_a_code_and_a_tick_and_is_final(consent: Consent, mod: Client) -> None:
    where = addresses(consent)
    mod.post(where["look"], REASON)
    for form in ({}, {"code": "fraud"}, {"code": "whim", "sure": "yes"}):
        assert mod.post(where["revoke"], form).status_code == 422
    consent.refresh_from_db()
    assert consent.state == "given"
    mod.post(where["revoke"], {"code": "court_order", "sure": "yes"})
    consent.refresh_from_db()
    assert consent.state == "revoked"
    assert consent.events.last().code == "court_order"
    assert AuditRecord.objects.get(action="consent.revoked").reason == "court_order"
    assert mod.post(where["revoke"], {"code": "fraud", "sure": "yes"}).status_code == 409


def test_a_form_from_elsewhere_is_refused(consent: Consent) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(User.objects.create_user("mod2", "mod2@example.org", "x" * 12, is_staff=True))
    for name in ("look", "revoke", "evidence"):
        assert browser.post(addresses(consent)[name], {**REASON, "code": "fraud", "sure": "yes"}).status_code == 403


def test_of_an_erased_person_only_what_names_nobody_is_left(consent: Consent, mod: Client) -> None:
    keys.destroy_key(consent.key_id)
    where = addresses(consent)
    assert mod.post(where["look"], REASON).status_code == 302
    page = mod.get(where["detail"])
    assert page.status_code == 200
    assert "data was erased" in page.content.decode()
    assert clean(page)
    assert mod.post(where["evidence"]).status_code == 410


def test_the_audit_log_is_searched_by_who_what_about_and_day(consent: Consent, mod: Client) -> None:
    mod.post(addresses(consent)["look"], REASON)
    ledger.sequence()
    today = timezone.now().date()

    def found(query: str) -> bool:
        return "ticket 12" in mod.get(f"/console/audit?{query}").content.decode()

    html = mod.get("/console/audit").content.decode()
    assert "mod@example.org" in html
    assert "log entry" in html
    assert found("actor=mod@")
    assert found("action=consent.viewed")
    assert found(f"about={consent.pk}")
    assert found(f"day={today}")
    assert not found("actor=cleo")
    assert not found("action=face.viewed")
    assert not found(f"day={today - timedelta(days=1)}")
    assert not found("day=yesterday")
    keys.destroy_key(consent.key_id)
    assert not found("")
    assert "erased with the person" in mod.get("/console/audit").content.decode()


def test_the_person_learns_that_somebody_looked_not_who(consent: Consent, mod: Client) -> None:
    assert views_of(consent.subject) == []
    mod.post(addresses(consent)["look"], REASON)
    ledger.audit("9", "face.viewed", consent.photos[0]["asset_id"], "moderation")
    ledger.audit("9", "face.viewed", consent.targets[0]["asset_id"], "moderation")
    ledger.audit("9", "face.viewed", "ast_somebody_elses", "moderation")
    ledger.audit("9", "ledger.exported", consent.pk, "backup")
    views = views_of(consent.subject)
    assert sorted(view.what for view in views) == ["face", "record"]
    assert all(not hasattr(view, "actor_id") for view in views)
