"""`manage.py bench liveness`: refuses an empty order; the measuring itself is a long proof."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError


@pytest.mark.parametrize("order", [["--rounds", "0"], ["--attacks", "0"]])
def test_nothing_to_measure_is_said(order: list[str]) -> None:
    with pytest.raises(CommandError, match="At least one clip"):
        call_command("bench", "liveness", *order)


@pytest.mark.soak
def test_people_pass_and_attacks_do_not() -> None:
    out = StringIO()
    call_command("bench", "liveness", "--rounds", "12", "--attacks", "2", stdout=out)
    table = {line[:16].strip(): line[16:].split() for line in out.getvalue().splitlines()[1:]}
    assert int(table["a person"][1]) >= 11
    assert all(
        int(table[name][1]) == 0 for name in ("still", "tilted", "bent", "rolled", "wrong_order", "other_person")
    )
