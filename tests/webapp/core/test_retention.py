"""The schedule is one table: carried out, forecast and published from the same rows."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from tests.webapp import cast
from webapp import privacy, retention, ropa
from webapp.jobs.models import Asset, Job, JobEvent
from webapp.screening.models import ScreeningRecord

pytestmark = pytest.mark.django_db


def test_every_rule_of_the_scheduler_is_carried_out_by_somebody() -> None:
    carried = {rule for rule, _ in retention._keepers}
    wanted = {name for name, rule in retention.RULES.items() if rule.who == "scheduler"}
    # Rooms that are not part of every house register theirs when they are there.
    assert wanted - carried <= {"challenge_clips", "short_lived"}
    assert carried <= wanted


def test_a_rule_that_nobody_carries_out_here_cannot_be_registered() -> None:
    for name in ("marks", "no such rule"):
        with pytest.raises(KeyError):
            retention.register(name, lambda now: 0)


def test_one_rule_that_fails_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(now: Any) -> int:
        raise OSError("the disk is away")

    keepers = {**retention._keepers, ("inputs", "broken"): retention.Keeper(broken, lambda now: None)}
    monkeypatch.setattr(retention, "_keepers", keepers)
    done = retention.run(timezone.now())
    assert done.failed == ("inputs",)
    assert {"outputs", "consent_record", "sessions"} <= set(done.gone)
    with pytest.raises(CommandError, match="inputs failed"):
        call_command("privacy", "retention")


def test_a_dry_run_names_what_would_go_and_touches_nothing(
    cleo: cast.Account, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asset = cast.ready(cleo, "source")
    call_command("privacy", "retention", "--dry-run")
    assert asset.pk not in capsys.readouterr().out
    later = timezone.now() + timedelta(days=9)
    monkeypatch.setattr(timezone, "now", lambda: later)
    call_command("privacy", "retention", "--dry-run")
    said = capsys.readouterr().out
    rules = [line.partition(" (")[0].partition(":")[0] for line in said.splitlines() if not line.startswith(" ")]
    assert len(rules) == len(set(rules))  # one line each, however many rooms carry it out
    assert "unused_inputs (7 days): 1 due" in said
    assert asset.pk in said
    asset.refresh_from_db()
    assert (asset.erased_at, asset.name) == (None, "astronaut.jpg")
    call_command("privacy", "retention")
    assert "unused_inputs: 1 gone" in capsys.readouterr().out
    asset.refresh_from_db()
    assert asset.erased_at is not None
    assert (asset.name, asset.object_name, asset.previews) == ("", "", {})


def test_remarks_measurements_and_sessions_go_with_time(cleo: cast.Account, settings: Any) -> None:
    job = cast.submitted(cleo)
    ScreeningRecord.objects.create(
        job=job, profile="evaluation", policy_version="1", signals=[{"name": "x"}], decision="accept"
    )
    JobEvent.objects.create(job=job, from_state="queued", to_state="queued", message="a remark")
    now = timezone.now()
    Job.objects.filter(pk=job.pk).update(state="canceled", finished_at=now)
    retention.run(now + timedelta(days=399))
    assert JobEvent.objects.filter(message="a remark").exists()
    assert ScreeningRecord.objects.get(job=job).signals
    assert not Session.objects.exists()  # Cleo's log-in is long over
    retention.run(now + timedelta(days=401))
    assert not JobEvent.objects.filter(message="a remark").exists()
    assert ScreeningRecord.objects.get(job=job).signals == []


@pytest.mark.parametrize(
    ("hours", "en", "zh"),
    [(0, "at once", "立即"), (1, "1 hour", "1 小时"), (24, "24 hours", "24 小时"), (48, "2 days", "2 天")]
    + [(24 * 90, "90 days", "90 天"), (24 * 365, "1 year", "1 年"), (24 * 365 * 3, "3 years", "3 年")],
)
def test_spans_of_time_in_words(hours: int, en: str, zh: str) -> None:
    span = timedelta(hours=hours)
    assert (retention.period_words(span), retention.period_words(span, "zh-hans")) == (en, zh)


def test_anybody_reads_the_schedule_in_both_languages(settings: Any) -> None:
    settings.CONTROLLER_NAME = "Cleo & Sons"
    english = Client().get("/retention", headers={"Accept-Language": "en"})
    assert english.status_code == 200
    page = english.content.decode()
    assert "3 years" in page
    assert "Cleo &amp; Sons" in page
    for name, rule in retention.RULES.items():
        shown = any(row["name"] == name for row in retention.published("en"))
        assert (f'id="{name}"' in page) == shown, (name, rule)
    chinese = Client().get("/retention?lang=zh-hans")
    assert chinese.headers["Content-Language"] == "zh-Hans"
    assert "保存" in chinese.content.decode()
    settings.CONSENT_RETENTION_YEARS = 2
    assert "2 years" in Client().get("/retention?lang=en").content.decode()


def test_the_record_of_processing_is_printed_from_the_tags(settings: Any, capsys: pytest.CaptureFixture[str]) -> None:
    settings.CONTROLLER_NAME, settings.CONTROLLER_CONTACT, settings.DPO_CONTACT = "Cleo", "privacy@cleo.example", "Dee"
    call_command("privacy", "report", "--format", "json")
    found = json.loads(capsys.readouterr().out)
    assert found["controller"] == {
        "name": "Cleo",
        "contact": "privacy@cleo.example",
        "data_protection_officer": "Dee",
    }
    assert found["missing"] == []
    tables = {table["table"] for activity in found["activities"] for table in activity["data"]}
    assert tables == set(privacy.columns())
    faces = [
        each
        for activity in found["activities"]
        for table in activity["data"]
        for each in table["categories"]
        if each["special"]
    ]
    assert {each["dpv"] for each in faces} == {"pd:Picture", "pd:FacialPrint"}
    call_command("privacy", "report")
    assert "9(2)(a) explicit consent" in capsys.readouterr().out
    settings.CONTROLLER_NAME = ""
    assert "CONTROLLER_NAME is not set" in ropa.missing()


def test_what_is_never_screened_again_keeps_its_place(cleo: cast.Account) -> None:
    """An asset that is being screened is not taken from its worker."""
    asset = cast.uploaded(cleo, "source")
    Asset.objects.filter(pk=asset.pk).update(state=Asset.State.SCREENING)
    retention.run(timezone.now() + timedelta(days=30))
    asset.refresh_from_db()
    assert asset.erased_at is None
