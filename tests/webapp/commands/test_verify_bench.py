"""`manage.py bench verify` checks what it made, and gets the answers it must."""

from __future__ import annotations

import pytest

from webapp.commands import verify_bench


@pytest.mark.soak  # it makes and checks whole films
def test_every_file_of_the_bench_gets_its_verdict_and_a_number() -> None:
    lines = list(verify_bench.run(seconds=1.0, rounds=1))
    assert len(lines) == 7
    for line in lines[:6]:
        assert "instead of" not in line
        assert "ms of one core" in line
    assert lines[6].startswith("memory of the checking process")
