"""`doctor` looks at the real parts and names what to mend."""

from __future__ import annotations

import contextlib
import json
from io import StringIO
from pathlib import Path

import pytest
from django.conf import settings as product
from django.core.management import call_command

from webapp.commands import checks


def findings() -> dict[str, dict[str, str]]:
    out = StringIO()
    with contextlib.suppress(SystemExit):
        call_command("doctor", "--json", stdout=out)
    return {found["what"]: found for found in json.loads(out.getvalue())}


@pytest.mark.django_db
def test_a_prepared_evaluation_machine_misses_nothing(models_dir: Path) -> None:
    try:
        found = findings()
    finally:
        from worker.inference.client import stop_engine

        stop_engine(product.HOME)
    missing = {name: entry for name, entry in found.items() if entry["level"] == "missing"}
    assert missing == {}
    assert "UNTRUSTED" in found["signer"]["words"]
    assert "not screened" in found["screening"]["words"]
    assert found["engine"]["level"] == "ok"


@pytest.mark.parametrize(
    ("url", "profile", "level"),
    [
        ("http://127.0.0.1:8000", "evaluation", "note"),
        ("http://127.0.0.1:8000", "standard", "missing"),
        ("http://swap.example.org", "standard", "missing"),
        ("https://swap.example.org", "standard", "ok"),
        ("swap.example.org", "standard", "missing"),
        ("https://elsewhere.example.org", "standard", "missing"),
        ("https://swap.example.org/app", "standard", "missing"),
    ],
)
def test_the_outside_address_is_judged(settings: object, url: str, profile: str, level: str) -> None:
    settings.PUBLIC_URL = url  # type: ignore[attr-defined]
    settings.PROFILE = profile  # type: ignore[attr-defined]
    settings.ALLOWED_HOSTS = ["127.0.0.1", "swap.example.org"]  # type: ignore[attr-defined]
    (found,) = checks.check_public_url()
    assert found.level == level
    assert found.level == "ok" or found.mend


@pytest.mark.parametrize(
    ("places", "profile", "producer", "levels"),
    [
        (("default",), "standard", "", ["ok"]),
        (("eu", "cn"), "standard", "", ["ok", "missing"]),
        (("eu", "cn"), "evaluation", "", ["ok", "note"]),
        (("eu", "cn"), "standard", "maker", ["ok"]),
    ],
)
def test_the_label_is_shown_as_it_will_be_and_a_missing_name_is_named(
    settings: object, places: tuple[str, ...], profile: str, producer: str, levels: list[str]
) -> None:
    settings.JURISDICTIONS, settings.PROFILE, settings.AIGC_PRODUCER = places, profile, producer  # type: ignore[attr-defined]
    found = list(checks.check_labels())
    assert [finding.level for finding in found] == levels
    assert "AI MODIFIED" in found[0].words
    assert all("AIGC_PRODUCER" in finding.mend for finding in found[1:])


def test_missing_models_are_named_with_the_command_that_makes_them(settings: object, tmp_path: Path) -> None:
    settings.MODELS_DIR = tmp_path  # type: ignore[attr-defined]
    (found,) = checks.check_models()
    assert found.level == "missing"
    assert "face_mesh" in found.words
    assert "models build" in found.mend


@pytest.mark.django_db
def test_one_broken_part_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("the floor gave way")

    monkeypatch.setattr("webapp.commands.management.commands.doctor.CHECKS", (broken, checks.check_profile))
    found = findings()
    assert "the floor gave way" in found["broken"]["words"]
    assert found["profile"]["level"] == "note"
