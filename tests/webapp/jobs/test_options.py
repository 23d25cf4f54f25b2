"""What an account may choose about the label, and what the rules of the house's places leave of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from webapp import keys_of_house
from webapp.jobs.errors import JobsError
from webapp.jobs.options import Options
from worker import model_choice


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
    for folder, missing in ((None, "yoloface_8n"), (tmp_path / "away", "2dfan4")):
        settings.EXTRA_MODELS = folder
        with pytest.raises(JobsError, match=missing) as refused:
            chosen.check_models()
        assert refused.value.code == "model_missing"
    Options.from_mapping({}).check_models()
    settings.EXTRA_MODELS = tmp_path
    names = ["yunet", "2dfan4", "arcface_w600k_r50", "inswapper_128"]
    for name in names:
        assert model_choice.ready(tmp_path) == ((), ())
        (tmp_path / f"{name}.onnx").touch()
    assert model_choice.ready(tmp_path) == (("inswapper_128",), ())
    with pytest.raises(JobsError, match=r"gfpgan_1\.4\.onnx is not there"):
        chosen.check_models()
    (tmp_path / "gfpgan_1.4.onnx").touch()
    chosen.check_models()
    found = model_choice.neural_set("inswapper_128", "gfpgan_1.4", model_choice.installed(tmp_path))
    assert found.names == (*names, "gfpgan_1.4")
    assert Options.from_mapping(json.loads(json.dumps(chosen.to_dict()))) == chosen


def test_chinas_metadata_label_names_the_producer_and_the_mark(settings: Any) -> None:
    settings.AIGC_PRODUCER = "001191110108MA01KP2T5U00000"
    found = json.loads(keys_of_house.aigc(bytes.fromhex("00d1e2a3b4c5f607")))
    assert (found["ContentProducer"], found["ProduceID"]) == (settings.AIGC_PRODUCER, "00d1e2a3b4c5f607")
    settings.AIGC_PRODUCER = ""
    assert json.loads(keys_of_house.aigc(bytes(8)))["ContentProducer"].startswith("Imprimatur ")
