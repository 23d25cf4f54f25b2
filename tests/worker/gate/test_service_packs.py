"""Services outside of this house as packs: asked only when accepted, and what breaks is never a pass."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from tests.worker.gate.pictures import analysis
from tests.worker.gate.stand_in import (
    GOOD,
    KEY,
    SYNC,
    Say,
    StandIn,
    faces,
    generated,
    hive,
)
from tests.worker.gate.test_detectors import calibration, decided
from webapp.commands.checks import check_screening
from worker.gate.packs.evaluation import AS_IT_IS, Entry, run_packs
from worker.gate.packs.outside_services import PROVIDERS, SERVICES
from worker.gate.packs.pack_store import PackStore
from worker.gate.packs.robustness import ROADS
from worker.gate.packs.standing import Evaluation, PackError, Standing
from worker.gate.screeners import Screeners
from worker.gate.signals import Signal
from worker.gate.upload import Upload
from worker.inference import gate_models
from worker.inference.sessions import LocalRunner
from worker.media import client


def gate(*words: str) -> str:
    out = StringIO()
    call_command("gate", "packs", *words, stdout=out)
    return out.getvalue()


def allow_to_decide(store: PackStore, name: str) -> Standing:
    """As if calibrated and evaluated within bounds on the operator's own files."""
    known = calibration(SERVICES[name].sha256)
    store.keep_calibration(name, known)
    rates = Evaluation(
        pack_sha256=known.pack_sha256,
        calibration_date=known.date,
        data_sha256="e" * 64,
        date="2026-11-02",
        bpcer=0.01,
        bona_fide_sources=60,
        apcer={"swap": 0.1},
        sources={"swap": 60},
        auc=0.97,
    )
    store.keep_evaluation(name, rates)
    return store.enforce(name, "operator")


@pytest.fixture
def house(settings: Any, tmp_path: Path) -> Any:
    settings.GATE_PACKS_DIR = tmp_path / "gate-packs"
    settings.GATE_SERVICES = {name: {"url": "", "key": KEY if name == "hive" else ""} for name in PROVIDERS}
    return settings


def test_a_service_is_off_until_the_operator_says_why_uploads_may_leave(house: Any) -> None:
    assert "No pack is installed" in gate("list")
    assert gate("known").count("uploads would leave this house") == len(SERVICES)
    with pytest.raises(CommandError, match="reason_required"):
        gate("accept", "hive_deepfake")
    with pytest.raises(CommandError, match="pack_is_a_service"):
        gate("install", "hive_deepfake")
    with pytest.raises(CommandError, match="pack_unknown"):
        gate("enforce", "hive_deepfake")
    assert PackStore(house.GATE_PACKS_DIR).standings() == []

    said = gate("accept", "hive_deepfake", "--reason", "contract of 2026-05-04")
    assert "uploads leave this house, to https://api.thehive.ai (contract of 2026-05-04)" in said
    assert "advisory" in said
    gate("accept", "sensity_face", "--reason", "trial")
    listed = gate("list")
    assert "SENSITY_API_KEY is not set [service_key]" in listed
    assert KEY not in listed
    allow_to_decide(PackStore(house.GATE_PACKS_DIR), "sensity_face")
    told = {one.words.split(":")[0]: one.level for one in check_screening() if "leave this house" in one.words}
    assert told == {
        "face_forgery by the service hive_deepfake": "note",
        "face_forgery by the service sensity_face": "missing",  # it is to decide, and has no key
    }
    with pytest.raises(CommandError, match="not_allowed_to_enforce"):
        gate("enforce", "hive_deepfake")  # never calibrated
    assert "is removed" in gate("remove", "hive_deepfake")
    assert "hive_deepfake" not in gate("list")


def test_a_service_decides_only_when_calibrated_and_evaluated_within_bounds(tmp_path: Path) -> None:
    store = PackStore(tmp_path / "packs")
    with pytest.raises(PackError, match="hive_deepfake"):
        store.keep_calibration("hive_deepfake", calibration(SERVICES["hive_deepfake"].sha256))
    store.accept("hive_deepfake", "contract", "operator")
    store.keep_calibration("hive_deepfake", calibration(SERVICES["hive_deepfake"].sha256))
    assert store.standing("hive_deepfake").code == "not_evaluated"
    assert allow_to_decide(store, "hive_deepfake").role == "enforcing"
    store.keep_calibration("hive_deepfake", calibration("f" * 64))  # of another interface
    assert store.standing("hive_deepfake").code == "not_calibrated"
    store.remove("hive_deepfake")
    with pytest.raises(PackError):
        store.standing("hive_deepfake")


class Everything:
    """A runner whose model of nudity gives the same to every picture."""

    def __init__(self, nudity: float) -> None:
        self._nudity = nudity

    def run(self, model: str, inputs: Any) -> Any:
        (output,) = gate_models.of_role("nsfw").contract.outputs
        (batch,) = inputs.values()
        return {output: np.tile(np.array([1 - self._nudity, self._nudity], np.float32), (len(batch), 1))}


@pytest.fixture
def screen(service: StandIn, photo: Upload, models_dir: Path, tmp_path: Path) -> Any:
    """Screen the photo as an upload, by a service that was accepted; `deciding` as if measured within bounds."""

    def run(
        name: str = "hive_deepfake", *, deciding: bool, runner: Any = None, cards: Any = None, **how: Any
    ) -> Signal:
        store = PackStore(tmp_path / "packs")
        store.accept(name, "contract", "operator")
        (one,) = store.standings()
        if deciding:
            one = replace(one, role="enforcing", code="", calibration=calibration(one.sha256))
        at_hand = Screeners(
            runner or LocalRunner(models_dir), cards or {}, {}, [one], {}, outside=service.outside(**how)
        )
        info = client.probe(photo.path)
        found = at_hand.look(photo, analysis(tmp_path, (info.width, info.height), [(0.0, [])]))
        return next(signal for signal in found if signal.kind == one.kind)

    return run


def test_an_accepted_service_is_recorded_and_decides_nothing(service: StandIn, screen: Any) -> None:
    service.script[SYNC] = [Say(hive(faces(0, 0.99)))]
    signal = screen(deciding=False)
    assert (signal.status, signal.value["code"]) == ("not_installed", "no_enforcing_pack")
    (row,) = signal.value["packs"]
    assert (row["id"], row["raw"], row["service"]["provider"]) == ("hive_deepfake", 0.99, "hive")
    assert row["timeline"] == [[0.0, 0.99]]
    assert decided(signal)[2] == ("review", ("not_screened_face_forgery",))


@pytest.mark.parametrize(
    ("score", "decision"),
    [
        (0.2, ("accept", ())),
        (0.8, ("review", ("face_forgery_suspected",))),
        (0.99, ("review", ("face_forgery_likely",))),
    ],
)
def test_one_that_may_decide_asks_a_person_and_never_refuses(
    service: StandIn, screen: Any, score: float, decision: Any
) -> None:
    service.script[SYNC] = [Say(hive(faces(0, score)))]
    signal = screen(deciding=True)
    assert signal.status == "measured"
    assert decided(signal) == [decision] * 3


@pytest.mark.parametrize(
    ("say", "code"),
    [
        (Say("who", 401), "service_key"),
        (Say("slow down", 429, ("Retry-After: 60",)), "service_limited"),
        (Say("down", 502), "service_unreachable"),
        (Say(b"\xff\xfe"), "service_answer"),
        (Say(hive(faces(0, float("nan")))), "not_finite"),
        (replace(GOOD, after=3.0), "timeout"),
    ],
)
def test_one_that_fails_sends_the_upload_to_a_person_whatever_the_profile(
    service: StandIn, screen: Any, say: Say, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    service.script[SYNC] = [say]
    with caplog.at_level(logging.DEBUG):
        signal = screen(deciding=True, seconds=1.5)
    assert (signal.status, signal.value["code"]) == ("error", code)
    assert decided(signal) == [("review", (f"face_forgery_{code}",))] * 3
    assert KEY not in caplog.text + repr(signal)
    assert KEY not in repr(service.outside())


@pytest.mark.parametrize(("nudity", "sent"), [(0.01, True), (0.5, True), (0.95, False), (math.nan, False)])
def test_what_this_house_refuses_or_could_not_look_at_is_never_sent(
    service: StandIn, screen: Any, nudity: float, sent: bool
) -> None:
    """The model of nudity is one that gives `nudity` to everything."""
    service.script[SYNC] = [GOOD]
    signal = screen(deciding=True, runner=Everything(nudity), cards={"nsfw": [gate_models.of_role("nsfw")]})
    assert len(service.asked) == sent
    assert signal.value.get("code") == (None if sent else "service_not_asked")
    if not sent:
        assert {verdict for verdict, _ in decided(signal)} == {"review"}


def test_no_face_is_no_answer_which_only_the_profile_for_trying_out_lets_pass(service: StandIn, screen: Any) -> None:
    service.script[SYNC] = [Say(hive(faces(0)))]
    signal = screen(deciding=True)
    assert signal.status == "not_applicable"
    assert decided(signal)[2] == ("review", ("face_forgery_not_applicable",))


def test_where_there_is_no_way_out_an_accepted_service_that_decides_is_an_error(
    photo: Upload, models_dir: Path, tmp_path: Path
) -> None:
    one = Standing("hive_deepfake", "face_forgery", "enforcing", "", service=SERVICES["hive_deepfake"])
    info = client.probe(photo.path)
    found = Screeners(LocalRunner(models_dir), {}, {}, [one], {}).look(
        photo, analysis(tmp_path, (info.width, info.height), [(0.0, [])])
    )
    assert {each.kind: each.value.get("code") for each in found}["face_forgery"] == "service_unreachable"


def test_a_service_is_evaluated_on_the_operators_files_as_a_pack_is(
    service: StandIn, photo: Upload, models_dir: Path, tmp_path: Path
) -> None:
    store = PackStore(tmp_path / "packs")
    store.accept("hive_ai_image", "contract", "operator")
    service.script[SYNC] = [Say(hive(generated(0.75))), Say(hive(generated(0.1)))]
    entries = [Entry(photo.path, True, "diffusion", "a"), Entry(photo.path, False, "", "b")]
    runner, engine = LocalRunner(models_dir), tmp_path / "no.sock"
    roads = [next(iter(ROADS))]
    found = run_packs(entries, store.standings(), runner, engine, roads=roads, outside=service.outside())
    assert list(found) == [("hive_ai_image", AS_IT_IS)]  # a service sees the file as it is, on no other road
    assert [row.score for row in found["hive_ai_image", AS_IT_IS]] == [0.75, 0.1]
    service.script[SYNC] = [Say("who", 401)]
    with pytest.raises(PackError, match="service_key"):
        run_packs(entries, store.standings(), runner, engine, outside=service.outside())
