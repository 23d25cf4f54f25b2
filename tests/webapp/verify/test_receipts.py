"""`/receipts/check` tells anybody whether a receipt is real and whether the permission still holds."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from consent import keys, ledger
from consent import services as consents
from consent.models import Consent
from consent.receipts import services as receipts
from consent.receipts.files import json_of, pdf_of
from tests.webapp import cast

pytestmark = pytest.mark.django_db

PAGE = "/receipts/check"


@pytest.fixture
def consent(cleo: cast.Account) -> Consent:
    source, target = cast.ready(cleo, "source"), cast.ready(cleo, "target")
    asked, _ = cast.ask(cleo, "face_donor", "Ada Lovelace", source, target)
    consents.give_consent(asked, **cast.whole_answer(asked, "Ada Signed"))
    ledger.sequence()
    receipts.issue_due()
    asked.refresh_from_db()
    return asked


def ask(data: object, browser: Client | None = None) -> tuple[int, str]:
    form = {"file": SimpleUploadedFile("receipt", data)} if isinstance(data, bytes) else {"receipt": data}
    answer = (browser or Client(enforce_csrf_checks=True)).post(PAGE, form)
    return answer.status_code, answer.content.decode()


def test_a_real_receipt_is_told_from_text_and_from_each_file(consent: Consent) -> None:
    text = receipts.receipt_of(consent)
    assert text is not None
    row = receipts.receipt_row(consent)
    pdf = pdf_of(consent, row, "en", now=row.issued_at)
    for sent in (text, f" {text[:99]}\n{text[99:]} ", text.encode(), json_of(text), pdf):
        status, html = ask(sent)
        assert status == 200
        assert "This receipt is real" in html
        assert 'data-state="given">in force' in html
        assert f"entry {row.ledger_index} of" in html
        assert "Ada" not in html
        assert "Cleo" not in html


def test_it_says_how_the_permission_stands_now(consent: Consent) -> None:
    text = receipts.receipt_of(consent)
    consents.withdraw_consent(consent)
    assert 'data-state="withdrawn">withdrawn on' in ask(text)[1]
    keys.destroy_key(consent.key_id)
    assert "withdrawn on" in ask(text)[1]


def test_a_changed_receipt_is_refused_with_its_code(consent: Consent) -> None:
    text = receipts.receipt_of(consent)
    status, html = ask(text[:500] + ("A" if text[500] != "A" else "B") + text[501:])
    assert status == 422
    assert '<p class="mono">changed</p>' in html
    assert "data-state" not in html
    whole = json.loads(json_of(text))
    whole["receipt"]["iss"] = "https://elsewhere.example"
    assert ask(json.dumps(whole))[0] == 422


def test_another_houses_receipt_is_sent_there(consent: Consent, settings: object) -> None:
    text = receipts.receipt_of(consent)
    from consent.receipts.models import ReceiptKey

    ReceiptKey.objects.all().delete()
    settings.PUBLIC_URL = "https://other.example"  # type: ignore[attr-defined]
    status, html = ask(text)
    assert status == 422
    assert "unknown_key" in html
    assert "http://127.0.0.1:8000" in html


@pytest.mark.parametrize(
    ("form", "status", "words"),
    [
        ({}, 422, "Choose a file or paste"),
        ({"receipt": "not a receipt"}, 422, "No receipt was found"),
        ({"receipt": "x" * 300_000}, 413, "larger than a receipt"),
        ({"receipt": "x", "file": SimpleUploadedFile("a", b"b")}, 422, "not both"),
        ({"receipt": "\x00\ufffd"}, 422, "No receipt was found"),
    ],
)
def test_what_cannot_be_checked_is_said_plainly(form: dict, status: int, words: str) -> None:
    answer = Client().post(PAGE, form)
    assert answer.status_code == status
    assert words in answer.content.decode()


def test_the_page_is_there_in_both_languages_and_runs_no_script() -> None:
    english = Client().get(PAGE)
    assert english.status_code == 200
    assert "<script" not in english.content.decode()
    assert "核对凭证" in Client().get(f"{PAGE}?lang=zh-hans").content.decode()
    assert "核对凭证" in Client().get(PAGE, headers={"Accept-Language": "zh-CN,zh"}).content.decode()


def test_one_address_may_not_ask_without_end() -> None:
    cache.clear()
    codes = [ask("x")[0] for _ in range(32)]
    assert codes[:30] == [422] * 30
    assert codes[30] == 429


def test_nothing_that_is_sent_is_kept(consent: Consent) -> None:
    text = receipts.receipt_of(consent)
    before = {model: model.objects.count() for model in (Consent, type(receipts.receipt_row(consent)))}
    changed = consent.changed_at
    ask(text)
    consent.refresh_from_db()
    assert consent.changed_at - changed == timedelta(0)
    assert before == {model: model.objects.count() for model in before}
