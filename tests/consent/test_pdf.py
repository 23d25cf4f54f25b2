"""PDF pages draw the letters they are given, and equal content gives equal files."""

from __future__ import annotations

import io

import numpy as np
import pypdfium2
import pytest
from numpy.typing import NDArray
from pypdf import PdfReader

from consent.receipts.pdf import Pages, attach


def document(text: str, language: str = "en") -> bytes:
    pages = Pages(title="t", footer="", language=language)
    pages.paragraph(text)
    return pages.pdf()


def drawn(pdf: bytes) -> NDArray[np.uint8]:
    """The top of the first page as a picture, uint8 [H, W]."""
    picture = np.asarray(pypdfium2.PdfDocument(pdf)[0].render(scale=2).to_pil().convert("L"))
    return picture[: picture.shape[0] // 6]


@pytest.mark.parametrize("text", ["欧阳娜娜", "Łukasz", "Ελένη", "Жанна", "かな", "𠮷"])
@pytest.mark.parametrize("language", ["en", "zh-Hans"])
def test_letters_have_ink_of_their_own(text: str, language: str) -> None:
    ink, blank, boxes = (drawn(document(each, language)) for each in (text, "\u3000", "□" * len(text)))
    assert (ink < 128).sum() > (blank < 128).sum() + 40
    assert not np.array_equal(ink, boxes)


def test_long_chinese_lines_stay_on_the_page() -> None:
    for language in ("en", "zh-Hans"):
        pdf = document("许可凭证" * 60 + "a" * 200, language)
        picture = np.asarray(pypdfium2.PdfDocument(pdf)[0].render(scale=1).to_pil().convert("L"))
        assert (picture[:, -50:] < 128).sum() == 0  # the right margin
        text = "".join(page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages).replace("\n", "")
        assert text.count("许可凭证") == 60


def test_equal_content_gives_equal_bytes_attachments_too() -> None:
    first, second = (attach(document("Ada 李"), [("receipt.jwt", b"eyJ.x.y")]) for _ in range(2))
    assert first == second
    assert b"eyJ.x.y" in first
    assert PdfReader(io.BytesIO(first)).attachments["receipt.jwt"][0] == b"eyJ.x.y"
