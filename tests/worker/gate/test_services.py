"""Services outside of this house: what each is told, how its answer is read, and that everything odd is an error.

They are stand-ins on loopback that speak the shapes named in `worker.gate.packs.outside_services`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from time import time
from typing import Any

import pytest

from tests.webapp.core.test_net import NAME
from tests.worker.gate.stand_in import (
    ASYNC,
    GOOD,
    KEY,
    PLACE,
    REPORT,
    RESULT,
    SENSITY,
    SYNC,
    TASK,
    Say,
    StandIn,
    defender,
    faces,
    generated,
    hive,
    sensity,
)
from worker import outside_door
from worker.gate.packs.outside import Account, Answer, Outside, OutsideError
from worker.gate.packs.outside_services import SERVICES
from worker.gate.upload import Upload


@pytest.fixture
def film(tmp_path: Path) -> Upload:
    path = tmp_path / "film"
    path.write_bytes(bytes(range(256)) * 3000)  # more than one piece; no service here looks inside
    return Upload(path, "video/mp4", "video")


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
