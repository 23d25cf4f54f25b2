"""PDF pages with text in any of the scripts the fonts here know: Latin, Greek, Cyrillic, Chinese, Japanese, Korean.

Both fonts are embedded (as the subset used), so that a page reads the same in twenty years on a machine without them.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import segno
from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Flowable, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

FONTS = Path(__file__).parent / "fonts"
TEXT, CJK = "ImprimaturText", "ImprimaturCJK"
INK, MUTED, RULE, PLATE = HexColor("#16202c"), HexColor("#54606e"), HexColor("#d5dbe3"), HexColor("#f3f5f8")
LABEL_WIDTH, WIDTH = 48 * mm, 170 * mm
PADDING = 6  # points, of the frame that the library puts around everything


class Pages:
    """A document put together from top to bottom; `pdf()` returns its bytes, equal for equal content."""

    def __init__(self, *, title: str, footer: str, language: str) -> None:
        self._text, self._cjk = _fonts()
        self._story: list[Flowable] = []
        self._title, self._footer, self._language = title, footer, language
        chinese = language.startswith("zh")
        # Chinese breaks between any two characters; other scripts only where there is a space.
        wrap = "CJK" if chinese else None
        base = {"fontName": CJK if chinese else TEXT, "textColor": INK, "wordWrap": wrap, "splitLongWords": 1}
        self.body = ParagraphStyle("body", **base, fontSize=9.5, leading=14)
        self.small = ParagraphStyle("small", **{**base, "textColor": MUTED}, fontSize=8, leading=11.5)
        self.code = ParagraphStyle("code", **{**base, "wordWrap": "CJK"}, fontSize=7.5, leading=10.5)
        self.head = ParagraphStyle("head", **base, fontSize=19, leading=24, spaceAfter=3 * mm)
        self.section = ParagraphStyle(
            "section", **base, fontSize=12.5, leading=17, spaceBefore=5 * mm, spaceAfter=1.5 * mm, keepWithNext=1
        )

    def heading(self, text: str) -> None:
        self._story.append(self._paragraph(text, self.head))

    def title(self, text: str) -> None:
        """A heading within the document."""
        self._story.append(self._paragraph(text, self.section))

    def paragraph(self, text: str, *, small: bool = False, code: bool = False) -> None:
        style = self.code if code else self.small if small else self.body
        for line in text.split("\n"):
            self._story.append(self._paragraph(line, style) if line.strip() else Spacer(1, 2 * mm))

    def rows(self, rows: Iterable[tuple[str, str]], *, code: bool = False) -> None:
        """Labels and values, ruled."""
        value = self.code if code else self.body
        cells = [
            [self._paragraph(label, self.small), [self._paragraph(line, value) for line in text.split("\n")]]
            for label, text in rows
        ]
        if not cells:
            return
        table = Table(cells, colWidths=[LABEL_WIDTH, WIDTH - LABEL_WIDTH])
        table.setStyle(
            TableStyle(
                [
                    ("VALIGN", (0, 0), (-1, -1), "TOP"),
                    ("LINEBELOW", (0, 0), (-1, -1), 0.4, RULE),
                    ("LEFTPADDING", (0, 0), (0, -1), 0),
                    ("TOPPADDING", (0, 0), (-1, -1), 2.5),
                    ("BOTTOMPADDING", (0, 0), (-1, -1), 3.5),
                ]
            )
        )
        self._story += [table, Spacer(1, 2 * mm)]

    def code_beside(self, address: str, title: str, text: str) -> None:
        """A QR code of an address on a plate, with words and the address beside it."""
        beside = [
            self._paragraph(title, ParagraphStyle("plate", parent=self.section, spaceBefore=0)),
            self._paragraph(text, self.body),
            Spacer(1, 1.5 * mm),
            self._paragraph(address, self.code),
        ]
        table = Table([[_Qr(address, 32 * mm), beside]], colWidths=[42 * mm, WIDTH - 42 * mm])
        table.setStyle(
            TableStyle(
                [
                    ("BACKGROUND", (0, 0), (-1, -1), PLATE),
                    ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
                    ("LEFTPADDING", (0, 0), (0, 0), 5 * mm),
                    ("TOPPADDING", (0, 0), (-1, -1), 4 * mm),
                    ("BOTTOMPADDING", (0, 0), (-1, -1), 4 * mm),
                ]
            )
        )
        self._story += [Spacer(1, 3 * mm), table, Spacer(1, 2 * mm)]

    def pdf(self) -> bytes:
        """The finished file."""
        target = io.BytesIO()
        document = SimpleDocTemplate(
            target,
            pagesize=A4,
            leftMargin=20 * mm - PADDING,
            rightMargin=20 * mm - PADDING,
            topMargin=18 * mm,
            bottomMargin=20 * mm,
            title=self._title,
            author="Imprimatur",
            creator="Imprimatur",
            lang=self._language,
            invariant=1,
        )
        document.build(self._story, onFirstPage=self._foot, onLaterPages=self._foot)
        return target.getvalue()

    def _foot(self, canvas: Any, document: Any) -> None:
        canvas.saveState()
        line = self._paragraph(f"{self._footer} · {document.page}", self.small)
        line.wrapOn(canvas, WIDTH, 20 * mm)
        line.drawOn(canvas, 20 * mm, 11 * mm)
        canvas.restoreState()

    def _paragraph(self, text: str, style: ParagraphStyle) -> Paragraph:
        return Paragraph("".join(self._runs(text, style.fontName)), style)

    def _runs(self, text: str, usual: str) -> Iterable[str]:
        """The text as markup: each run in a font that has its letters, the style's own where it can be."""
        fonts = sorted(((TEXT, self._text), (CJK, self._cjk)), key=lambda pair: pair[0] != usual)
        run, font = "", usual
        for char in text:
            has = next((name for name, letters in fonts if ord(char) in letters), "")
            drawn = char
            if not has:
                # A letter no font here has is named, not dropped: a name must not silently become another.
                drawn, has = " " if char.isspace() else f"[U+{ord(char):04X}]", TEXT
            if has != font and run:
                yield _run(run, font, usual)
                run = ""
            run, font = run + drawn, has
        yield _run(run, font, usual)


def attach(pdf: bytes, files: Sequence[tuple[str, bytes]]) -> bytes:
    """The PDF with files attached, as they are (not compressed), so that a reader finds them without a PDF library."""
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf)))
    for name, data in files:
        writer.add_attachment(name, data)
    target = io.BytesIO()
    writer.write(target)
    return target.getvalue()


class _Qr(Flowable):  # type: ignore[misc]
    """A QR code of `size` points, drawn as vectors."""

    def __init__(self, text: str, size: float) -> None:
        super().__init__()
        self.width = self.height = size
        self._matrix = list(segno.make(text, micro=False, error="m").matrix)

    def draw(self) -> None:
        border = 2
        step = self.width / (len(self._matrix) + 2 * border)
        canvas = self.canv
        canvas.setFillColor(HexColor("#ffffff"))
        canvas.rect(0, 0, self.width, self.height, stroke=0, fill=1)
        canvas.setFillColor(HexColor("#000000"))
        for y, row in enumerate(self._matrix):
            for x, dark in enumerate(row):
                if dark:
                    # A hair wider than the module: viewers leave white lines between rectangles that only touch.
                    canvas.rect(
                        (x + border) * step, self.height - (y + border + 1) * step, step + 0.05, step + 0.05, 0, 1
                    )


def _run(text: str, font: str, usual: str) -> str:
    return escape(text) if font == usual else f'<font name="{font}">{escape(text)}</font>'


def _fonts() -> tuple[set[int], set[int]]:
    """Registers both fonts once per process; returns which letters each has."""
    letters: list[set[int]] = []
    for name in (TEXT, CJK):
        if name not in pdfmetrics.getRegisteredFontNames():
            pdfmetrics.registerFont(TTFont(name, str(FONTS / f"{name}.ttf")))
        letters.append(pdfmetrics.getFont(name).face.charToGlyph.keys())
    return letters[0], letters[1]
