"""A receipt can be checked by anybody, and nobody can change one."""

from __future__ import annotations

import base64
import copy
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core import mail
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import OKPKey

from consent import keys, ledger, receipt_keys, receipts, services
from consent.models import Consent
from consent.receipt_check import ReceiptError, receipt_in, verify_receipt
from webapp.outbox.services import relay

pytestmark = pytest.mark.django_db


@pytest.fixture
def consent(house) -> Consent:
    given = house.given()
    ledger.sequence()
    assert receipts.issue_due() == 1
    return given


def code_of(text: str, jwks: dict[str, Any], **moments: Any) -> str:
    with pytest.raises(ReceiptError) as caught:
        verify_receipt(text, jwks, **moments)
    return caught.value.code


def test_a_receipt_comes_once_the_log_covers_the_yes_and_verifies_without_the_house(house) -> None:
    given = house.given()
    assert receipts.receipt_of(given) is None
    assert receipts.issue_due() == 0
    ledger.sequence()
    assert receipts.issue_due() == 1
    assert receipts.issue_due() == 0
    text = receipts.receipt_of(given)
    assert text is not None
    checked = verify_receipt(text, json.loads(json.dumps(receipts.jwks())))
    assert checked.consent_id == given.id
    assert checked.origin.endswith("/log")
    assert checked.record["dpv:hasNotice"]["imp:sha256"] == given.notice_sha256
    assert checked.body["dct:conformsTo"][0].startswith("https://w3id.org/dpv/schema/dpv-27560#")
