"""An untouched database is never accused, whatever honest things happened to it."""

from __future__ import annotations

import pytest
from django.db import transaction
from django.utils import timezone

from consent import erasure, keys, ledger, services
from consent.ledger import house as signers
from consent.ledger import sources, verifying
from consent.ledger.models import AuditRecord
from consent.models import Erasure
from consent.portal import restriction

pytestmark = pytest.mark.django_db

# Pictures about which nobody said no.
OTHER = {"photos": [services.PhotoRef("ast_other", "9" * 64)]}


def test_an_untouched_house_is_not_accused(history) -> None:
    history()
    report = verifying.verify()
    assert report.findings == []
    assert report.leaves == report.covered == report.opened == 25
    assert report.checkpoints == 3  # two stored, one remembered


def test_nor_is_one_in_which_nothing_happened() -> None:
    assert verifying.verify().findings == []


def test_nor_one_whose_entries_still_wait(history, house) -> None:
    history()
    house.given(contact="late@example.org", **OTHER)
    report = verifying.verify()
    assert report.findings == []
    assert report.waiting == 3


def test_nor_one_whose_keys_were_rotated(history, house) -> None:
    history()
    signers.rotate()
    house.given(contact="late@example.org", **OTHER)
    ledger.sequence()
    assert verifying.verify().findings == []


def test_nor_one_that_forgot_a_person(history, house) -> None:
    history()
    gone = house.given(contact="gone@example.org", **OTHER)
    services.withdraw_consent(gone)
    ledger.sequence()
    keys.destroy_key(gone.key_id)
    type(gone).objects.filter(pk=gone.pk).update(photos=[], typed_name_sealed=None, name_sealed=None)
    report = verifying.verify()
    assert report.findings == []
    assert report.erased == 4


def test_nor_one_that_carried_out_an_erasure_or_is_at_it(history, house) -> None:
    history()
    gone = house.given(contact="gone@example.org", **OTHER)
    restriction.restrict_consent(gone)
    Erasure.objects.create(subject=gone.subject, by=Erasure.By.PERSON)
    type(gone.subject).objects.filter(pk=gone.subject_id).update(contact_hmac=None, erased_at=timezone.now())
    assert verifying.verify().findings == []
    assert erasure.erase_subject(gone.subject, by=Erasure.By.PERSON).finished
    ledger.sequence()
    report = verifying.verify()
    assert report.findings == []
    assert report.erased == 6


def test_nor_one_that_deleted_what_had_its_time_and_said_so(history) -> None:
    history()
    record = AuditRecord.objects.first()
    with transaction.atomic():
        sources.forget([f"audit:{record.pk}"])
    from importlib import import_module

    from django.db import connection

    import_module("consent.migrations.0003_ledger").remove(connection)
    AuditRecord.objects.filter(pk=record.pk).delete()
    assert verifying.verify().findings == []


@pytest.mark.parametrize(
    "state",
    ["requested", "viewed", "given", "refused", "lapsed", "expired", "exhausted", "withdrawn", "revoked", "superseded"],
)
def test_nor_a_consent_in_any_state(house, state: str) -> None:
    house.in_state(state)
    ledger.sequence()
    assert verifying.verify().findings == []
