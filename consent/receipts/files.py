"""The files of a receipt: what the person downloads and what their mail carries."""

from __future__ import annotations

import json
from datetime import datetime

from consent.models import Consent
from consent.receipts.check import ATTACHED_AS
from consent.receipts.models import Receipt
from consent.receipts.pdf import Pages, attach
from consent.receipts.services import body_of
from consent.receipts.view import describe


def json_of(signed: str) -> bytes:
    """The readable form: what was signed, and the signed text it can be checked by."""
    return json.dumps({"receipt": body_of(signed), "jws": signed}, ensure_ascii=False, indent=2).encode() + b"\n"


def pdf_of(consent: Consent, receipt: Receipt, locale: str, *, now: datetime) -> bytes:
    """The receipt to read and print, in a language, with the signed one attached. Raises keys.KeyDestroyedError."""
    shown = describe(consent, receipt, locale, now=now)
    words = shown.text["document"]
    pages = Pages(
        title=f"{shown.title} {receipt.id}", footer=f"{shown.title} · {receipt.id}", language=_language(locale)
    )
    pages.heading(shown.title)
    pages.paragraph(shown.sentence)
    pages.code_beside(shown.withdraw_link, words["withdraw_heading"], words["withdraw_text"])
    pages.title(words["facts"])
    pages.rows(shown.facts)
    pages.title(words["proof"])
    pages.rows(shown.proof, code=True)
    pages.title(words["check_heading"])
    pages.paragraph(shown.check)
    pages.title(words["words"])
    pages.paragraph(shown.notice)
    return attach(pages.pdf(), [(ATTACHED_AS, receipt.jws.encode())])


def _language(locale: str) -> str:
    return "zh-Hans" if locale == "zh-hans" else "en"
