"""Fills in an HTML form the way a person in front of it does: reads the page, ticks the boxes, writes the name.

The demo answers the consent request through the depicted person's own page with it, without a running server.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser


@dataclass
class Form:
    """One form of a page: where it goes and what it would send if nothing were changed."""

    action: str = ""
    method: str = "get"
    hidden: dict[str, list[str]] = field(default_factory=dict)
    boxes: list[tuple[str, str, bool]] = field(default_factory=list)  # name, value, ticked beforehand
    texts: list[str] = field(default_factory=list)
    buttons: list[tuple[str, str]] = field(default_factory=list)

    def filled(self, *, texts: dict[str, str], ticks: set[str] | None = None) -> dict[str, list[str]]:
        """The data a browser would send with the given texts and ticks (None: every box)."""
        data = {name: list(values) for name, values in self.hidden.items()}
        for name, value, _ in self.boxes:
            if ticks is None or name in ticks or f"{name}={value}" in ticks:
                data.setdefault(name, []).append(value)
        for name in self.texts:
            data[name] = [texts.get(name, "")]
        return data


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._open: Form | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._open = Form(values.get("action", ""), values.get("method", "get").lower())
            self.forms.append(self._open)
        if self._open is None:
            return
        name = values.get("name", "")
        if tag == "button" and name:
            self._open.buttons.append((name, values.get("value", "")))
        if tag == "textarea" and name:
            self._open.texts.append(name)
        if tag != "input" or not name:
            return
        kind = values.get("type", "text")
        if kind == "hidden":
            self._open.hidden.setdefault(name, []).append(values.get("value", ""))
        elif kind in {"checkbox", "radio"}:
            self._open.boxes.append((name, values.get("value", "on"), "checked" in values))
        elif kind not in {"submit", "button", "reset", "file"}:
            self._open.texts.append(name)

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = None


def read_forms(html: str) -> list[Form]:
    """All forms of a page, in order."""
    reader = _Reader()
    reader.feed(html)
    return reader.forms
