"""The REST API: keys, shapes, problems, one-time POSTs, pages, tenants."""

from __future__ import annotations

import errno
import json
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.db import OperationalError
from django.test import Client

from consent.models import Consent
from tests.webapp import cast
from webapp.accounts import services as accounts
from webapp.accounts.models import ApiKey
from webapp.api.models import IdempotentRequest
from webapp.jobs.models import Asset, Job

pytestmark = pytest.mark.django_db

PROBLEM = {"type", "title", "status", "code", "detail", "request_id"}


def get(owner: cast.Account | None, path: str, **headers: str) -> Any:
    return Client().get(path, headers={**(owner.api if owner else {}), **headers})


def post(owner: cast.Account | None, path: str, body: Any = None, **headers: str) -> Any:
    text = body if isinstance(body, str) else json.dumps(body if body is not None else {})
    headers = {**(owner.api if owner else {}), **headers}
    return Client(raise_request_exception=False).post(path, text, content_type="application/json", headers=headers)


def is_problem(answer: Any, status: int, code: str) -> None:
    body = answer.json()
    assert (answer.status_code, body["status"], body["code"]) == (status, status, code), body
    assert answer["Content-Type"] == "application/problem+json"
    assert set(body) >= PROBLEM
    assert body["type"] == f"urn:imprimatur:problem:{code}"


def declared(owner: cast.Account) -> str:
    return str(post(owner, "/v1/attestations", {"kind": "declaration", "ticks": cast.DECLARED}).json()["id"])


def job_body(owner: cast.Account, **more: Any) -> dict[str, Any]:
    source, target = cast.ready(owner, "source"), cast.ready(owner, "target")
    return {
        "target": {"asset": target.pk, "face": 0},
        "sources": [{"asset": source.pk, "face": 0}],
        "declaration": declared(owner),
        **more,
    }


def test_the_schema_is_valid_openapi_without_a_warning(tmp_path: Any) -> None:
    path = tmp_path / "schema.yaml"
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(path))
    assert path.read_text().startswith("openapi: 3.1")
    document = Client().get("/v1/schema").json()
    assert {"/v1/assets", "/v1/jobs", "/v1/consent_requests", "/v1/verifications"} <= set(document["paths"])
    assert document["components"]["securitySchemes"]["partnerKey"]["scheme"] == "bearer"


def test_every_address_but_the_public_ones_needs_a_key() -> None:
    document = Client().get("/v1/schema").json()
    checked = 0
    for path, methods in document["paths"].items():
        for method in methods:
            if path.startswith("/v1/verifications"):
                continue
            address = path.replace("{", "").replace("}", "")
            answer = Client().generic(method.upper(), address)
            assert answer.status_code == 401, (method, path)
            assert answer["WWW-Authenticate"].startswith("Bearer")
            checked += 1
    assert checked >= 14


@pytest.mark.parametrize("header", ["Bearer imp_live_x_y", "Bearer", "Basic Y2xlbzp4", "Bearer imp_live_é_y"])
def test_a_wrong_key_opens_nothing(cleo: cast.Account, header: str) -> None:
    answer = Client().get("/v1/jobs", headers={"Authorization": header.encode().decode("latin-1")})
    assert answer.status_code == 401
    assert answer["Content-Type"] == "application/problem+json"


def test_a_browser_session_does_not_open_the_api(cleo: cast.Account) -> None:
    assert cleo.browser.get("/v1/jobs").status_code == 401


def test_a_revoked_key_opens_nothing(cleo: cast.Account) -> None:
    assert get(cleo, "/v1/jobs").status_code == 200
    accounts.revoke_api_key(ApiKey.objects.get(organisation=cleo.organisation))
    is_problem(get(cleo, "/v1/jobs"), 401, "key_invalid")


def test_an_upload_becomes_an_asset(cleo: cast.Account) -> None:
    data = {"file": SimpleUploadedFile("ada.jpg", (cast.SAMPLES / "astronaut.jpg").read_bytes()), "role": "source"}
    answer = Client().post("/v1/assets", data, headers=cleo.api)
    body = answer.json()
    assert (answer.status_code, body["object"], body["state"], body["name"]) == (201, "asset", "uploaded", "ada.jpg")
    assert answer["Location"].endswith(f"/v1/assets/{body['id']}")
    assert get(cleo, f"/v1/assets/{body['id']}").json() == body


def test_an_upload_with_an_unknown_field_or_role_is_refused(cleo: cast.Account) -> None:
    file = SimpleUploadedFile("a.jpg", b"x")
    for data in ({"file": file, "role": "both"}, {"role": "source"}, {"file": file, "role": "source", "rolle": "x"}):
        file.seek(0)
        answer = Client().post("/v1/assets", data, headers=cleo.api)
        is_problem(answer, 400, "invalid_request")
    assert answer.json()["errors"] == [
        {"pointer": "/rolle", "code": "unknown_field", "detail": "There is no such field."}
    ]
    assert Asset.objects.count() == 0


def test_an_empty_upload_is_a_typed_refusal(cleo: cast.Account) -> None:
    data = {"file": SimpleUploadedFile("a.jpg", b""), "role": "source"}
    is_problem(Client().post("/v1/assets", data, headers=cleo.api), 422, "empty_file")


def test_a_job_without_permission_gets_a_request_to_send(cleo: cast.Account) -> None:
    body = job_body(cleo)
    for role, name in (("face_donor", "donor_consent"), ("target_person", "target_consent")):
        answer = post(cleo, "/v1/jobs", body)
        is_problem(answer, 422, "consent_required")
        template = answer.json()["consent_request"]
        assert template["role"] == role
        made = post(cleo, "/v1/consent_requests", {**template, "name": "Ada"})
        assert made.status_code == 201, made.json()
        assert "/c/" in made.json()["link"]
        body[name] = made.json()["id"]
    assert Job.objects.count() == 0
    answer = post(cleo, "/v1/jobs", body)
    assert answer.status_code == 201, answer.json()
    job = answer.json()
    assert [each["role"] for each in job["consents"]] == ["face_donor", "target_person"]
    assert get(cleo, f"/v1/jobs/{job['id']}").json()["id"] == job["id"]
    ended = post(cleo, f"/v1/jobs/{job['id']}/cancel")
    assert (ended.status_code, ended.json()["state"]) == (200, "canceled")


def test_the_link_of_a_consent_is_told_once_and_nothing_of_the_person_ever(cleo: cast.Account) -> None:
    body = post(cleo, "/v1/jobs", job_body(cleo)).json()["consent_request"]
    made = post(cleo, "/v1/consent_requests", {**body, "name": "Ada Lovelace", "contact": "ada@example.org"}).json()
    seen = get(cleo, f"/v1/consents/{made['id']}").json()
    assert "link" not in seen
    assert "Ada" not in json.dumps(seen)
    assert seen == {name: value for name, value in made.items() if name != "link"}


def test_a_services_refusal_points_at_the_fields(cleo: cast.Account) -> None:
    body = post(cleo, "/v1/jobs", job_body(cleo)).json()["consent_request"]
    answer = post(cleo, "/v1/consent_requests", {**body, "role": "target_person", "name": "Ben"})
    is_problem(answer, 422, "request_invalid")
    assert [each["pointer"] for each in answer.json()["errors"]] == ["/photos"]
    incomplete = post(cleo, "/v1/attestations", {"kind": "declaration", "ticks": {}})
    is_problem(incomplete, 422, "declaration_incomplete")
    assert len(incomplete.json()["errors"]) == len(cast.DECLARED)


def test_the_text_of_a_declaration_can_be_read_before_it_is_made(cleo: cast.Account) -> None:
    text = get(cleo, "/v1/attestation_texts/declaration").json()
    assert {box["name"] for box in text["boxes"]} == set(cast.DECLARED)
    made = post(cleo, "/v1/attestations", {"kind": "declaration", "ticks": cast.DECLARED}).json()
    assert made["text_sha256"] == text["sha256"]
    is_problem(get(cleo, "/v1/attestation_texts/other"), 404, "not_found")


def test_another_organisations_things_are_not_there(cleo: cast.Account, dan: cast.Account) -> None:
    output = cast.published(cleo)
    job = output.job
    paths = [
        f"/v1/assets/{job.target_id}",
        f"/v1/consents/{cast.donor(job).pk}",
        f"/v1/jobs/{job.pk}",
        f"/v1/outputs/{output.pk}",
        f"/v1/outputs/{output.pk}/content",
        f"/v1/outputs/{output.pk}/manifest",
    ]
    for path in paths:
        assert get(cleo, path).status_code == 200, path
        is_problem(get(dan, path), 404, "not_found")
    is_problem(post(dan, f"/v1/jobs/{job.pk}/cancel"), 404, "not_found")
    assert get(dan, "/v1/jobs").json()["data"] == []
    assert get(dan, "/v1/assets").json()["data"] == []


def test_another_organisations_things_cannot_be_named(cleo: cast.Account, dan: cast.Account) -> None:
    foreign, own = job_body(cleo), job_body(dan)
    job = cast.submitted(cleo)
    for change in (
        {"target": foreign["target"]},
        {"sources": foreign["sources"]},
        {"donor_consent": cast.donor(job).pk, "target_consent": cast.replaced(job).pk},
        {"donor_consent": own["declaration"], "target_consent": "cns_x"},
    ):
        is_problem(post(dan, "/v1/jobs", {**own, **change}), 404, "not_found")
    donor, _ = cast.ask(dan, "face_donor", "Ada", *Asset.objects.of(dan.organisation).order_by("role"))
    with_foreign_word = {**own, "donor_consent": donor.pk, "target_attestation": foreign["declaration"]}
    is_problem(post(dan, "/v1/jobs", with_foreign_word), 404, "not_found")
    assert Job.objects.of(dan.organisation).count() == 0


def test_a_result_is_delivered_with_its_manifest(cleo: cast.Account) -> None:
    output = cast.published(cleo)
    shown = get(cleo, f"/v1/outputs/{output.pk}").json()
    assert shown["mark_id"] == bytes(output.mark_id).hex()
    content = get(cleo, f"/v1/outputs/{output.pk}/content")
    assert b"".join(content) == (cast.SAMPLES / "grace_hopper.jpg").read_bytes()
    assert content["Content-Type"] == "image/jpeg"
    assert get(cleo, f"/v1/outputs/{output.pk}/content", Range="bytes=0-9").status_code == 206
    assert get(cleo, f"/v1/outputs/{output.pk}/manifest").content == b"manifest store"


def test_a_withdrawn_result_is_gone(cleo: cast.Account) -> None:
    output = cast.published(cleo)
    output.permission = "withdrawn"
    output.save(update_fields=["permission"])
    is_problem(get(cleo, f"/v1/outputs/{output.pk}/content"), 410, "output_withdrawn")
    assert get(cleo, f"/v1/outputs/{output.pk}").json()["permission"] == "withdrawn"


def test_a_post_with_a_key_is_carried_out_once(cleo: cast.Account, dan: cast.Account) -> None:
    body = {"kind": "declaration", "ticks": cast.DECLARED}
    key = {"Idempotency-Key": "one"}
    first, again = (post(cleo, "/v1/attestations", body, **key) for _ in range(2))
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert "Idempotent-Replayed" not in first
    assert again["Idempotent-Replayed"] == "true"
    assert post(dan, "/v1/attestations", body, **key).json()["id"] != first.json()["id"]
    other = post(cleo, "/v1/attestations", {"kind": "declaration", "ticks": {}}, **key)
    is_problem(other, 422, "idempotency_key_reused")


def test_the_same_upload_twice_is_one_asset(cleo: cast.Account) -> None:
    answers = []
    for content in (b"one", b"one", b"two"):
        data = {"file": SimpleUploadedFile("a.jpg", content), "role": "source"}
        answers.append(Client().post("/v1/assets", data, headers={**cleo.api, "Idempotency-Key": "up"}))
    assert [answer.status_code for answer in answers] == [201, 201, 422]
    assert answers[0].json() == answers[1].json()
    assert Asset.objects.count() == 1


def test_a_request_in_flight_is_409_and_a_stored_link_is_sealed(cleo: cast.Account) -> None:
    body = post(cleo, "/v1/jobs", job_body(cleo)).json()["consent_request"]
    made = post(cleo, "/v1/consent_requests", {**body, "name": "Ada"}, **{"Idempotency-Key": "ask"})
    row = IdempotentRequest.objects.get()
    token = made.json()["link"].rsplit("/", 1)[1].encode()
    assert token not in bytes(row.response_sealed or b"")
    assert (
        post(cleo, "/v1/consent_requests", {**body, "name": "Ada"}, **{"Idempotency-Key": "ask"}).json() == made.json()
    )
    assert Consent.objects.count() == 1
    IdempotentRequest.objects.update(status=None, response_sealed=None)
    waiting = post(cleo, "/v1/consent_requests", {**body, "name": "Ada"}, **{"Idempotency-Key": "ask"})
    is_problem(waiting, 409, "idempotency_in_flight")
    assert int(waiting["Retry-After"]) > 0


def test_lists_are_read_page_by_page(cleo: cast.Account) -> None:
    made = [cast.uploaded(cleo, "source").pk for _ in range(5)]
    seen: list[str] = []
    cursor = ""
    for _ in range(3):
        answer = get(cleo, f"/v1/assets?limit=2{cursor}")
        body = answer.json()
        seen += [each["id"] for each in body["data"]]
        assert body["has_more"] == (body["next_cursor"] is not None) == ("Link" in answer)
        cursor = f"&cursor={body['next_cursor']}"
    assert seen == made[::-1]
    assert not body["has_more"]
    for query in ("limit=0", "limit=101", "limit=x", "limit=1e1"):
        is_problem(get(cleo, f"/v1/assets?{query}"), 400, "limit_invalid")
    for query in ("cursor=x", "cursor=%00", "cursor=" + "a" * 500):
        is_problem(get(cleo, f"/v1/assets?{query}"), 400, "cursor_invalid")
    is_problem(get(cleo, "/v1/jobs?state=%00"), 400, "state_unknown")


def test_a_method_that_is_not_there_says_which_are(cleo: cast.Account) -> None:
    for method, path, allowed in (("DELETE", "/v1/jobs", "GET, POST"), ("PUT", "/v1/jobs/x", "GET")):
        answer = Client().generic(method, path, headers=cleo.api)
        is_problem(answer, 405, "method_not_allowed")
        assert answer["Allow"].startswith(allowed)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_unknown_address_is_a_problem_too(cleo: cast.Account, method: str) -> None:
    is_problem(Client(enforce_csrf_checks=True).generic(method, "/v1/none", headers=cleo.api), 404, "not_found")


@pytest.mark.parametrize(
    "path", ["assets/%00", "jobs/a%00b", "outputs/%F0%9F%98%80", "consents/" + "a" * 300, "jobs/%ED%A0%80"]
)
def test_odd_ids_are_not_found(cleo: cast.Account, path: str) -> None:
    is_problem(get(cleo, f"/v1/{path}"), 404, "not_found")


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "null",
        "[]",
        '"text"',
        "[" * 100_000,
        '{"target": 1}',
        '{"sources": [{"asset": "a\\u0000b"}], "target": {"asset": "\\ud800"}, "declaration": "x"}',
        '{"sources": [], "target": {"asset": "a", "face": 99999999999999999999999}, "declaration": "x"}',
        '{"purpose": NaN}',
        '{"purpose": {"a": []}, "options": {"crf": "loud", "new": 1}, "surprise": 1}',
    ],
)
def test_a_body_that_makes_no_sense_is_400(cleo: cast.Account, body: str) -> None:
    answer = post(cleo, "/v1/jobs", body)
    assert answer.status_code == 400, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    assert Job.objects.count() == 0


@pytest.mark.parametrize("body", ['{"role": "\\ud800"}', '{"\\udfff": 1}', '{"purposes": ["\\ud800"]}'])
def test_half_a_character_is_a_mistake_of_the_sender(cleo: cast.Account, body: str) -> None:
    is_problem(post(cleo, "/v1/consent_requests", body), 400, "bad_request")


def test_of_several_faces_one_has_to_be_named(cleo: cast.Account) -> None:
    source, target = cast.ready(cleo, "source"), cast.ready(cleo, "target", faces=3)
    body: dict[str, Any] = {"target": {"asset": target.pk}, "sources": [{"asset": source.pk}], "declaration": "none"}
    for unnamed in ({"asset": target.pk}, {"asset": target.pk, "face": None}):
        is_problem(post(cleo, "/v1/jobs", {**body, "target": unnamed}), 422, "face_choice_required")
    asked = {"role": "face_donor", "name": "Ada", "purposes": ["personal"], "photos": [{"asset": source.pk}]}
    is_problem(post(cleo, "/v1/consent_requests", {**asked, "target": body["target"]}), 422, "face_choice_required")
    assert Consent.objects.count() == 0
    named = post(cleo, "/v1/jobs", {**body, "target": {"asset": target.pk, "face": 2}})
    is_problem(named, 422, "consent_required")
    assert named.json()["consent_request"]["target"] == {"asset": target.pk, "face": 2}
    assert named.json()["consent_request"]["photos"] == [{"asset": source.pk, "face": 0}]


def test_a_full_disk_has_its_name_wherever_it_shows(cleo: cast.Account, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (OSError(errno.ENOSPC, "No space left on device"), OperationalError("database or disk is full")):

        def fail(*_: Any, error: Exception = error) -> Any:
            raise error

        monkeypatch.setattr("webapp.jobs.services.asset_state", fail)
        is_problem(get(cleo, f"/v1/assets/{cast.uploaded(cleo, 'source').pk}"), 507, "disk_full")


def test_another_kind_of_body_is_415(cleo: cast.Account) -> None:
    answer = Client().post("/v1/jobs", "<job/>", content_type="application/xml", headers=cleo.api)
    is_problem(answer, 415, "unsupported_media_type")


def test_an_odd_idempotency_key_is_400(cleo: cast.Account) -> None:
    body = {"kind": "declaration", "ticks": cast.DECLARED}
    is_problem(post(cleo, "/v1/attestations", body, **{"Idempotency-Key": "a" * 256}), 400, "idempotency_key_invalid")


def test_each_answer_has_an_id_and_is_not_cached(cleo: cast.Account) -> None:
    first, second = get(cleo, "/v1/jobs"), get(cleo, "/v1/jobs")
    assert first["X-Request-Id"] != second["X-Request-Id"]
    assert first["Cache-Control"] == "no-store"
    missing = get(cleo, "/v1/jobs/none")
    assert missing["X-Request-Id"] == missing.json()["request_id"]
