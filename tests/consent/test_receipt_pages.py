"""The receipt under the person's own link: page, files, code; English and Chinese."""

from __future__ import annotations

import io
import json
from html.parser import HTMLParser

import pytest
from pypdf import PdfReader

from consent import keys, ledger, services
from consent.receipts import services as receipts
from consent.receipts.check import receipt_in, verify_receipt
from consent.requests import Scope

pytestmark = pytest.mark.django_db


def made(house, **changes):
    consent, token = house.ask(**changes)
    house.answer(
        consent,
        typed_name=changes.get("name", "Ada Byron"),
        locale=changes.get("locale", "en"),
        notice_sha256=services.consent_text(consent, changes.get("locale", "en")).sha256,
    )
    ledger.sequence()
    assert receipts.issue_due() == 1
    return consent, token


def text_of(pdf: bytes) -> str:
    return "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages)


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs) -> None:
        self.found.append((tag, dict(attrs)))


def test_before_the_log_covers_it_the_page_says_that_it_takes_a_moment(house, client) -> None:
    consent, token = house.ask()
    assert client.get(f"/c/{token}/receipt").status_code == 303
    house.answer(consent)
    page = client.get(f"/c/{token}/receipt")
    assert page["Retry-After"] == "5"
    assert "a few seconds" in page.content.decode()
    assert client.get(f"/c/{token}/receipt.pdf")["Location"] == f"/c/{token}/receipt?lang=en"
    assert client.get(f"/c/{token}/receipt-code.svg").status_code == 404


def test_the_page_shows_what_was_agreed_and_offers_the_files(house, client) -> None:
    consent, token = made(house)
    page = client.get(f"/c/{token}/receipt")
    html = page.content.decode()
    assert page["Cache-Control"] == "no-store, private"
    assert page["Referrer-Policy"] == "no-referrer"
    for text in (
        consent.id,
        consent.notice_sha256,
        "Cleo Marsh, Cleo&#x27;s Studio",
        "Ada Byron",
        "at most 1",
        "entry ",
    ):
        assert text in html
    tags = Tags(html)
    assert not [tag for tag, attrs in tags.found if tag == "script" or "style" in attrs]
    image = next(attrs for tag, attrs in tags.found if tag == "img")
    code = client.get(image["src"])
    assert code["Content-Type"] == "image/svg+xml"
    assert code.content.startswith(b"<svg")
    assert image["alt"]
    for kind, start in (("jwt", b"eyJ"), ("json", b"{"), ("pdf", b"%PDF-")):
        answer = client.get(f"/c/{token}/receipt.{kind}")
        assert answer["Content-Disposition"] == f'attachment; filename="receipt.{kind}"'
        assert answer.content.startswith(start)
        assert verify_receipt(receipt_in(answer.content), receipts.jwks()).consent_id == consent.id
    assert client.get(f"/c/{token}/receipt.exe").status_code == 404
    assert client.post(f"/c/{token}/receipt").status_code == 405


def test_the_receipts_own_link_opens_the_same_page_and_withdraws(house, client) -> None:
    consent, token = made(house)
    link = receipts.withdraw_link(receipts.body_of(receipts.receipt_of(consent)))
    own = link.split("/c/")[1].removesuffix("/withdraw")
    assert own != token
    assert consent.id in client.get(f"/c/{own}/receipt").content.decode()
    assert client.post(f"/c/{own}/withdraw").status_code == 303
    consent.refresh_from_db()
    assert consent.state == "withdrawn"
    after = client.get(f"/c/{token}/receipt").content.decode()
    assert "withdrawn on" in after
    assert "/withdraw" not in after.replace("receipt-code", "")
    assert client.get(f"/c/{token}/receipt.pdf").status_code == 200


def test_the_pdf_says_in_english_all_that_matters(house, client) -> None:
    consent, token = made(house, name="李小龍 Łukasz")
    text = text_of(client.get(f"/c/{token}/receipt.pdf").content)
    for part in (
        "Receipt for a permission",
        consent.id,
        "李小龍 Łukasz",
        "at most 1",
        "Take it back",
        "May your face be used?",
    ):
        assert part in text
    assert consent.notice_sha256 in text.replace("\n", "")
    assert receipts.withdraw_link(receipts.body_of(receipts.receipt_of(consent))) in text.replace("\n", "")


def test_the_pdf_says_in_chinese_all_that_matters(house, client) -> None:
    consent, token = made(
        house,
        name="欧阳娜娜",
        organisation_name="克莱奥工作室",
        requested_by="陈晓",
        locale="zh-hans",
        contact="zh@example.org",
    )
    answer = client.get(f"/c/{token}/receipt.pdf")
    text = text_of(answer.content).replace("\n", "")
    for part in ("许可凭证", "欧阳娜娜", "克莱奥工作室", "陈晓", "撤回许可", "有效", consent.id):
        assert part in text
    reader = PdfReader(io.BytesIO(answer.content))
    assert reader.attachments["receipt.jwt"][0].decode() == receipts.receipt_of(consent)
    assert reader.metadata.title.startswith("许可凭证")
    fonts = {
        str(font.get_object()["/BaseFont"]) for page in reader.pages for font in page["/Resources"]["/Font"].values()
    }
    assert any("ImprimaturCJK" in font for font in fonts)
    assert "许可凭证" in client.get(f"/c/{token}/receipt").content.decode()


def test_a_letter_without_a_font_is_named_not_dropped(house, client) -> None:
    _, token = made(house, name="अ Ada")
    assert "[U+0905] Ada" in text_of(client.get(f"/c/{token}/receipt.pdf").content)


def test_a_name_full_of_markup_is_text(house, client) -> None:
    _, token = made(house, name="<b>Ada</b> & <font size=99>")
    assert "<b>Ada</b> & <font size=99>" in text_of(client.get(f"/c/{token}/receipt.pdf").content)
    assert "<b>Ada" not in client.get(f"/c/{token}/receipt").content.decode()


def test_after_erasure_nothing_is_left_to_show(house, client) -> None:
    consent, token = made(house)
    keys.destroy_key(consent.key_id)
    for tail in ("receipt", "receipt.pdf", "receipt.jwt", "receipt.json", "receipt-code.svg"):
        assert client.get(f"/c/{token}/{tail}").status_code == 410


def test_the_first_page_and_the_closed_page_lead_to_the_receipt(house, client) -> None:
    consent, token = made(house)
    assert f"/c/{token}/receipt?" in client.get(f"/c/{token}").content.decode()
    services.withdraw_consent(consent)
    assert f"/c/{token}/receipt?" in client.get(f"/c/{token}").content.decode()
    refused, other = house.ask(contact="no@example.org")
    services.refuse_consent(refused)
    assert f"/c/{other}/receipt" not in client.get(f"/c/{other}").content.decode()


def test_the_keys_are_published_for_caches_and_for_other_sites(house, client, settings) -> None:
    made(house)
    settings.ROOT_URLCONF = "webapp.urls"
    answer = client.get("/.well-known/jwks.json")
    assert set(answer["Cache-Control"].split(", ")) == {"public", "max-age=3600"}
    assert answer["Access-Control-Allow-Origin"] == "*"
    found = json.loads(answer.content)
    assert {"+" in key["kid"] for key in found["keys"]} == {True, False}  # the log's keys, and the receipts'
    assert all(set(key) == {"kty", "crv", "x", "kid", "use", "alg"} for key in found["keys"])


def test_the_wider_scope_stands_in_the_receipt_and_on_its_pages(house, client) -> None:
    scope = Scope(
        intended_use="A poster for the fair",
        territories=["DE", "FR"],
        partners=["Paper & Ink"],
        max_seconds=12.5,
        max_total_seconds=60.0,
    )
    consent, token = made(house, scope=scope)
    body = receipts.body_of(receipts.receipt_of(consent))
    process = body["dpv:hasRecordOfActivity"]["dpv:hasProcess"]
    assert process["imp:scope"]["imp:territories"] == ["DE", "FR"]
    assert process["imp:scope"]["imp:maxTotalSeconds"] == 60.0
    assert {"schema:name": "Paper & Ink"} in process["dpv:hasRecipient"]
    assert "A poster" not in json.dumps(body)  # the asker's own words may name people; their hash is in the notice's
    text = text_of(client.get(f"/c/{token}/receipt.pdf").content)
    for part in ("A poster for the fair", "Germany", "Paper & Ink", "12.5 s", "60 s"):
        assert part in text
