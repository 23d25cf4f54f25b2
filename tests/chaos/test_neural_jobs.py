"""Jobs with an operator's models (stand-ins) through real processes, from the options to the published manifest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import c2pa
import pytest

from tests.chaos.conftest import HouseError
from tests.worker import neural_graphs as graphs
from watermark.credentials import CONSENT_LABEL
from worker.inference.importing import cache_of
from worker.inference.store import ModelStore
from worker.media.sample_clip import make_clip

CHOSEN: tuple[dict[str, Any], ...] = (
    {"swapper": "inswapper_128", "enhancer": "gfpgan_1.4", "pixel_boost": 1},
    {"swapper": "ghost_2_256", "enhancer": "", "pixel_boost": 2},
)
MADE_WITH = (["inswapper_128", "gfpgan_1.4"], ["crossface_ghost", "ghost_2_256"])


@pytest.mark.soak  # its steps are shown one by one in every run
def test_a_photo_and_a_video_are_made_by_chosen_models_and_their_manifests_say_so(
    open_house: Callable[..., Any], models_dir: Path, samples: Path, tmp_path: Path
) -> None:
    house = open_house()
    models = [name for name in graphs.NAMES if name != "hyperswap_1a_256"]
    models += MADE_WITH[1]
    graphs.install(ModelStore(house.home / "operator-models", cache_of(models_dir)), *models)
    house.start_worker("ctl", beat=True)
    house.start_worker()
    clip = tmp_path / "clip.mp4"
    make_clip(samples / "grace_hopper.jpg", clip, seconds=2.4, size=(480, 480))
    source = house.upload_ready(samples / "astronaut.jpg", "source")
    made = []
    for path, chosen in zip((samples / "grace_hopper.jpg", clip), CHOSEN, strict=True):
        target = house.upload_ready(path, "target")
        donor = house.do("ask", role="face_donor", source=source)
        person = house.do("ask", role="target_person", target=target)
        parts = {"source": source, "target": target, "donor": donor, "person": person}
        with pytest.raises(HouseError) as refused:
            house.do("submit", **parts, options={"swapper": "hyperswap_1a_256"})
        assert refused.value.code == "model_missing"
        made.append(house.do("submit", **parts, options=chosen))
    house.start_worker()  # the clip is of two segments
    for number, job_id in enumerate(made):
        found = house.wait_job(job_id, "succeeded")
        quality = found["quality"]["0"]
        assert {name: quality[name] for name in CHOSEN[number]} == CHOSEN[number]
        assert quality["converter"] == ("", "crossface_ghost")[number]
        assert quality["frames_judged"] == (1, 5)[number]
        out = tmp_path / f"out-{number}"
        output = house.do("output", job_id=job_id, dest=str(out))
        assert output["mark_read"] == output["mark_recorded"]
        assert (output["credentials"], output["mark_in_manifest"]) == ("trusted", [output["mark_recorded"]])
        assert made_with(out, output["mime"]) == {
            "model_set": quality["model_set"],
            "models": MADE_WITH[number],
        }


def made_with(path: Path, mime: str) -> Any:
    """What the manifest says of the models."""
    with path.open("rb") as file, c2pa.Reader(mime, file) as reader:
        report = json.loads(reader.json())
    active = report["manifests"][report["active_manifest"]]
    return next(one["data"]["made_with"] for one in active["assertions"] if one["label"] == CONSENT_LABEL)
