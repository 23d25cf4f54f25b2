"""A name may be written in any script; what hides or turns text is no name."""

from __future__ import annotations

import pytest

from consent.names import is_name


@pytest.mark.parametrize("name", ["Ada", "王小明", "Ó Brádaigh", "علی‌رضا", "ක්‍රිෂ්ණ", "d'Arc 2nd"])
def test_names_of_any_script_are_names(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "name", ["", "  ", "12345", "\ufffd\ufffd", "Ada\u202egnp", "Ada\x00", "a" * 121, "Ada\nBen", "\u200d\u200c"]
)
def test_what_hides_or_is_no_letter_is_no_name(name: str) -> None:
    assert not is_name(name)
