"""The watch over detector packs: what was let through this week against what they were calibrated on."""

from __future__ import annotations

import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.management import call_command
from django.utils import timezone

from tests.webapp.screening.test_reviews import decided
from tests.worker.gate.pack_graphs import write_graph, write_manifest
from webapp.jobs import intake
from webapp.screening import services
from webapp.screening.models import ScreeningRecord
from worker.drift_watch import look, watch_drift
from worker.gate.packs import calibration
from worker.gate.packs.pack_store import PackStore
from worker.gate.signals import Signal

pytestmark = pytest.mark.django_db


@pytest.fixture
def store(settings: Any, tmp_path: Path) -> PackStore:
    """A calibrated pack whose bona fide raw scores lay around 0.2."""
    settings.GATE_PACKS_DIR = tmp_path / "packs"
    write_graph(tmp_path / "drawn.onnx")
    made = PackStore(settings.GATE_PACKS_DIR)
    pack = made.install(write_manifest(tmp_path / "drawn.toml"), pin=True).pack
    assert pack is not None
    draw = np.random.default_rng(1)
    fake = np.arange(600) < 100
    scores = np.where(fake, draw.beta(6, 2, 600), draw.beta(2, 8, 600))
    found = calibration.calibrate(scores, fake, "platt", pack_sha256=pack.sha256, data_sha256="d", date="2026-11-01")
    made.keep_calibration("drawn", found)
    return made


def screened(stage: Any, store: PackStore, raw: float | None, *, profile: str = "evaluation") -> ScreeningRecord:
    """An upload that went through the gate with this score."""
    asset = intake.claim_asset(stage.upload("target").pk, "screener")
    assert asset is not None
    pack = store.standing("drawn").pack
    assert pack is not None
    row: dict[str, Any] = {"id": "drawn", "sha256": pack.sha256, "code": "" if raw is not None else "not_applicable"}
    if raw is not None:
        row["raw"] = raw
    seen = Signal("face_forgery", "not_installed", {"code": "no_enforcing_pack", "packs": [row]}, "packs")
    decision = decided(profile, face_forgery=seen)
    assert services.settle_asset(decision, asset.pk, "screener")
    return ScreeningRecord.objects.get(asset=asset)


def one_record_many_scores(record: ScreeningRecord, scores: list[float]) -> None:
    """A week of uploads in one record: the watch reads rows, whosever they are."""
    for signal in record.signals:
        if signal["kind"] == "face_forgery" and signal["value"]:
            row = signal["value"]["packs"][0]
            signal["value"]["packs"] = [{**row, "raw": score} for score in scores]
    ScreeningRecord.objects.filter(pk=record.pk).update(signals=record.signals)


def test_a_pack_whose_scores_have_moved_becomes_advisory(stage: Any, store: PackStore) -> None:
    record = screened(stage, store, 0.2)
    draw = np.random.default_rng(2)
    one_record_many_scores(record, draw.beta(2, 8, 200).tolist())
    watch_drift()
    assert store.standing("drawn").code == "not_evaluated"
    one_record_many_scores(record, draw.beta(4, 6, 200).tolist())
    out = io.StringIO()
    call_command("gate", "drift", stdout=out)
    assert "DRIFTED" in out.getvalue()
    recorded = (store.folder / "packs.json").read_text()
    assert '"drift"' in recorded
    assert '"psi"' in recorded


def test_only_what_was_let_through_this_week_counts(stage: Any, store: PackStore) -> None:
    passed = screened(stage, store, 0.25)
    screened(stage, store, None)  # no usable face
    held = screened(stage, store, 0.97, profile="standard")
    old = screened(stage, store, 0.99)
    ScreeningRecord.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=8))
    assert (passed.decision, held.decision) == ("accept", "review")
    (watched,) = look()
    assert (watched.week.scores, watched.week.median) == (1, 0.25)
    services.release_review(held.review, stage.mod, "looked at")
    (watched,) = look()
    assert (watched.week.scores, watched.week.median) == (2, pytest.approx(0.61))
    assert not watched.week.drifted  # two scores tell nothing


def test_without_a_calibrated_pack_nothing_can_drift(settings: Any, tmp_path: Path) -> None:
    settings.GATE_PACKS_DIR = tmp_path / "none"
    assert look() == []
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "packs.json").write_text("[")
    watch_drift()  # says so in the log, and the scheduler goes on


def test_a_hard_stop_is_refused_without_a_review_or_a_word_about_why(stage: Any) -> None:
    asset = intake.claim_asset(stage.upload("target").pk, "screener")
    assert asset is not None
    decision = decided(
        "standard",
        nsfw=Signal("nsfw", "measured", {"highest": 0.5}),
        age=Signal("age", "measured", {"youngest": 20.0, "not_applicable": 0}),
    )
    assert not decision.preview_allowed
    assert services.settle_asset(decision, asset.pk, "screener")
    asset.refresh_from_db()
    assert (asset.state, asset.failure_code) == ("refused", "refused_by_screening")
    assert asset.screenings.get().reasons[0] == "protected_stop"
    assert not services.waiting().filter(screening__asset=asset).exists()
