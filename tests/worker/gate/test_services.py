"""Services outside of this house: asked only when accepted, over TLS, and everything odd is an error, never a pass.

They are stand-ins on loopback that speak the shapes named in `worker.gate.outside_services`.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate
from io import StringIO
from pathlib import Path
from time import time
from typing import Any

import numpy as np
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from tests.webapp.core.test_net import NAME
from tests.worker.gate.pictures import analysis
from tests.worker.gate.stand_in import KEY, Say, StandIn
from tests.worker.gate.test_detectors import calibration, decided
from webapp.commands.checks import check_screening
from worker import outside_door
from worker.gate.evaluation import AS_IT_IS, Entry, run_packs
from worker.gate.outside import Account, Answer, Outside, OutsideError, Upload
from worker.gate.outside_services import PROVIDERS, SERVICES
from worker.gate.pack_store import Evaluation, PackError, PackStore, Standing
from worker.gate.robustness import ROADS
from worker.gate.screeners import Screeners
from worker.gate.signals import Signal
from worker.inference import gate_models
from worker.inference.sessions import LocalRunner
from worker.media import client

SYNC, ASYNC, TASK = "POST /api/v2/task/sync", "POST /api/v2/task/async", "GET /api/v2/task/task-7"
PLACE, RESULT = "POST /api/files/aws-presigned", "GET /api/media/users/request-7"
SENSITY, REPORT = "POST /tasks/face_manipulation", "GET /tasks/face_manipulation/report-7"


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    made = StandIn(tmp_path)
    monkeypatch.setattr(outside_door, "policy", made.policy)
    yield made
    made.close()


@pytest.fixture
def photo(samples: Path, tmp_path: Path) -> Upload:
    path = tmp_path / "ada-on-holiday.jpg"
    path.write_bytes((samples / "astronaut.jpg").read_bytes())
    return Upload(path, "image/jpeg", "photo")


@pytest.fixture
def film(tmp_path: Path) -> Upload:
    path = tmp_path / "film"
    path.write_bytes(bytes(range(256)) * 3000)  # more than one piece; no service here looks inside
    return Upload(path, "video/mp4", "video")


def hive(*frames: dict[str, Any], code: Any = "0") -> dict[str, Any]:
    return {"id": "task-7", "status": [{"status": {"code": code}, "response": {"output": list(frames)}}]}


def faces(seconds: float, *scores: float) -> dict[str, Any]:
    named = [[{"class": "no_deepfake", "score": 1 - s}, {"class": "yes_deepfake", "score": s}] for s in scores]
    return {"time": seconds, "bounding_poly": [{"classes": one, "meta": {"type": "face"}} for one in named]}


def generated(score: float) -> dict[str, Any]:
    classes = [("not_ai_generated", 1 - score), ("ai_generated", score), ("midjourney", score / 2), ("none", 0.1)]
    return {"time": 0, "classes": [{"class": name, "score": value} for name, value in classes]}


def defender(status: str, score: Any, *models: dict[str, Any]) -> dict[str, Any]:
    return {"resultsSummary": {"status": status, "metadata": {"finalScore": score}}, "models": list(models)}


def sensity(name: str, probability: Any, **more: Any) -> dict[str, Any]:
    result = {"class_name": name, "class_probability": probability, "explanation": more.pop("explanation", None)}
    return {"id": "report-7", "status": "completed", "no_faces": False, "result": result, **more}


# --- what each of them is told, and how its answer is read ----------------------------------------------------------


def test_hive_judges_the_faces_of_a_photo_at_once(service: StandIn, photo: Upload) -> None:
    service.script[SYNC] = [Say(hive(faces(0, 0.1, 0.93)))]
    assert SERVICES["hive_deepfake"].ask(service.outside(), photo) == Answer(0.93, ((0.0, 0.93),))
    (asked,) = service.asked
    assert asked.headers["authorization"] == f"Token {KEY}"
    assert asked.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert photo.path.read_bytes() in asked.body
    assert b'name="media"; filename="upload.jpg"' in asked.body
    assert b"ada" not in asked.body.replace(photo.path.read_bytes(), b"")


def test_hive_judges_a_film_later_with_a_timeline(service: StandIn, film: Upload) -> None:
    service.script[ASYNC] = [Say({"task_id": "task-7"})]
    done = hive(faces(0, 0.2), faces(1.5, 0.4, 0.8), faces(3))
    service.script[TASK] = [Say({"error": "not yet"}, 404), Say({"id": "task-7", "status": []}), Say(done)]
    assert SERVICES["hive_deepfake"].ask(service.outside(), film) == Answer(0.8, ((0.0, 0.2), (1.5, 0.8)))
    assert [asked.verb for asked in service.asked] == ["POST", "GET", "GET", "GET"]
    assert film.path.read_bytes() in service.asked[0].body


def test_hive_without_a_face_answers_nothing_and_its_other_head_needs_none(service: StandIn, photo: Upload) -> None:
    service.script[SYNC] = [Say(hive(faces(0)))]
    assert SERVICES["hive_deepfake"].ask(service.outside(), photo).score is None
    service.script[SYNC] = [Say(hive(generated(0.75)))]
    assert SERVICES["hive_ai_image"].ask(service.outside(), photo).score == 0.75


def test_reality_defender_gets_the_file_at_a_signed_address_that_never_sees_the_key(
    service: StandIn, photo: Upload
) -> None:
    signed = f"{service.url}/bucket/upload.jpg?signature=abc"
    service.script[PLACE] = [Say({"requestId": "request-7", "mediaId": "m", "response": {"signedUrl": signed}})]
    service.script["PUT /bucket/upload.jpg?signature=abc"] = [Say()]
    models = ({"name": "rd-oak", "status": "FAKE", "finalScore": 88}, {"name": "rd-elm", "status": "NOT_APPLICABLE"})
    done = defender("FAKE", 91.5, *models)
    service.script[RESULT] = [Say({"error": "unknown"}, 404), Say(defender("ANALYZING", None)), Say(done)]
    answer = SERVICES["reality_defender"].ask(service.outside(), photo)
    assert answer.score == pytest.approx(0.915)
    assert answer.told["models"] == [
        {"name": "rd-oak", "status": "FAKE", "score": 0.88},
        {"name": "rd-elm", "status": "NOT_APPLICABLE", "score": None},
    ]
    place, put, *polls = service.asked
    assert (json.loads(place.body), place.headers["x-api-key"]) == ({"fileName": "upload.jpg"}, KEY)
    assert put.body == photo.path.read_bytes()
    assert KEY not in repr(put)
    assert len(polls) == 3


@pytest.mark.parametrize(
    ("found", "score"),
    [
        (defender("AUTHENTIC", 3), 0.03),
        (defender("MANIPULATED", 100), 1.0),
        (defender("SUSPICIOUS", 0.4), 0.4),
        (defender("NOT_APPLICABLE", None), None),
        (defender("UNABLE_TO_EVALUATE", None), None),
    ],
)
def test_reality_defender_knows_a_third_answer(
    service: StandIn, photo: Upload, found: dict[str, Any], score: float | None
) -> None:
    service.script[PLACE] = [Say({"requestId": "request-7", "response": {"signedUrl": f"{service.url}/bucket"}})]
    service.script["PUT /bucket"], service.script[RESULT] = [Say()], [Say(found)]
    assert SERVICES["reality_defender"].ask(service.outside(), photo).score == score


@pytest.mark.parametrize(
    ("found", "score", "timeline"),
    [
        (sensity("fake", 0.89, explanation=[{"fake_frame_ms": 1500, "fake_probability": 0.9}]), 0.89, ((1.5, 0.9),)),
        (sensity("real", 0.98), pytest.approx(0.02), ()),
        ({"status": "completed", "no_faces": True}, None, ()),
    ],
)
def test_sensity_says_a_class_and_how_sure_it_is_of_it(
    service: StandIn, film: Upload, found: dict[str, Any], score: Any, timeline: Any
) -> None:
    service.script[SENSITY] = [Say({"report_id": "report-7", "success": True})]
    service.script[REPORT] = [Say({"status": "in_progress"}), Say(found)]
    answer = SERVICES["sensity_face"].ask(service.outside(), film)
    assert (answer.score, answer.timeline) == (score, timeline)
    assert {asked.headers["authorization"] for asked in service.asked} == {f"Bearer {KEY}"}
    assert b'name="explain"\r\n\r\ntrue' in service.asked[0].body
    assert b'name="file"; filename="upload.mp4"' in service.asked[0].body


# --- what goes wrong ------------------------------------------------------------------------------------------------

GOOD = Say(hive(faces(0, 0.5)))
IN_AN_HOUR = formatdate(time() + 3600, usegmt=True)


def code_of(service: StandIn, upload: Upload, name: str = "hive_deepfake", **how: Any) -> str:
    with pytest.raises(OutsideError) as raised:
        SERVICES[name].ask(service.outside(**how), upload)
    return raised.value.code


@pytest.mark.parametrize(
    ("says", "code"),
    [
        ([Say({"error": "who are you"}, 401)], "service_key"),
        ([Say({"error": "not for you"}, 403)], "service_key"),
        ([Say("slow down", 429, ("Retry-After: 3600",)), GOOD], "service_limited"),
        ([Say("slow down", 429, (f"Retry-After: {IN_AN_HOUR}",)), GOOD], "service_limited"),
        ([Say("down", 503)], "service_unreachable"),
        ([Say("no", 400)], "service_answer"),
        ([Say("elsewhere", 302, ("Location: https://example.org/",))], "service_answer"),
        ([Say(b"<html>welcome</html>")], "service_answer"),
        ([Say(b"[" * 100_000)], "service_answer"),
        ([Say(b'"' + b"x" * (5 << 20) + b'"')], "service_answer"),
        ([Say([])], "service_answer"),
        ([Say({"status": [{}]})], "service_answer"),
        ([Say(hive())], "service_answer"),
        ([Say(hive(faces(0, 0.5), code="9"))], "service_answer"),
        ([Say(hive({"time": 0}))], "service_answer"),
        ([Say(hive({"time": 0, "bounding_poly": [{"classes": [{"class": "cat", "score": 1}]}]}))], "service_answer"),
        ([Say(hive(faces(0, 1.7)))], "service_answer"),
        ([Say(hive({"time": 0, "classes": [{"class": "deepfake", "score": True}]}))], "service_answer"),
        ([Say({"id": "../../admin"})], "service_answer"),
        ([Say(hive(faces(0, float("nan"))))], "not_finite"),
        ([Say(hive(faces(0, float("inf"))))], "not_finite"),
        ([Say(json.dumps(hive(faces(0, 0.5))).replace("0.5", "1e999").encode())], "not_finite"),
        ([replace(GOOD, after=3.0)], "timeout"),
        ([Say({"id": "task-7"})], "timeout"),  # and never done
    ],
)
def test_whatever_is_odd_is_an_error_with_a_code(service: StandIn, photo: Upload, says: list[Say], code: str) -> None:
    service.script[SYNC] = says
    assert code_of(service, photo, seconds=1.5) == code


@pytest.mark.parametrize(
    "says",
    [
        [Say("slow down", 429, ("Retry-After: 0",)), GOOD],
        [Say("slow down", 429), Say("slow down", 429), GOOD],
        [Say("down", 503), Say("down", 500), GOOD],
    ],
)
def test_what_passes_is_waited_for(service: StandIn, photo: Upload, says: list[Say]) -> None:
    count = len(says)
    service.script[SYNC] = says
    assert SERVICES["hive_deepfake"].ask(service.outside(), photo).score == 0.5
    assert len(service.asked) == count


@pytest.mark.parametrize(
    ("name", "script", "code"),
    [
        ("reality_defender", {PLACE: Say({"requestId": "request-7"})}, "service_answer"),
        ("sensity_face", {SENSITY: Say({"success": False})}, "service_answer"),
        ("sensity_face", {REPORT: Say({"status": "failed"})}, "service_answer"),
        ("sensity_face", {REPORT: Say(sensity("unclear", 0.5))}, "service_answer"),
        ("sensity_face", {REPORT: Say(sensity("fake", "0.5"))}, "service_answer"),
        ("sensity_face", {REPORT: Say(sensity("fake", float("nan")))}, "not_finite"),
        ("reality_defender", {RESULT: Say(defender("FAKE", None))}, "service_answer"),
        ("reality_defender", {RESULT: Say(defender("FAKE", 101))}, "service_answer"),
        ("reality_defender", {RESULT: Say(defender("GENUINE", 1))}, "service_answer"),
        ("reality_defender", {"PUT /bucket": Say("expired", 403)}, "service_key"),
    ],
)
def test_the_others_odd_answers_are_errors_too(
    service: StandIn, photo: Upload, name: str, script: dict[str, Say], code: str
) -> None:
    fine = {
        PLACE: Say({"requestId": "request-7", "response": {"signedUrl": f"{service.url}/bucket"}}),
        "PUT /bucket": Say(),
        RESULT: Say(defender("AUTHENTIC", 1)),
        SENSITY: Say({"report_id": "report-7", "success": True}),
        REPORT: Say(sensity("real", 0.9)),
    }
    service.script = {path: [say] for path, say in {**fine, **script}.items()}
    assert code_of(service, photo, name) == code


def test_nothing_is_sent_without_a_key_or_of_a_file_that_the_service_does_not_take(
    service: StandIn, photo: Upload, film: Upload
) -> None:
    assert code_of(service, photo, key="") == "service_key"
    assert code_of(service, replace(photo, mime="image/heic")) == "service_unfit"
    assert code_of(service, film, "sensity_ai_image") == "service_unfit"
    with film.path.open("r+b") as file:
        file.truncate((32 << 20) + 1)
    assert code_of(service, film, "sensity_face") == "service_unfit"
    assert service.seen == []


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("http://{0}:{1}", "url_invalid"),
        ("https://{0}:{1}", "url_invalid"),  # another port
        ("https://127.0.0.1", "url_not_public"),
        ("https://localhost", "url_not_public"),
        ("https://10.0.0.7", "url_not_public"),
    ],
)
def test_only_public_https_addresses_are_asked(tmp_path: Path, photo: Upload, place: str, why: str) -> None:
    stand_in = StandIn(tmp_path)  # the door's own rules this time
    url = place.format(NAME, stand_in.port)
    account = Outside(outside_door.send, {"hive": Account(url, KEY)}, seconds=2.0, pause=0.01)
    with pytest.raises(OutsideError, match=why):
        SERVICES["hive_deepfake"].ask(account, photo)
    assert stand_in.seen == []
    stand_in.close()


# --- off until accepted, and then a pack like any other -------------------------------------------------------------


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
        found = at_hand.look(photo.path, info, analysis(tmp_path, (info.width, info.height), [(0.0, [])]))
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
        photo.path, info, analysis(tmp_path, (info.width, info.height), [(0.0, [])])
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
