"""Countries as a permission names them: ISO 3166-1 alpha-2 codes, and how people call them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from babel import Locale

# What CLDR names with two letters but ISO 3166-1 does not assign: unions, exceptional reservations, pseudo-regions.
_NOT_ASSIGNED = frozenset({"AC", "CP", "CQ", "DG", "EA", "EU", "EZ", "IC", "QO", "TA", "UN", "XA", "XB", "XK", "ZZ"})
EU = (
    "AT",
    "BE",
    "BG",
    "CY",
    "CZ",
    "DE",
    "DK",
    "EE",
    "ES",
    "FI",
    "FR",
    "GR",
    "HR",
    "HU",
    "IE",
    "IT",
    "LT",
    "LU",
    "LV",
    "MT",
    "NL",
    "PL",
    "PT",
    "RO",
    "SE",
    "SI",
    "SK",
)
# Where the rules of a jurisdiction of `watermark.jurisdictions` hold; of a state, the country it is in.
OF_JURISDICTION = {"eu": EU, "us-ca": ("US",), "cn": ("CN",)}


def codes() -> frozenset[str]:
    """All 249 assigned codes."""
    return frozenset(_names("en"))


def name(code: str, locale: str) -> str:
    """The country in the language of a page; a code that is not known stands for itself."""
    return _names("zh_Hans" if locale == "zh-hans" else "en").get(code, code)


def listed(found: Iterable[str], locale: str) -> str:
    """The countries by name, in order of their codes."""
    return ("、" if locale == "zh-hans" else ", ").join(name(code, locale) for code in sorted(found))


@lru_cache(maxsize=2)
def _names(tag: str) -> dict[str, str]:
    known = Locale.parse(tag).territories
    return {code: known[code] for code in known if len(code) == 2 and code.isalpha() and code not in _NOT_ASSIGNED}
