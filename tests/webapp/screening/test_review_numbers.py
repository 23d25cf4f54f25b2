"""How the queue does, counted from its rows, and its decisions as a manifest for detectors."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from tests.webapp.screening import gate
from webapp.accounts import services as accounts
from webapp.commands.checks import check_reviews
from webapp.screening import appeals, numbers, services
from webapp.screening.models import Review
from worker.gate.packs import evaluation
from worker.gate.signals import Signal

pytestmark = pytest.mark.django_db


@pytest.fixture
def eve(db: None) -> Any:
    """A second moderator."""
    return accounts.create_user(email="eve@example.org", password="x" * 12, organisation=None, moderator=True)


def told(*arguments: str) -> str:
    out = StringIO()
    call_command("gate", "reviews", *arguments, stdout=out)
    return out.getvalue()


def took(review: Review, hours: float) -> None:
    """As if the decision had taken so long."""
    decided = Review.objects.get(pk=review.pk).decided_at
    assert decided is not None
    opened = decided - timedelta(hours=hours)
    promised = review.due_at - review.opened_at
    Review.objects.filter(pk=review.pk).update(opened_at=opened, due_at=opened + promised)


def test_an_empty_queue_has_nothing_to_say() -> None:
    found = numbers.numbers()
    assert (found.opened, found.open, found.overdue, found.pairs) == (0, 0, 0, 0)
    assert (found.median_hours, found.median_hours_two) == (None, None)
    assert "No review was decided by two people yet" in told()
    assert json.loads(told("--json"))["agreement"] is None


def test_outcomes_agreement_times_and_what_is_overdue_are_counted(stage: Any, eve: Any) -> None:
    for hours, verb in ((2, services.release_review), (6, services.reject_review), (30, services.release_review)):
        _, review = gate.held(stage, "nsfw_unsure", "declared_synthetic")
        verb(review, stage.mod, "seen")
        took(review, hours)
    for first, verb, last, hours in (
        (stage.mod, services.release_review, eve, 1),
        (stage.mod, services.reject_review, eve, 3),
        (stage.mod, services.reject_review, stage.mod, 5),  # changed their mind: one person's judgement
        (None, services.reject_review, eve, 7),
    ):
        _, review = gate.held(stage, "face_forgery_likely")
        if first is not None:
            services.release_review(review, first, "seen")
        verb(review, last, "seen")
        took(review, hours)
    appeals.appeal(gate.refused(stage), None, "The face is large enough.")
    _, late = gate.held(stage, "nsfw_unsure")
    Review.objects.filter(pk=late.pk).update(due_at=timezone.now() - timedelta(minutes=1))
    _, half = gate.held(stage, "ai_image_likely")
    services.release_review(half, stage.mod, "seen")

    found = numbers.numbers()
    assert (found.opened, found.open, found.overdue, found.waiting_for_second) == (10, 3, 1, 1)
    assert found.late == 3  # 30 h of 24; 5 h and 7 h of 4
    assert (found.pairs, found.agreed) == (2, 1)
    assert (found.median_hours, found.median_hours_two) == (6.0, 4.0)
    assert found.outcomes["nsfw_unsure"] == {"open": 1, "rejected": 1, "released": 2}
    assert found.outcomes["face_forgery_likely"] == {"rejected": 3, "released": 1}
    assert found.appeals == {"open": 1}
    text = told()
    assert "10 reviews opened, 3 open: 1 overdue, 1 wait" in text
    assert "agreed in 1 of 2 reviews (50%)" in text
    assert json.loads(told("--json"))["agreement"] == 0.5
    tomorrow = f"{datetime.now() + timedelta(days=1):%Y-%m-%d}"
    assert "0 reviews opened" in told("--since", tomorrow)
    with pytest.raises(CommandError, match="no day"):
        told("--since", "yesterday")


def test_the_doctor_warns_of_what_is_overdue(stage: Any) -> None:
    _, review = gate.held(stage, "nsfw_unsure")
    (finding,) = check_reviews()
    assert (finding.level, finding.words) == ("ok", "1 open, none overdue")
    Review.objects.filter(pk=review.pk).update(due_at=timezone.now() - timedelta(minutes=1))
    (finding,) = check_reviews()
    assert (finding.level, finding.words) == ("note", "1 of 1 open reviews should have been decided by now")


def pack(name: str, raw: float) -> dict[str, Any]:
    return {"id": name, "sha256": "0" * 64, "raw": raw, "p": raw, "timeline": [[0.0, raw]]}


def scored(stage: Any, *reasons: str, packs: list[dict[str, Any]], nude: float | None = None) -> Review:
    """An upload in review on which packs have spoken."""
    found = [Signal("face_forgery", "measured", {"p": 0.9, "review": 0.5, "high": 0.8, "packs": packs}, "packs")]
    if nude is not None:
        found.append(Signal("nsfw", "measured", {"highest": nude}, "open_nsfw"))
    decided = replace(gate.decision(), decision="review", reasons=reasons, signals=tuple(found))
    return Review.objects.get(screening__asset=gate.settled(stage, decided))


def test_decisions_become_rows_that_a_calibration_reads(stage: Any, tmp_path: Path) -> None:
    fine = scored(stage, "face_forgery_suspected", packs=[pack("sbi", 0.61), pack("gend", 0.4)], nude=0.31)
    fake = scored(stage, "face_forgery_suspected", packs=[pack("sbi", 0.77), {"id": "gend", "code": "timeout"}])
    other = scored(stage, "nsfw_unsure", packs=[pack("sbi", 0.2)], nude=0.5)  # refused for something else
    scored(stage, "face_forgery_suspected", packs=[pack("sbi", 0.66)])  # not decided yet
    services.release_review(fine, stage.mod, "seen")
    services.reject_review(fake, stage.mod, "seen")
    services.reject_review(other, stage.mod, "seen")

    file = tmp_path / "rows.csv"
    assert "5 rows written" in told("--export", str(file))
    with file.open(newline="", encoding="utf-8") as read:
        rows = list(csv.DictReader(read))
    assert list(rows[0]) == ["file", "label", "species", "source", "score", "signal", "pack", "outcome"]
    shas = {review: review.screening.asset.sha256 for review in (fine, fake, other)}
    names = {f"{sha}.jpg": sha for sha in shas.values()}
    assert all(names[row["file"]] == row["source"] for row in rows)
    got = [(row["source"], row["signal"], row["pack"], row["score"], row["label"], row["species"]) for row in rows]
    assert sorted(got) == sorted(
        [
            (shas[fine], "face_forgery", "sbi", "0.610000", "bona_fide", ""),
            (shas[fine], "face_forgery", "gend", "0.400000", "bona_fide", ""),
            (shas[fine], "nsfw", "open_nsfw", "0.310000", "bona_fide", ""),
            (shas[fake], "face_forgery", "sbi", "0.770000", "attack", "face_forgery"),
            (shas[other], "nsfw", "open_nsfw", "0.500000", "attack", "nsfw"),
        ]
    )
    folder = tmp_path / "mine"  # the operator's own copies, under the names of the manifest
    folder.mkdir()
    for row in rows:
        (folder / row["file"]).write_bytes(b"a copy")
    entries = evaluation.read_manifest(folder, file)
    assert [(entry.source, entry.fake, entry.species) for entry in entries] == [
        (row["source"], row["label"] == "attack", row["species"]) for row in rows
    ]
    with pytest.raises(CommandError, match="exists already"):
        told("--export", str(file))
    one = tmp_path / "one.csv"
    assert "2 rows written" in told("--export", str(one), "--pack", "sbi")


def test_a_manifest_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be written"):
        told("--export", str(tmp_path / "nowhere" / "x.csv"))
