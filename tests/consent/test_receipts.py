"""A receipt can be checked by anybody, and nobody can change one."""

from __future__ import annotations

import base64
import copy
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core import mail
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import OKPKey

from consent import erasure, keys, ledger
from consent.models import Consent
from consent.receipts import keys as receipt_keys
from consent.receipts import services as receipts
from consent.receipts.check import ReceiptError, receipt_in, verify_receipt
from webapp.outbox.services import relay

ROOT = Path(__file__).parents[2]
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


def test_a_receipt_names_nobody(consent) -> None:
    text = json.dumps(receipts.body_of(receipts.receipt_of(consent)))
    for secret in ("Ada", "Byron", "ada@example.org", "Cleo Marsh", consent.subject.contact_hmac):
        assert secret not in text


def test_the_mail_brings_the_receipt_and_a_link_that_withdraws(consent, client) -> None:
    relay()
    message = next(each for each in mail.outbox if each.attachments)
    assert message.to == ["ada@example.org"]
    files = {name: content for name, content, _ in message.attachments}
    assert files["receipt.jwt"] == receipts.receipt_of(consent)
    assert receipt_in(files["receipt.pdf"]) == files["receipt.jwt"]
    link = receipts.withdraw_link(receipts.body_of(files["receipt.jwt"]))
    assert link.removesuffix("/withdraw") in message.body
    path = "/" + link.split("/", 3)[3]
    assert client.get(path).status_code == 200
    consent.refresh_from_db()
    assert consent.state == "given"
    client.post(path)
    consent.refresh_from_db()
    assert consent.state == "withdrawn"


def test_the_houses_copy_verifies_and_cannot_withdraw(consent) -> None:
    own, house_copy = receipts.receipt_of(consent), receipts.house_receipt_of(consent)
    assert verify_receipt(house_copy, receipts.jwks()).receipt_id == verify_receipt(own, receipts.jwks()).receipt_id
    link = receipts.withdraw_link(receipts.body_of(own))
    body = receipts.body_of(house_copy)
    assert receipts.withdraw_link(body) == ""
    assert link.split("/c/")[1] not in json.dumps(body)


def test_nothing_is_mailed_to_somebody_erased_meanwhile(consent) -> None:
    before = len(mail.outbox)
    keys.destroy_key(consent.key_id)
    relay()
    assert len(mail.outbox) == before
    with pytest.raises(keys.KeyDestroyedError):
        receipts.receipt_of(consent)


def test_erasure_takes_both_copies_and_the_link_and_what_the_person_kept_still_verifies(consent, client) -> None:
    kept = receipts.receipt_of(consent)
    own = receipts.withdraw_link(receipts.body_of(kept)).split("/c/")[1].removesuffix("/withdraw")
    report = erasure.erase_subject(consent.subject, by="operator")
    assert ("receipts, with their links", 1) in [(line.what, line.count) for line in report.destroyed]
    row = receipts.receipt_row(consent)
    assert (row.jws_sealed, row.house_jws_sealed) == (None, None)
    for read in (receipts.receipt_of, receipts.house_receipt_of):
        with pytest.raises(keys.KeyDestroyedError):
            read(consent)
    assert client.get(f"/c/{own}/receipt").status_code == 404
    assert verify_receipt(kept, receipts.jwks()).consent_id == consent.id
    assert receipts.issue_due() == 0


def test_an_erased_person_keeps_nobody_else_waiting(house) -> None:
    gone, other = house.given(contact="gone@example.org"), house.given(contact="other@example.org")
    ledger.sequence()
    keys.destroy_key(gone.key_id)
    assert receipts.issue_due() == 1
    assert receipts.receipt_of(other)
    assert receipts.receipt_of(gone) is None


def test_rotation_keeps_old_receipts_valid_and_signs_new_ones_anew(house, consent) -> None:
    old = receipts.receipt_of(consent)
    kid = receipt_keys.rotate()
    later = house.given(contact="later@example.org")
    ledger.sequence()
    receipts.issue_due()
    new = receipts.receipt_of(later)
    assert verify_receipt(new, receipts.jwks()).kid == kid != verify_receipt(old, receipts.jwks()).kid
    retired = receipt_keys.ReceiptKey.objects.exclude(kid=kid).get()
    with pytest.raises(keys.KeyDestroyedError):
        keys.data_key(retired.key_id)
    assert code_of(new, {"keys": [key for key in receipts.jwks()["keys"] if key["kid"] != kid]}) == "unknown_key"


def test_the_logs_key_may_rotate_too(house, consent) -> None:
    from consent.ledger import house as log_house

    before = receipts.receipt_of(consent)
    log_house.rotate()
    verify_receipt(before, receipts.jwks())


# Tampering: whatever is changed, it is refused.


@pytest.fixture
def made(consent) -> tuple[str, dict[str, Any]]:
    return receipts.receipt_of(consent), receipts.jwks()


BYTES = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


@BYTES
@given(data=st.data())
def test_no_byte_of_a_receipt_can_be_changed(made, data) -> None:
    text, jwks = made
    place = data.draw(st.integers(0, len(text) - 1))
    new = data.draw(st.sampled_from("ABCXYZabcxyz0189-_.=+/ {").filter(lambda char: char != text[place]))
    assert code_of(text[:place] + new + text[place + 1 :], jwks) in {"changed", "unreadable", "unknown_key"}


def test_the_spare_bits_at_the_end_of_each_part_are_fixed(made) -> None:
    text, jwks = made
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for part in range(3):
        parts = text.split(".")
        decoded = base64.urlsafe_b64decode(parts[part] + "==")
        twins = [parts[part][:-1] + char for char in alphabet if char != parts[part][-1]]
        same = [twin for twin in twins if base64.urlsafe_b64decode(twin + "==") == decoded]
        for twin in same:
            parts[part] = twin
            assert code_of(".".join(parts), jwks) == "changed"


@BYTES
@given(cut=st.integers(0, 200))
def test_a_receipt_cut_or_lengthened_is_refused(made, cut) -> None:
    text, jwks = made
    assert code_of(text[: -cut - 1], jwks) in {"changed", "unreadable"}
    assert code_of(text + "A" * (cut + 1), jwks) in {"changed", "unreadable"}


def _leaves(value: Any, path: tuple = ()) -> list[tuple]:
    if isinstance(value, dict):
        return [leaf for name, each in value.items() for leaf in _leaves(each, (*path, name))]
    if isinstance(value, list):
        return [leaf for at, each in enumerate(value) for leaf in _leaves(each, (*path, at))]
    return [path]


def _set(body: dict, path: tuple, value: Any) -> dict:
    changed = copy.deepcopy(body)
    at: Any = changed
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return changed


def test_no_field_can_be_changed_and_kept_under_the_old_signature(made) -> None:
    text, jwks = made
    head, _, signature = text.split(".")
    body = receipts.body_of(text)
    paths = _leaves(body)
    assert len(paths) > 60
    for path in paths:
        payload = json.dumps(_set(body, path, "0"), ensure_ascii=False, separators=(",", ":")).encode()
        assert (
            code_of(f"{head}.{base64.urlsafe_b64encode(payload).rstrip(b'=').decode()}.{signature}", jwks) == "changed"
        )


def _resigned(body: dict, header: dict | None = None) -> str:
    kid, key = receipt_keys.signing_key()
    header = header or {"alg": "EdDSA", "typ": "consent-receipt+jwt", "kid": kid}
    return jws.serialize_compact(header, json.dumps(body), key, registry=jws.JWSRegistry(algorithms=["EdDSA"]))


PROVEN = [
    ("imp:log", "index"),
    ("imp:log", "size"),
    ("imp:log", "leaf"),
    ("imp:log", "salt"),
    ("imp:log", "checkpoint"),
    ("imp:log", "payload", "consent"),
    ("imp:log", "payload", "at"),
    ("imp:log", "payload", "data", "purposes", 0),
    ("dpv:hasRecordOfActivity", "dct:identifier"),
    ("dpv:hasRecordOfActivity", "imp:assurance"),
    ("dpv:hasRecordOfActivity", "dpv:hasNotice", "imp:sha256"),
    ("dpv:hasRecordOfActivity", "dpv:hasProcess", "imp:scope", "imp:purposes", 0),
    ("dpv:hasRecordOfActivity", "dpv:hasProcess", "imp:scope", "imp:photos", 0),
]


@pytest.mark.parametrize("path", PROVEN, ids=["/".join(map(str, path)) for path in PROVEN])
def test_even_the_signer_cannot_say_otherwise_than_the_log(made, path) -> None:
    text, jwks = made
    body = receipts.body_of(text)
    verify_receipt(_resigned(body), jwks)
    assert code_of(_resigned(_set(body, path, "f" * 64)), jwks) in {"log_wrong", "changed", "dates_wrong"}


def test_another_consents_entry_is_not_a_proof(house, made) -> None:
    text, jwks = made
    other = house.given(contact="another@example.org")
    ledger.sequence()
    receipts.issue_due()
    body = receipts.body_of(text)
    stolen = receipts.body_of(receipts.receipt_of(other))["imp:log"]
    assert code_of(_resigned({**body, "imp:log": stolen}), jwks) == "log_wrong"


def test_impossible_dates_are_refused(made) -> None:
    text, jwks = made
    assert code_of(text, jwks, now=datetime.now(UTC) - timedelta(days=1)) == "dates_wrong"
    verify_receipt(text, jwks, now=datetime.now(UTC) + timedelta(days=9 * 365))
    body = receipts.body_of(text)
    assert code_of(_resigned({**body, "iat": 1}), jwks) == "dates_wrong"


def test_a_set_of_keys_cannot_pass_one_key_off_as_another(made) -> None:
    text, _ = made
    head = text.split(".")[0]
    kid = json.loads(base64.urlsafe_b64decode(head + "=="))["kid"]
    forger = OKPKey.generate_key("Ed25519")
    forged = _forged(text, forger, kid)
    wrong = {**forger.as_dict(private=False), "kid": kid}
    assert code_of(forged, {"keys": [wrong]}) == "unknown_key"


@pytest.mark.parametrize("header", [{"alg": "none"}, {"alg": "HS256"}, {"typ": "JWT"}, {"crit": ["b64"], "b64": False}])
def test_other_headers_are_refused(made, header) -> None:
    text, jwks = made
    head, payload, signature = text.split(".")
    whole = {**json.loads(base64.urlsafe_b64decode(head + "==")), **header}
    changed = base64.urlsafe_b64encode(json.dumps(whole).encode()).rstrip(b"=").decode()
    assert code_of(f"{changed}.{payload}.{signature}", jwks) == "changed"


@pytest.mark.parametrize("keys_given", [{}, {"keys": None}, {"keys": ["x", 1, {"kty": "OKP"}]}, {"keys": {}}])
def test_broken_key_sets_know_no_key(made, keys_given) -> None:
    assert code_of(made[0], keys_given) == "unknown_key"


@settings(max_examples=100, deadline=None, derandomize=True)
@given(junk=st.one_of(st.text(max_size=300), st.binary(max_size=300).map(lambda data: data.decode("latin-1"))))
def test_junk_is_no_receipt_and_no_crash(junk) -> None:
    with pytest.raises(ReceiptError):
        verify_receipt(receipt_in(junk.encode()), {"keys": []})


def _forged(text: str, forger: OKPKey, kid: str) -> str:
    header = {"alg": "EdDSA", "typ": "consent-receipt+jwt", "kid": kid}
    payload = base64.urlsafe_b64decode(text.split(".")[1] + "==")
    return jws.serialize_compact(header, payload, forger, registry=jws.JWSRegistry(algorithms=["EdDSA"]))


# Files.


def test_the_readable_json_must_say_what_was_signed(made) -> None:
    from consent.receipts.files import json_of

    text, _ = made
    data = json_of(text)
    assert receipt_in(data) == text
    whole = json.loads(data)
    whole["receipt"]["dpv:hasRecordOfActivity"]["dpv:hasProcess"]["imp:scope"]["imp:maxOutputs"] = 100
    with pytest.raises(ReceiptError) as caught:
        receipt_in(json.dumps(whole).encode())
    assert caught.value.code == "changed"
    assert receipt_in(json.dumps({"jws": text}).encode()) == text


def test_a_mail_programs_line_breaks_do_no_harm(made) -> None:
    text, _ = made
    broken = "\r\n".join(text[at : at + 76] for at in range(0, len(text), 76))
    assert receipt_in(f"  {broken}\n".encode()) == text


@pytest.mark.parametrize("data", [b"", b"%PDF-1.4 nothing", b"{}", b'{"jws": 1}', b"\xff\xfe", b"[1]", b"{" * 9000])
def test_files_without_a_receipt_say_so(data) -> None:
    with pytest.raises(ReceiptError) as caught:
        receipt_in(data)
    assert caught.value.code in {"unreadable", "changed"}


def test_a_pdf_with_two_receipts_is_not_guessed_at(house, made) -> None:
    other = house.given(contact="another@example.org")
    ledger.sequence()
    receipts.issue_due()
    with pytest.raises(ReceiptError):
        receipt_in(b"%PDF-1.7\n" + made[0].encode() + b"\n" + receipts.receipt_of(other).encode())


def test_checking_needs_no_django() -> None:
    """So that whoever checks a receipt may lift the two modules out, and no setting can make one true."""
    code = "import sys, consent.receipts.check, consent.receipts.evidence_check; sys.exit('django' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=60).returncode == 0
