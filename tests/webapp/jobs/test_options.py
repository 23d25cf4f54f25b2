"""What an account may choose about the label, and what the rules of the house's places leave of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.worker import neural_graphs as graphs
from watermark.embedding import SMALLEST_SIDE
from webapp import keys_of_house
from webapp.jobs.errors import JobsError
from webapp.jobs.options import Options
from worker import model_choice
from worker.spec import LEAST_HEIGHT


@pytest.fixture(autouse=True)
def house(settings: Any) -> None:
    settings.PROFILE, settings.JURISDICTIONS, settings.LABEL_LANGUAGE = "standard", ("cn",), "en"


def test_a_job_adds_places_to_those_of_the_house_and_takes_none_away() -> None:
    alone = Options.from_mapping({}).label()
    assert (alone.text, alone.seconds) == ("AI合成", None)
    added = Options.from_mapping({"jurisdictions": ["eu"], "label_language": "de"})
    added.check_label()
    assert added.label().text == "MIT KI VERÄNDERT\nAI合成"
    assert Options.from_mapping({"jurisdictions": []}).label() == alone
    assert Options.from_mapping(json.loads(json.dumps(added.to_dict()))) == added


def test_a_label_at_the_start_only_is_for_places_that_allow_it_and_never_for_an_evaluation(settings: Any) -> None:
    chosen = Options.from_mapping({"label_extent": "start"})
    chosen.check_label()
    assert chosen.label().seconds == 4.0
    settings.PROFILE = "evaluation"
    with pytest.raises(JobsError, match="whole length"):
        chosen.check_label()
    assert chosen.label().seconds is None
    settings.PROFILE, settings.JURISDICTIONS = "standard", ("cn", "us-ca")  # a rule that came after the job
    with pytest.raises(JobsError, match="us-ca"):
        chosen.check_label()
    assert chosen.label().seconds is None


def test_a_corner_that_a_rule_demands_is_not_given_up(settings: Any) -> None:
    settings.JURISDICTIONS = ("eu",)
    chosen = Options.from_mapping({"label_place": "bottom-left"})
    with pytest.raises(JobsError, match="top-right"):
        chosen.check_label()
    assert chosen.label().place == "top-right"


def test_a_model_can_be_chosen_once_all_that_it_needs_is_there(settings: Any, tmp_path: Path) -> None:
    chosen = Options.from_mapping({"swapper": "inswapper_128", "enhancer": "gfpgan_1.4"})
    for missing in ("arcface_w600k_r50", "inswapper_128"):
        settings.OPERATOR_MODELS_DIR = tmp_path / "away"
        with pytest.raises(JobsError, match=missing) as refused:
            chosen.check_models()
        assert refused.value.code == "model_missing"
    Options.from_mapping({}).check_models()
    settings.OPERATOR_MODELS_DIR = tmp_path
    names = ["yunet", "2dfan4", "arcface_w600k_r50", "inswapper_128"]
    for name in names:
        assert model_choice.ready(model_choice.installed(tmp_path)) == ((), ())
        graphs.record_installed(tmp_path, name)
    assert model_choice.ready(model_choice.installed(tmp_path)) == (("inswapper_128",), ())
    with pytest.raises(JobsError, match=r"not installed here: gfpgan_1\.4"):
        chosen.check_models()
    (tmp_path / "gfpgan_1.4.onnx").touch()  # a file that was only dropped there
    with pytest.raises(JobsError):
        chosen.check_models()
    graphs.record_installed(tmp_path, "gfpgan_1.4")
    chosen.check_models()
    found = model_choice.neural_set("inswapper_128", "gfpgan_1.4", model_choice.installed(tmp_path))
    assert found.names == (*names, "gfpgan_1.4")
    assert Options.from_mapping(json.loads(json.dumps(chosen.to_dict()))) == chosen


def test_a_swapper_that_needs_a_converter_is_complete_with_it_only(tmp_path: Path) -> None:
    graphs.record_installed(tmp_path, "yunet", "2dfan4", "arcface_w600k_r50", "ghost_2_256", "uniface_256")
    assert model_choice.ready(model_choice.installed(tmp_path))[0] == ("uniface_256",)
    with pytest.raises(model_choice.ModelsMissingError, match="not installed here: crossface_ghost"):
        model_choice.neural_set("ghost_2_256", "", model_choice.installed(tmp_path))
    graphs.record_installed(tmp_path, "crossface_ghost")
    assert model_choice.ready(model_choice.installed(tmp_path))[0] == ("ghost_2_256", "uniface_256")
    record = json.loads((tmp_path / model_choice.RECORD).read_text())
    del record["licences"]["crossface_ghost"]  # a free swapper is not free with a converter that is not
    (tmp_path / model_choice.RECORD).write_text(json.dumps(record))
    assert model_choice.ready(model_choice.installed(tmp_path))[0] == ("uniface_256",)


def test_the_models_that_make_a_result_are_named_in_the_order_of_their_work() -> None:
    assert model_choice.makers("simswap_256", "gfpgan_1.4") == ("crossface_simswap", "simswap_256", "gfpgan_1.4")
    assert model_choice.makers("inswapper_128", "") == ("inswapper_128",)
    assert model_choice.makers("mesh", "") == ("mesh",)


@pytest.mark.parametrize(
    "wrong", [{"pixel_boost": 2}, *({"swapper": "inswapper_128", "pixel_boost": value} for value in (0, 5, 1.5, True))]
)
def test_more_pixels_go_with_a_model_and_within_limits(wrong: dict[str, Any]) -> None:
    with pytest.raises(JobsError, match="pixel_boost") as caught:
        Options.from_mapping(wrong)
    assert caught.value.code == "option_invalid"
    assert Options.from_mapping({"swapper": "inswapper_128", "pixel_boost": 4}).pixel_boost == 4
    assert Options.from_mapping({}).pixel_boost == 1


def test_chinas_metadata_label_names_the_producer_and_the_mark(settings: Any) -> None:
    settings.AIGC_PRODUCER = "001191110108MA01KP2T5U00000"
    found = json.loads(keys_of_house.aigc(bytes.fromhex("00d1e2a3b4c5f607")))
    assert (found["ContentProducer"], found["ProduceID"]) == (settings.AIGC_PRODUCER, "00d1e2a3b4c5f607")
    settings.AIGC_PRODUCER = ""
    assert json.loads(keys_of_house.aigc(bytes(8)))["ContentProducer"].startswith("Imprimatur ")


@pytest.mark.parametrize(
    "wrong",
    [
        {"codec": "vp9"},
        {"codec": "av1", "output_mime": "video/quicktime"},
        {"preset": "veryfast"},
        {"scale": 0.1},
        {"scale": True},
        {"height": 720.5},
        {"height": 720, "scale": 0.5},
        {"fps": 1000},
        {"fps": "25"},
        {"trim_start": -1},
        {"trim_start": float("nan")},
        {"trim_start": 5, "trim_end": 5},
        {"trim_end": float("inf")},
    ],
)
def test_a_video_that_cannot_be_written_so_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(JobsError) as caught:
        Options.from_mapping(wrong)
    assert caught.value.code == "option_invalid"


def test_choices_about_a_video_come_back_as_they_were_kept() -> None:
    wanted = {"codec": "hevc", "preset": "slow", "height": 720, "fps": 29.97, "trim_start": 1, "trim_end": 2.5}
    chosen = Options.from_mapping(wanted)
    assert Options.from_mapping(json.loads(json.dumps(chosen.to_dict()))) == chosen
    assert chosen.size_of(1920, 1080) == (1280, 720)
    assert chosen.seconds_of(10.0) == 1.5
    assert chosen.seconds_of(2.0) == 1.0
    assert Options().seconds_of(10.0) == 10.0


def test_a_part_must_lie_in_the_video_and_show_the_chosen_face() -> None:
    part = Options.from_mapping({"trim_start": 4, "trim_end": 6})
    part.check_target("video", {"duration": 10.0}, {"first_seconds": 0.0, "last_seconds": 10.0})
    part.check_target("video", {}, {})  # a target that was not looked at yet
    for duration, first, last in ((3.0, None, None), (10.0, 0.0, 3.9), (10.0, 6.0, 9.0)):
        with pytest.raises(JobsError) as caught:
            part.check_target("video", {"duration": duration}, {"first_seconds": first, "last_seconds": last})
        assert caught.value.code == "option_invalid"


def test_a_result_too_small_to_carry_the_mark_is_refused_before_anything_is_made() -> None:
    assert LEAST_HEIGHT == SMALLEST_SIDE
    media = {"width": 320, "height": 240}
    Options.from_mapping({"scale": 0.4}).check_target("video", media, {})
    Options.from_mapping({"scale": 0.25}).check_target("photo", media, {})
    for wish in ({"scale": 0.3}, {"height": 96}):
        with pytest.raises(JobsError, match="96 pixels") as caught:
            Options.from_mapping(wish).check_target("video", {"width": 180, "height": 320}, {})
        assert caught.value.code == "option_invalid"
