"""A result that is sent in again leads to its job, and the reviewer sees whose it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.webapp import publishing
from tests.worker.gate import pictures
from webapp import keys_of_house
from webapp.screening.own_outputs import OwnOutputs
from webapp.screening.stay_down import StayDownList
from worker.gate import measure, policy, profiles
from worker.gate.content_policy import KINDS
from worker.gate.screeners import Screeners
from worker.gate.upload import Upload
from worker.pipeline.analysis import Analysis

pytestmark = pytest.mark.django_db


def measured(path: Path, organisation: str, folder: Path) -> dict[str, Any]:
    info = measure.probe(path, path.name, "target", measure.SizeLimits(1 << 30, 1 << 30))
    analysis: Analysis = pictures.analysis(folder, (info.width, info.height), [(0.0, [])])
    found = measure.measure(
        Upload.of(path, info),
        info,
        analysis,
        role="target",
        keys=keys_of_house.mark_keys(),
        anchors_pem=keys_of_house.anchors_pem(),
        listed=StayDownList("f" * 64),
        outputs=OwnOutputs(organisation),
        screeners=Screeners(None, {}, dict.fromkeys(KINDS, "not_built"), (), {}),
    )
    decision = policy.decide_asset(found, profiles.named("evaluation"), "target")
    return {"signals": {each.kind: each.value for each in found}, "reasons": decision.reasons, "said": decision.message}


def test_our_own_output_leads_to_its_job_and_tells_whose_it_is(
    stage: Any, tmp_path: Path, astronaut: pictures.Rgb
) -> None:
    job = publishing.at_work(stage)
    made = publishing.marked_photo(tmp_path / "marked.png", "image/png", astronaut, bytes(job.mark_id))
    output, path = publishing.published(stage, job, made)
    known = {"output": output.pk, "job": job.pk}
    for organisation, owner, reasons in (
        (stage.studio.pk, "same", {"is_our_output"}),
        (stage.other.pk, "another", {"is_our_output", "output_of_another_account"}),
    ):
        seen = measured(path, str(organisation), tmp_path)
        for kind in ("own_mark", "credentials"):
            assert seen["signals"][kind]["output"] == {**known, "owner": owner}
        assert reasons <= set(seen["reasons"])
        assert "output_of_another_account" in reasons or "output_of_another_account" not in seen["reasons"]
    # Without its manifest the mark leads there still.
    bare = tmp_path / "bare.jpg"
    bgr = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    assert bgr is not None
    pictures.saved(bgr[..., ::-1], bare, 80)
    seen = measured(bare, str(stage.other.pk), tmp_path)
    assert seen["signals"]["own_mark"]["output"] == {**known, "owner": "another"}
    assert not seen["signals"]["credentials"]["is_ours"]
    # The file says so itself as well, by IPTC's words in XMP.
    declared = measured(path, str(stage.studio.pk), tmp_path)["signals"]["provenance"]["declarations"]
    assert "compositeWithTrainedAlgorithmicMedia" in {each["name"] for each in declared}


def test_a_mark_that_no_record_knows_is_ours_and_leads_nowhere(stage: Any) -> None:
    known = OwnOutputs(str(stage.studio.pk))
    assert known.by_mark(b"\7" * 8) == {}
    assert known.by_manifest("") == {}
    assert known.by_manifest("urn:c2pa:nobody") == {}
