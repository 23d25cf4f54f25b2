"""An evidence pack proves itself, and a changed one does not."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import UTC, datetime

import pytest
from django.utils import timezone
from pypdf import PdfReader

from consent import keys, ledger, services
from consent.receipts import services as receipts
from consent.receipts.check import receipt_in, verify_receipt
from consent.receipts.evidence import evidence_pack
from consent.receipts.evidence_check import EvidenceError, check_pack

pytestmark = pytest.mark.django_db


@pytest.fixture
def consent(house):
    consent = house.given(note="For the poster, please", name="Ada 李")
    assert services.reserve_use(consent.id, job_id="job_1", use=house.use()).ok
    services.count_use(consent.id, "job_1")
    ledger.sequence()
    receipts.issue_due()
    consent.refresh_from_db()
    return consent


def files_of(pack: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(pack)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return target.getvalue()


def code_of(files: dict[str, bytes], jwks=None) -> str:
    with pytest.raises(EvidenceError) as caught:
        check_pack(packed(files), jwks)
    return caught.value.code


def test_a_pack_verifies_by_itself_and_with_keys_from_elsewhere(consent) -> None:
    pack = evidence_pack(consent, at=timezone.now())
    found = check_pack(pack)
    assert (found.consent_id, found.events, found.waiting, found.receipt) == (consent.id, 6, 0, True)
    assert not check_pack(pack, receipts.jwks()).own_keys
    files = files_of(pack)
    assert verify_receipt(receipt_in(files["receipt.jwt"]), json.loads(files["jwks.json"])).consent_id == consent.id
    assert receipt_in(files["chronicle.pdf"]) == files["receipt.jwt"].decode()
    assert "manage.py receipt evidence" in files["README.txt"].decode()


def test_equal_content_gives_equal_bytes_but_for_the_date(consent) -> None:
    moment = datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC)
    first = evidence_pack(consent, at=moment)
    assert evidence_pack(consent, at=moment) == first
    later = files_of(evidence_pack(consent, at=moment.replace(day=3)))
    same = {name for name, data in files_of(first).items() if later[name] == data}
    assert same == {"proofs.json", "checkpoint.txt", "jwks.json", "log-keys.txt", "receipt.jwt"}


def test_the_chronicle_says_who_was_asked_what_and_what_happened(consent) -> None:
    pdf = files_of(evidence_pack(consent, at=timezone.now()))["chronicle.pdf"]
    text = "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages)
    for part in (
        "Ada 李",
        "ada@example.org",
        "Cleo Marsh",
        "For the poster, please",
        "Ada Byron",
        "[x] adult",
        "May your face be used?",
        "used: state given",
        "job_1: counted",
        "log entry",
        "Firefox",
    ):
        assert part in text, part


def test_the_pack_holds_no_link_that_could_withdraw(consent) -> None:
    link = receipts.withdraw_link(receipts.body_of(receipts.receipt_of(consent)))
    token = link.split("/c/")[1].removesuffix("/withdraw").encode()
    for data in files_of(evidence_pack(consent, at=timezone.now())).values():
        assert token not in data
    house_copy = receipts.house_receipt_of(consent)
    assert token.decode() not in json.dumps(receipts.body_of(house_copy))


@pytest.mark.parametrize(
    "change",
    [
        lambda record, proofs: record["notice"].update(text=record["notice"]["text"] + "and more"),
        lambda record, proofs: record["scope"].update({"imp:purposes": ["film"]}),
        lambda record, proofs: record["scope"].update({"imp:validUntil": "2099-01-01T00:00:00Z"}),
        lambda record, proofs: record.update(state="given"),
        lambda record, proofs: record.update(consent="cns_other"),
        lambda record, proofs: record["events"].pop(),
        lambda record, proofs: record["events"][2].update(at="2020-01-01T00:00:00Z"),
        lambda record, proofs: record["events"][2].update(type="refused"),
        lambda record, proofs: record["events"][4]["data"].update(job="job_2"),
        lambda record, proofs: proofs["proofs"].pop(),
        lambda record, proofs: proofs["proofs"][0].update(salt=proofs["proofs"][1]["salt"]),
        lambda record, proofs: proofs["proofs"][1].update(index=0),
        lambda record, proofs: proofs["proofs"][1]["payload"].update(code="x"),
        lambda record, proofs: (
            proofs["not_yet_in_the_log"].append(proofs["proofs"].pop()["event"])
            or record.update(events=record["events"][:-1])
        ),
    ],
)
def test_a_changed_pack_is_found(consent, change) -> None:
    files = files_of(evidence_pack(consent, at=timezone.now()))
    record, proofs = json.loads(files["record.json"]), json.loads(files["proofs.json"])
    change(record, proofs)
    changed = {**files, "record.json": json.dumps(record).encode(), "proofs.json": json.dumps(proofs).encode()}
    assert code_of(changed) in {"pack_event", "pack_record", "pack_receipt", "pack_unreadable"}


def test_a_missing_or_foreign_receipt_is_found(house, consent) -> None:
    files = files_of(evidence_pack(consent, at=timezone.now()))
    without = {name: data for name, data in files.items() if name != "receipt.jwt"}
    assert code_of(without) == "pack_receipt"
    other = house.given(contact="other@example.org")
    ledger.sequence()
    receipts.issue_due()
    assert code_of({**files, "receipt.jwt": receipts.house_receipt_of(other).encode()}) == "pack_receipt"


def test_keys_of_somebody_else_prove_nothing(consent) -> None:
    files = files_of(evidence_pack(consent, at=timezone.now()))
    assert code_of(files, {"keys": []}) == "pack_keys"
    no_log = {"keys": [key for key in receipts.jwks()["keys"] if "+" not in key["kid"]]}
    assert code_of(files, no_log) == "pack_keys"


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", packed({}), packed({"record.json": b"[]", "proofs.json": b"1"})])
def test_what_is_no_pack_is_called_so(data) -> None:
    with pytest.raises(EvidenceError) as caught:
        check_pack(data)
    assert caught.value.code == "pack_unreadable"


def test_a_refused_question_has_a_pack_too(house) -> None:
    consent, _ = house.ask(contact="no@example.org")
    services.refuse_consent(consent)
    ledger.sequence()
    consent.refresh_from_db()
    found = check_pack(evidence_pack(consent, at=timezone.now()))
    assert (found.events, found.receipt) == (3, False)


def test_of_an_erased_person_no_pack_is_made(consent) -> None:
    keys.destroy_key(consent.key_id)
    with pytest.raises(keys.KeyDestroyedError):
        evidence_pack(consent, at=timezone.now())
