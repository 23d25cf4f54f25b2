"""Signals as rows that can be read, timelines as strips, and previews in which nobody is recognised."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from django.test import Client
from PIL import Image

from consent.models import AuditRecord
from tests.webapp import cast
from webapp.console import evidence_rows, heat_strip
from webapp.console.blurring import LEFT, SHOWN, blurred
from webapp.screening import services as screening
from webapp.screening.models import Review, ScreeningRecord
from worker.gate import signals
from worker.gate.looks import age, nsfw
from worker.inference import gate_models

MEASURED = [
    signals.dimensions(640, 480, 12.04),
    signals.faces("target", [180.4, 70.0]),
    signals.markable("flat"),
    signals.own_mark(bytes(8), "full"),
    signals.credentials("valid", is_ours=False, issuer="Ada Byron", source_types=["trainedAlgorithmicMedia"]),
    signals.listed_face([1], entries=3, threshold=0.45, one_to_many=False, chance=0.005),
    signals.identity([0.31, 0.5211]),
    signals.pose(120, 3, 31.6),
    signals.asset_profiles(["standard", ""]),
    signals.stay_down("alike", 7),
    signals.relationships(["employee", ""]),
    signals.assurance(["L1", "L2"], "L2"),
]
NSFW = nsfw.measured(
    [(0.0, 0.01), (1.0, 0.25), (2.0, 0.8123), (3.0, 0.02), (4.0, 0.01)], gate_models.of_role("nsfw")
).to_dict()
AGE = age.measured([(0, 0.0), (0, 2.0), (1, 1.0)], [(gate_models.of_role("age"), [31.0, 23.4, 44.0])], [0, 1]).to_dict()
FORGED = {
    "kind": "face_forgery",
    "status": "measured",
    "tool": "packs",
    "value": {
        "p": 0.93,
        "review": 0.6,
        "high": 0.9,
        "packs": [
            {
                "id": "sbi",
                "title": "Self-blended images",
                "role": "enforcing",
                "raw": 0.7,
                "p": 0.93,
                "review": 0.6,
                "high": 0.9,
                "timeline": [{"seconds": 0.0, "score": 0.2}, {"seconds": 70.0, "score": 0.93}],
            },
            {"id": "gend", "title": "", "role": "advisory", "code": "timeout"},
        ],
    },
}


def cells(*found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    return [(row.name, row.value, row.threshold) for row in evidence_rows.rows(found)]


def test_every_signal_of_the_gate_has_a_row_in_words_with_its_threshold() -> None:
    rows = evidence_rows.rows([signal.to_dict() for signal in MEASURED])
    assert [(row.name, row.value, row.threshold) for row in rows] == [
        ("Size", "640 × 480 pixels, 12.0 s", "at least 64 pixels a side"),
        ("Faces found", "2, the largest 180 pixels", "at least 64 pixels"),
        ("Room for the invisible mark", "not enough (flat)", ""),
        ("Our own mark", "found, 0000000000000000", "refused if found"),
        (
            "Content Credentials",
            "valid, say that AI made or changed it",
            "reviewed if they declare AI, refused if ours",
        ),
        ("Faces on the list", "1 near one of 3", "distance up to 0.45"),
        ("Distance to the confirmed face", "0.521", "up to 0.45 passes, above 0.6 is somebody else"),
        ("Direction of the faces", "3 of 120 frames too far, widest 32°", "30°"),
        ("Profiles the files were screened under", "standard, none", ""),
        ("Results whose permission ended", "one is alike; compared with 7", "refused if found"),
        ("What people are to the account", "employee, not said", "reviewed if an employee"),
        ("How surely people were recognised", "L1, L2", "at least L2"),
    ]
    assert {row.tool for row in rows} >= {"media", "watermark", "c2pa"}


def test_what_was_not_measured_says_why() -> None:
    found = [*signals.not_installed(), signals.failed("identity", "child_timeout")]
    rows = evidence_rows.rows([each.to_dict() for each in found])
    assert {row.measured for row in rows} == {False}
    assert rows[0].value == "Not screened: nothing is installed for it"
    assert rows[-1].value == "Did not work (child_timeout)"


def test_learned_signals_show_score_bands_and_each_pack() -> None:
    assert cells(NSFW, AGE, FORGED) == [
        ("Nudity", "0.812 at most, 5 pictures", "review from 0.2, refused from 0.8"),
        (
            "Youngest estimate of age",
            "23 years, of 3 looks",
            "review below 25, refused below 16; errs by 4 to 6 years",
        ),
        ("Forged faces", "0.93", "review from 0.6, two people from 0.9"),
        ("Forged faces: Self-blended images", "0.93 (raw 0.7)", "review from 0.6, two people from 0.9"),
        ("Forged faces: gend", "No answer (timeout)", ""),
    ]
    assert [row.tool for row in evidence_rows.rows([FORGED])] == ["packs", "sbi, enforcing", "gend, advisory"]


@pytest.mark.parametrize(
    "odd",
    [
        {"kind": "nsfw", "status": "measured", "value": {}},
        {"kind": "identity", "status": "measured", "value": {"worst": "Ada Byron"}},
        {"kind": "dimensions", "status": "measured", "value": None},
        {"kind": "of_the_future", "status": "measured", "value": {"score": 0.5, "name": "Ada Byron"}},
        {"kind": "age", "score": 0.4},
        {},
    ],
)
def test_a_record_of_another_version_is_still_shown(odd: dict[str, Any]) -> None:
    assert len(evidence_rows.rows([odd])) == 1
    assert heat_strip.strips([odd], "x") == []


def test_before_a_reason_the_rows_hold_none_of_the_files_own_words() -> None:
    credentials = next(signal for signal in MEASURED if signal.kind == "credentials").to_dict()
    assert "Ada" not in str(cells(credentials, {"kind": "of_the_future", "value": {"name": "Ada", "score": 1.5}}))


def test_a_strip_says_in_words_what_it_draws() -> None:
    strip, ages, pack = heat_strip.strips([NSFW, AGE, FORGED], "rev_1")
    assert strip.words == "5 moments from 0:00 to 0:04; highest 0.812 at 0:02. 2 of them at or above 0.2."
    assert [(cell.at, cell.value, cell.over) for cell in strip.cells] == [
        ("0:00", "0.01", False),
        ("0:01", "0.25", True),
        ("0:02", "0.812", True),
        ("0:03", "0.02", False),
        ("0:04", "0.01", False),
    ]
    assert float(strip.cells[2].shade) > float(strip.cells[1].shade) > float(strip.cells[0].shade) > 0
    assert sum(float(cell.width) for cell in strip.cells) == pytest.approx(1000, abs=1)
    # Of ages less is worse, and a person seen once has no strip.
    assert (ages.title, ages.words) == (
        "Youngest estimate of age: person 0",
        "2 moments from 0:00 to 0:02; lowest 23.4 at 0:02. 1 of them below 25.",
    )
    assert float(ages.cells[1].shade) > float(ages.cells[0].shade)
    assert (pack.title, pack.end, pack.cells[-1].over) == ("Forged faces: Self-blended images", "1:10", True)
    assert len({strip.id, ages.id, pack.id}) == 3


def test_a_long_video_keeps_its_worst_moments_in_a_bounded_strip() -> None:
    scores = np.linspace(0.0, 0.3, 3600)
    scores[1234] = 0.99
    long = {
        "kind": "nsfw",
        "value": {"bands": [0.2, 0.8], "timeline": [[float(n), float(s)] for n, s in enumerate(scores)]},
    }
    (strip,) = heat_strip.strips([long], "x")
    assert len(strip.cells) == heat_strip.MOST_CELLS
    assert max(float(cell.value) for cell in strip.cells) == 0.99
    assert strip.end == "59:59"
    assert "highest 0.99 at 20:34" in strip.words


@pytest.mark.parametrize(
    "timeline",
    [
        "text",
        [[0.0, float("nan")], [1.0, 0.5]],
        [[0.0], [1.0, 2.0, 3.0]],
        [{"seconds": "0", "score": 1.0}, None, 7],
        {"seconds": 1.0},
    ],
)
def test_a_broken_timeline_draws_nothing(timeline: Any) -> None:
    assert heat_strip.strips([{"kind": "nsfw", "value": {"timeline": timeline}}], "x") == []


def test_a_blurred_preview_holds_what_twelve_pixels_hold_and_nothing_more() -> None:
    """Two pictures that agree in twelve means a side, and in nothing else, come out the same."""

    def pixels(jpeg: bytes) -> np.ndarray:
        with Image.open(io.BytesIO(jpeg)) as image:
            return np.asarray(image.convert("RGB"), np.float64)

    with Image.open(cast.SAMPLES / "astronaut.jpg") as image:
        clear = image.resize((480, 480), Image.Resampling.BOX)
    mosaic = clear.resize((LEFT, LEFT), Image.Resampling.BOX).resize((480, 480), Image.Resampling.NEAREST)
    files = [io.BytesIO(), io.BytesIO()]
    for picture, file in zip((clear, mosaic), files, strict=True):
        picture.save(file, "JPEG", quality=98, subsampling=0)
    one, other = (blurred(file.getvalue()) for file in files)
    assert abs(pixels(files[0].getvalue()) - pixels(files[1].getvalue())).mean() > 10
    assert pixels(one).shape == (SHOWN, SHOWN, 3)
    assert abs(pixels(one) - pixels(other)).mean() < 1


@pytest.mark.parametrize("wrong", [b"", b"\xff\xd8 no picture", b"\x89PNG\r\n\x1a\n" + bytes(64)])
def test_what_is_no_preview_of_ours_is_not_opened(wrong: bytes) -> None:
    with pytest.raises(OSError):
        blurred(wrong)


@pytest.mark.django_db
def test_blurred_pictures_are_shown_without_a_reason_to_moderators_only_and_log_no_face(cleo: cast.Account) -> None:
    asset = cast.ready(cleo, "target")
    evidence = ScreeningRecord.objects.create(
        asset=asset, profile="standard", policy_version="1", signals=[NSFW], decision="review", reasons=["nsfw_unsure"]
    )
    review = screening.open_review(evidence)
    address = f"/console/reviews/{review.pk}/{asset.pk}/0.blurred.jpg"
    _, mod = cast.moderator()
    answer = mod.get(address)
    assert answer["Content-Type"] == "image/jpeg"
    assert "no-store" in answer["Cache-Control"]
    with Image.open(io.BytesIO(answer.content)) as image:
        assert max(image.size) == SHOWN
    assert not AuditRecord.objects.exists()
    assert cleo.browser.get(address).status_code == 403
    assert Client().get(address).status_code == 302
    other = cast.ready(cleo, "source")
    assert mod.get(f"/console/reviews/{review.pk}/{other.pk}/0.blurred.jpg").status_code == 404
    Review.objects.filter(pk=review.pk).update(state="rejected")
    assert mod.get(address).status_code == 404


@pytest.mark.django_db
def test_two_moderators_complete_an_appeal_on_the_page(cleo: cast.Account) -> None:
    from webapp.accounts import services as accounts
    from webapp.screening import appeals

    review = appeals.appeal(cast.refused(cleo), cleo.user, "It is my own face, look again.")
    _, mod = cast.moderator()
    eve = Client()
    eve.force_login(
        accounts.create_user(email="eve@example.org", password=cast.PASSWORD, organisation=None, moderator=True)
    )
    html = mod.get("/console/reviews").content.decode()
    assert "Two different people have to release it" in html
    assert "look again" not in html  # the statement may name people
    mod.post(f"/console/reviews/{review.pk}/look", {"why": "moderation"})
    assert "look again" in mod.get("/console/reviews").content.decode()
    release = {"decision": "release", "reason": "my own reason"}
    address = f"/console/reviews/{review.pk}"
    assert "waits for a second reviewer" in mod.post(address, release, follow=True).content.decode()
    html = mod.get("/console/reviews").content.decode()
    assert "You have released it; it waits for a second reviewer." in html
    assert 'value="release"' not in html
    assert "somebody else has to release it too" in mod.post(address, release, follow=True).content.decode()
    html = eve.get("/console/reviews").content.decode()
    assert "One person has released it" in html
    assert "my own reason" not in html  # the second judges alone
    done = eve.post(address, release, follow=True).content.decode()
    assert "passed input screening, policy v" in done
    assert "Nothing waits for a decision" in done
