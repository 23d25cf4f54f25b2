"""A start that would be unsafe does not happen; it says why and what to set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def start(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    surroundings = {"PATH": os.environ["PATH"], "IMPRIMATUR_HOME": str(tmp_path), **environment}
    code = "import webapp.settings as s; print(s.PROFILE, s.PUBLIC_URL)"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=surroundings, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"IMPRIMATUR_PROFILE": "evaluation", "PUBLIC_URL": "https://swap.example.org"}, "standard or strict"),
        ({"IMPRIMATUR_PROFILE": "lenient"}, "must be one of"),
        ({"DEBUG": "perhaps"}, "a yes or a no"),
        ({"LEASE_SECONDS": "soon"}, "whole number"),
        ({"DATABASE_URL": "mysql://x/y"}, "sqlite:/// or postgresql://"),
        ({"REVIEW_HOURS": "3"}, "not more than REVIEW_HOURS"),
        ({"REVIEW_HOURS_PRIORITY": "0"}, "at least 1"),
    ],
)
def test_an_unsafe_or_senseless_setting_ends_the_start_with_its_reason(
    tmp_path: Path, environment: dict[str, str], words: str
) -> None:
    run = start(tmp_path, **environment)
    assert run.returncode != 0
    assert words in run.stderr


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    address = tmp_path / "address"
    address.write_text("https://swap.example.org\n")
    run = start(tmp_path, IMPRIMATUR_PROFILE="strict", PUBLIC_URL_FILE=str(address))
    assert run.stdout.strip() == "strict https://swap.example.org", run.stderr
