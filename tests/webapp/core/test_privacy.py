"""Every column of the house has a data category, and every category a column."""

from __future__ import annotations

import pytest

from webapp import privacy, retention
from webapp.privacy import Category


def test_every_column_has_a_category_and_every_category_a_column() -> None:
    assert privacy.faults() == []


def test_a_column_without_category_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    there = privacy.columns()
    there["jobs.Asset"] = [*there["jobs.Asset"], "shoe_size"]
    there["shoes.Shoe"] = ["id"]
    there["jobs.Job"] = [name for name in there["jobs.Job"] if name != "warnings"]
    monkeypatch.setattr(privacy, "columns", lambda: there)
    assert privacy.faults() == [
        "jobs.Asset.shoe_size has no data category",
        "shoes.Shoe.id has no data category",
        "jobs.Job.warnings has a category, but no such column exists",
    ]


def test_what_names_or_reaches_a_depicted_person_is_sealed_or_hashed() -> None:
    plain = {
        f"{tag.model}.{tag.name}"
        for tag in privacy.tags()
        if tag.category in {Category.NAME, Category.CONTACT, Category.TEXT, Category.BIOMETRIC, Category.FACE_IMAGE}
        and not tag.sealed
    }
    assert plain == {
        "accounts.User.email",
        "accounts.User.first_name",
        "accounts.User.last_name",
        "accounts.User.username",
        # Keyed hashes.
        "consent.Block.key_hmac",
        "consent.PortalAsk.key_hmac",
        "consent.Subject.contact_hmac",
        # Names of encrypted objects.
        "jobs.Asset.analysis_name",
        "jobs.Asset.object_name",
        "jobs.Asset.previews",
        "jobs.Output.object_name",
        "jobs.Segment.object_name",
        "screening.ListedFace.photo_name",
        "consent.Challenge.clip_name",
        "consent.Challenge.stills",
        # Plain, and emptied when somebody shown is erased.
        "jobs.Asset.name",
        "jobs.JobEvent.message",
        "screening.Review.first_reason",
        "screening.Review.reason",
        "screening.Review.statement",
        # A mail lies in it sealed.
        "outbox.OutboxMessage.payload",
    }


@pytest.mark.parametrize("locale", ["en", "zh-hans"])
def test_the_published_schedule_is_whole_in_both_languages(locale: str) -> None:
    rows = retention.published(locale)
    assert {"inputs", "outputs", "consent_record", "marks", "logs"} <= {row["name"] for row in rows}
    for row in rows:
        assert all(row[part] for part in ("data", "since", "action", "reason")), row


def test_wherever_a_row_leads_to_a_person_it_is_said_what_their_erasure_does(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"consent.Consent", "consent.LedgerEntry", "jobs.OutputFingerprint"} <= privacy.leading_to_people()
    assert "accounts.User" not in privacy.leading_to_people()
    known = privacy.records()
    forgetful = {**known, "jobs.Job": privacy.Record(privacy.REPLACEMENT, "jobs", known["jobs.Job"].fields)}
    monkeypatch.setattr(privacy, "records", lambda: forgetful)
    assert privacy.faults() == [
        "jobs.Job leads to a person, and `on_erasure` does not say what happens to it when they are forgotten"
    ]
