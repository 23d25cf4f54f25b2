"""The words of the portal, beside those of the consent pages."""

from __future__ import annotations

import tomllib
from typing import Any

from consent.texts import FOLDER, known_locale


def portal_words(locale: str) -> dict[str, Any]:
    """The words of the portal's pages and mails in a language."""
    return tomllib.loads((FOLDER / f"portal.{known_locale(locale)}.toml").read_text(encoding="utf-8"))
