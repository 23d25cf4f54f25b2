"""Finding an output again by its fingerprint: complete within the radius, quick, and never more than a likeness."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from django.conf import settings
from django.core.management import call_command
from numpy.typing import NDArray

from tests.webapp import cast
from watermark.fingerprint import take
from watermark.payload import new_mark_id
from webapp.commands import repository_bench
from webapp.jobs import repository
from webapp.jobs.models import Output, OutputFingerprint
from webapp.verify import services

pytestmark = pytest.mark.django_db


def flipped(pdq: bytes, places: list[int]) -> bytes:
    return (int.from_bytes(pdq, "big") ^ sum(1 << place for place in places)).to_bytes(32, "big")


def fingerprints(*pictures: NDArray[np.uint8]) -> dict[str, Any]:
    frames = [{"seconds": float(at), "fingerprint": take(rgb).to_json()} for at, rgb in enumerate(pictures)]
    return {"kind": "video" if len(pictures) > 1 else "photo", "frames": frames}


@pytest.fixture
def output(cleo: cast.Account, grace: NDArray[np.uint8]) -> Output:
    made = cast.published(cleo, fingerprint=fingerprints(grace))
    repository.record(made)
    return made


@pytest.mark.parametrize("radius", range(32))
def test_everything_within_the_radius_is_found_and_nothing_beyond(output: Output, radius: int) -> None:
    pdq = bytes(OutputFingerprint.objects.get(output=output).pdq)
    rng = random.Random(radius)
    for _ in range(12):
        asked = flipped(pdq, rng.sample(range(256), radius))
        assert [(near.output_id, near.distance) for near in repository.by_fingerprint(asked, radius)] == [
            (output.pk, radius)
        ]
        if radius:
            assert repository.by_fingerprint(asked, radius - 1) == []
    assert repository.by_fingerprint(flipped(pdq, rng.sample(range(256), radius + 1)), radius) == []


def test_differences_may_lie_as_unkindly_as_they_can(output: Output) -> None:
    """As many in each band as it takes to be missed there: 31 bits are one too few for all of them."""
    pdq = bytes(OutputFingerprint.objects.get(output=output).pdq)
    starts = np.cumsum((0, *reversed(repository.WIDTHS)))[:-1]  # from the lowest bit on
    reaches = list(reversed(repository.reaches(31)))
    for spared in range(len(reaches)):
        places: list[int] = []
        for number, (start, reach) in enumerate(zip(starts, reaches, strict=True)):
            places += [int(start) + at for at in range(reach + 1 - (number == spared))]
        assert len(places) == 31
        assert repository.by_fingerprint(flipped(pdq, places))[0].distance == 31


def test_the_bands_are_the_fingerprint_and_their_reaches_cover_every_radius() -> None:
    pdq = random.Random(1).randbytes(32)
    joined = 0
    for name, width in zip(repository.bands(pdq).items(), repository.WIDTHS, strict=True):
        joined = (joined << width) | name[1]
    assert joined.to_bytes(32, "big") == pdq
    assert sum(repository.WIDTHS) == 256
    for radius in range(32):
        assert sum(reach + 1 for reach in repository.reaches(radius)) == radius + 1


@pytest.mark.parametrize(("pdq", "radius"), [(b"", 31), (bytes(31), 31), (bytes(32), 32), (bytes(32), -1)])
def test_what_is_no_fingerprint_or_too_far_is_refused(pdq: bytes, radius: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        repository.by_fingerprint(pdq, radius)


def test_an_output_is_named_once_at_its_nearest_moment(cleo: cast.Account, grace: NDArray[np.uint8]) -> None:
    bright = np.clip(grace.astype(np.int16) + 12, 0, 255).astype(np.uint8)
    made = cast.published(cleo, fingerprint=fingerprints(bright, grace, np.ascontiguousarray(grace[::-1])))
    assert repository.record(made) == 3
    found = repository.by_fingerprint(take(grace).pdq)
    assert [(near.output_id, near.distance, near.seconds) for near in found] == [(made.pk, 0, 1.0)]


def test_plain_frames_and_damaged_records_are_left_out(cleo: cast.Account, grace: NDArray[np.uint8]) -> None:
    plain = np.zeros((512, 512, 3), np.uint8)
    raw = fingerprints(plain, grace)
    raw["frames"] += [{"seconds": 9}, {"seconds": "x", "fingerprint": {"v": 0}}]
    made = cast.published(cleo, fingerprint=raw)
    assert repository.record(made) == 1
    assert repository.record(cast.published(cleo)) == 0
    assert repository.by_fingerprint(take(plain).pdq) == []


def test_publishing_enters_the_fingerprint_in_its_own_transaction(stage: Any, grace: NDArray[np.uint8]) -> None:
    job = stage.run(stage.screened(stage.submit()))
    from webapp.jobs import running

    assert running.begin_finishing(job.pk, "worker")
    made = running.publish_output(job.pk, "worker", stage.draft(job, fingerprint=fingerprints(grace)))
    assert [near.output_id for near in repository.by_fingerprint(take(grace).pdq)] == [made.pk]


def test_outputs_from_before_the_index_are_entered_once_by_the_command(
    cleo: cast.Account, grace: NDArray[np.uint8], astronaut: NDArray[np.uint8], capsys: pytest.CaptureFixture[str]
) -> None:
    old = [cast.published(cleo, fingerprint=fingerprints(rgb)) for rgb in (grace, astronaut)]
    assert OutputFingerprint.objects.count() == 0
    call_command("repository", "backfill")
    assert "2 outputs were entered" in capsys.readouterr().out
    call_command("repository", "backfill")
    assert "entered already" in capsys.readouterr().out
    assert {one.output_id for one in OutputFingerprint.objects.all()} == {one.pk for one in old}


def test_a_copy_without_manifest_and_mark_is_a_possible_match_and_nothing_more(
    output: Output, grace: NDArray[np.uint8], tmp_path: Path
) -> None:
    path = tmp_path / "copy.jpg"
    assert cv2.imwrite(str(path), cv2.cvtColor(grace, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 40])
    found = services.verify_file(path)
    assert (found.code, found.output) == ("nothing_found", None)
    (match,) = found.evidence.possible
    assert (match.manifest_label, match.state) == (output.manifest_label, "in_force")
    assert match.pdq_distance <= repository.RADIUS
    assert "That is no proof" in found.sentence
    said = services.verdict_body(found)["possible_matches"]
    assert said[0]["manifest"] == output.manifest_label
    # A picture that was never published has none.
    other = tmp_path / "other.jpg"
    assert cv2.imwrite(str(other), cv2.cvtColor(grace[::-1], cv2.COLOR_RGB2BGR))
    assert services.verify_file(other).evidence.possible == ()


def test_a_marked_copy_needs_no_possible_match(cleo: cast.Account, grace: NDArray[np.uint8], tmp_path: Path) -> None:
    from watermark import image
    from webapp import keys_of_house

    mark = new_mark_id()
    rgb = image.embed(grace, mark, keys_of_house.mark_keys()[0])
    repository.record(cast.published(cleo, mark_id=mark, fingerprint=fingerprints(rgb)))
    path = tmp_path / "copy.jpg"
    assert cv2.imwrite(str(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])
    found = services.verify_file(path)
    assert found.code == "ours_recovered"
    assert found.evidence.possible == ()


def test_the_bench_fills_a_database_of_its_own_and_finds_everything_in_it(tmp_path: Path) -> None:
    environment = {**os.environ, "IMPRIMATUR_HOME": str(tmp_path), "DJANGO_SETTINGS_MODULE": "webapp.settings"}
    done = subprocess.run(
        [sys.executable, "manage.py", "bench", "repository", "--entries", "2000"],
        cwd=settings.BASE_DIR,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "2,000 outputs with a fingerprint each" in done.stdout
    assert f"found {repository_bench.NEAR} of {repository_bench.NEAR}" in done.stdout
    left = [path.name for path in tmp_path.rglob("*sqlite3*")]
    assert "imprimatur.sqlite3" not in left  # the deployment's own database was not even opened
