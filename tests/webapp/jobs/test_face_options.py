"""What an account may choose about masks, the enhancer's share and the size of the result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.worker import neural_graphs as graphs
from webapp.jobs.errors import JobsError
from webapp.jobs.options import Options
from worker.spec import MASK_REGIONS, Masking

NEURAL = {"swapper": "inswapper_128"}
SET = ("yunet", "2dfan4", "arcface_w600k_r50", "inswapper_128")


def test_choices_about_the_face_come_back_as_they_were_kept() -> None:
    wanted = {
        **NEURAL,
        "enhancer_blend": 55,
        "mask_types": ["box", "area", "area"],
        "mask_areas": ["mouth"],
        "mask_blur": 0,
        "mask_padding": [0, 10, 20, 45],
        "mask_models": ["xseg_3", "bisenet_resnet_18"],
        "upscaler": "real_esrgan_x2",
    }
    chosen = Options.from_mapping(wanted)
    assert Options.from_mapping(json.loads(json.dumps(chosen.to_dict()))) == chosen
    assert chosen.masking() == Masking(
        ("box", "area"), ("mouth",), MASK_REGIONS, 0, (0, 10, 20, 45), ("xseg_3", "bisenet_resnet_18")
    )
    assert Options.from_mapping(NEURAL).masking().types == ("auto",)


@pytest.mark.parametrize(
    "wrong",
    [
        {"enhancer_blend": 101},
        {"enhancer_blend": 0.5},
        {"mask_types": []},
        {"mask_types": "box"},
        {"mask_types": ["ellipse"]},
        {"mask_areas": []},
        {"mask_regions": ["hair"]},
        {"mask_blur": 1.5},
        {"mask_blur": True},
        {"mask_blur": float("nan")},
        {"mask_padding": [1, 2, 3]},
        {"mask_padding": [0, 0, 0, 46]},
        {"mask_padding": [0, 0, 0, 1.5]},
        {"mask_models": ["gfpgan_1.4"]},
        {"upscaler": "gfpgan_1.4"},
        {"swapper": "mesh", "mask_types": ["box"]},
        {"swapper": "mesh", "mask_padding": [1, 0, 0, 0]},
    ],
)
def test_what_cannot_be_is_refused_with_what_can(wrong: dict[str, Any]) -> None:
    with pytest.raises(JobsError, match="nothing was made") as caught:
        Options.from_mapping({**NEURAL, **wrong})
    assert caught.value.code == "option_invalid"


def test_masks_and_upscalers_need_their_models(settings: Any, tmp_path: Path) -> None:
    settings.OPERATOR_MODELS_DIR = tmp_path
    graphs.record_installed(tmp_path, *SET)
    Options.from_mapping(NEURAL).check_models()  # as usual: what is there is used
    for more, missing in (
        ({"mask_types": ["occlusion"]}, "xseg_1"),
        ({"mask_types": ["box", "region"]}, "bisenet_resnet_34"),
        ({"upscaler": "span_kendata_x4"}, "span_kendata_x4"),
        ({"swapper": "mesh", "upscaler": "remacri_x4"}, "remacri_x4"),
    ):
        chosen = Options.from_mapping({**NEURAL, **more})
        with pytest.raises(JobsError, match=missing) as caught:
            chosen.check_models()
        assert caught.value.code == "model_missing"
        graphs.record_installed(tmp_path, missing)
        chosen.check_models()
    with pytest.raises(JobsError, match="xseg_2"):
        Options.from_mapping({**NEURAL, "mask_types": ["occlusion"], "mask_models": ["xseg_2"]}).check_models()


def test_a_result_that_would_be_too_large_is_refused_before_anything_is_made() -> None:
    chosen = Options.from_mapping({"upscaler": "real_esrgan_x4"})
    assert chosen.size_of(640, 360) == (2560, 1440)
    assert chosen.size_of(641, 361, kind="photo") == (2564, 1444)
    chosen.check_target("video", {"width": 640, "height": 360, "duration": 1.0}, {})
    chosen.check_target("photo", {"width": 1600, "height": 1200}, {})
    chosen.check_target("photo", {}, {})  # a target that was not looked at yet
    for kind, size in (("video", (1920, 1080)), ("photo", (4000, 3000))):
        with pytest.raises(JobsError, match="too many") as caught:
            chosen.check_target(kind, {"width": size[0], "height": size[1]}, {})
        assert caught.value.code == "option_invalid"
    Options.from_mapping({"upscaler": "real_esrgan_x4", "scale": 0.5}).check_target(
        "video", {"width": 1920, "height": 1080, "duration": 1.0}, {}
    )
