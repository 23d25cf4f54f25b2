"""Uploads through the real task, with real models: listed, declared and aligned files end as the policy says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.worker.gate import pictures, vectors
from watermark import pdq
from webapp.jobs import running
from webapp.jobs import services as jobs
from webapp.jobs.models import Asset
from webapp.screening import hash_lists
from webapp.screening.models import ScreeningRecord
from worker import tasks
from worker.faces.analyse import analyse_image
from worker.inference.client import stop_engine
from worker.inference.sessions import LocalRunner

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def engine(models_dir: Path) -> Iterator[None]:
    """The engine that the task starts ends with these tests."""
    from django.conf import settings

    yield
    stop_engine(Path(settings.HOME))


def screened(stage: Any, path: Path, role: str = "source") -> tuple[Asset, ScreeningRecord]:
    asset = jobs.receive_asset(stage.studio, stage.cleo, role=role, file=path, name=path.name)
    tasks.screen_asset(asset.pk)
    asset.refresh_from_db()
    return asset, ScreeningRecord.objects.get(asset=asset)


def test_listed_declared_and_aligned_files_and_an_honest_one(
    stage: Any,
    engine: None,
    tmp_path: Path,
    models_dir: Path,
    samples: Path,
    astronaut: pictures.Rgb,
    grace: pictures.Rgb,
) -> None:
    honest, evidence = screened(stage, samples / "grace_hopper.jpg")
    assert (honest.state, evidence.reasons) == ("ready", [])
    assert "lists" in evidence.not_screened

    listed = tmp_path / "list.csv"
    listed.write_text(pdq.hash_picture(astronaut)[0].hex())
    hash_lists.import_list(listed, name="banned", kind="block", moderator=stage.mod, reason="a complaint")
    refused, evidence = screened(stage, pictures.saved(astronaut[:, ::-1], tmp_path / "mirrored.jpg", 70), "target")
    assert (refused.state, refused.failure_code) == ("refused", "refused_by_screening")
    assert evidence.reasons == ["listed_picture"]
    assert "banned" not in refused.failure_message
    hits = next(each["value"]["hits"] for each in evidence.signals if each["kind"] == "lists")
    assert (hits[0]["list"], hits[0]["line"], hits[0]["what"]) == ("banned", 1, "picture")
    assert "lists" not in evidence.not_screened

    info = PngInfo()
    info.add_text("parameters", vectors.INFOTEXT)
    declared = tmp_path / "declared.png"
    Image.fromarray(grace).save(declared, pnginfo=info)
    held, evidence = screened(stage, declared)
    assert (held.state, evidence.reasons) == ("in_review", ["declared_ai_generator"])

    face = analyse_image(grace, LocalRunner(models_dir))[0]
    aligned = pictures.saved(pictures.ffhq_frame(grace, face.landmarks), tmp_path / "aligned.jpg", 92)
    held, evidence = screened(stage, aligned)
    assert (held.state, evidence.reasons) == ("in_review", ["ffhq_alignment"])

    again, evidence = screened(stage, samples / "grace_hopper.jpg")
    assert (again.state, "lists" in evidence.not_screened) == ("ready", False)


def test_a_job_was_screened_for_what_each_of_its_files_was(stage: Any) -> None:
    job = stage.submit()
    assert running.asset_gaps(job) is None  # nobody knows: then for nothing
    for asset, gaps in ((job.target, ["age"]), (job.inputs()[1], ["age", "lists"])):
        ScreeningRecord.objects.create(
            asset=asset,
            profile="evaluation",
            policy_version="test",
            signals=[],
            decision="accept",
            not_screened=gaps,
        )
    assert running.asset_gaps(job) == {"age", "lists"}
