"""Several replacements over REST: the short form and the long one, and what each lacks."""

from __future__ import annotations

from typing import Any

import pytest

from tests.webapp import cast
from tests.webapp.api.test_api import declared, get, is_problem, job_body, post
from webapp.jobs.models import Asset, Job

pytestmark = pytest.mark.django_db


def body_of(owner: cast.Account, target: Asset, *faces: int) -> dict[str, Any]:
    """A job for these faces of a target, each from a photo of its own; nobody is asked yet."""
    swaps = [{"target_face": face, "sources": [{"asset": cast.ready(owner, "source").pk, "face": 0}]} for face in faces]
    return {"target": {"asset": target.pk}, "swaps": swaps, "declaration": declared(owner)}


def test_each_missing_permission_is_named_by_pair_and_role_until_the_job_is_made(cleo: cast.Account) -> None:
    target = cast.ready(cleo, "target", faces=3)
    body = body_of(cleo, target, 2, 0)
    for number, role in ((0, "face_donor"), (0, "target_person"), (1, "face_donor"), (1, "target_person")):
        answer = post(cleo, "/v1/jobs", body)
        is_problem(answer, 422, "consent_required")
        problem = answer.json()
        assert (problem["swap"], problem["role"]) == (number, role)
        template = problem["consent_request"]
        assert template["role"] == role
        assert template["target"] == {"asset": target.pk, "face": body["swaps"][number]["target_face"]}
        assert template["photos"] == (body["swaps"][number]["sources"] if role == "face_donor" else [])
        made = post(cleo, "/v1/consent_requests", {**template, "name": f"Person {number}"})
        assert made.status_code == 201, made.json()
        body["swaps"][number]["donor_consent" if role == "face_donor" else "target_consent"] = made.json()["id"]
    assert Job.objects.count() == 0
    answer = post(cleo, "/v1/jobs", body)
    assert answer.status_code == 201, answer.json()
    job = answer.json()
    assert job["target"] == {"asset": target.pk}
    assert job["swaps"] == [{**swap, "target_attestation": None} for swap in body["swaps"]]
    assert [each["role"] for each in job["consents"]] == ["face_donor", "target_person"] * 2
    assert get(cleo, f"/v1/jobs/{job['id']}").json()["swaps"] == job["swaps"]
    assert get(cleo, "/v1/jobs").json()["data"][0]["swaps"] == job["swaps"]


def test_the_short_form_is_one_pair_of_the_long_one(cleo: cast.Account) -> None:
    short = job_body(cleo)
    face = short["target"]["face"]
    answer = post(cleo, "/v1/jobs", short)
    assert (answer.json()["swap"], answer.json()["role"]) == (0, "face_donor")
    long = {**short, "target": {"asset": short["target"]["asset"]}}
    long["swaps"] = [{"target_face": face, "sources": long.pop("sources")}]
    assert post(cleo, "/v1/jobs", long).json()["consent_request"] == answer.json()["consent_request"]


@pytest.mark.parametrize(
    ("changes", "pointer", "code"),
    [
        ({"swaps": []}, "/swaps", "min_length"),
        ({"swaps": [{}]}, "/swaps/0/sources", "required"),
        ({"swaps": [{"sources": []}]}, "/swaps/0/sources", "min_length"),
        ({"swaps": [{"sources": [{"asset": "a"}], "face": 1}]}, "/swaps/0/face", "unknown_field"),
        ({"swaps": None}, "/swaps", "null"),
        ({"target": {"asset": "a", "face": 0}}, "/swaps", "said_twice"),
        ({"sources": [{"asset": "a"}]}, "/swaps", "said_twice"),
        ({"target_consent": "cns_1"}, "/swaps", "said_twice"),
    ],
)
def test_a_body_that_says_it_badly_is_told_where(
    cleo: cast.Account, changes: dict[str, Any], pointer: str, code: str
) -> None:
    whole = {"target": {"asset": "a"}, "swaps": [{"sources": [{"asset": "a"}]}], "declaration": "att_1"}
    answer = post(cleo, "/v1/jobs", {**whole, **changes})
    is_problem(answer, 400, "invalid_request")
    assert (pointer, code) in {(each["pointer"], each["code"]) for each in answer.json()["errors"]}
    bare = post(cleo, "/v1/jobs", {"target": {"asset": "a"}, "declaration": "att_1"})
    assert [(each["pointer"], each["code"]) for each in bare.json()["errors"]] == [("/sources", "required")]


def test_too_many_faces_the_same_face_twice_and_strangers_files_are_refused(
    cleo: cast.Account, dan: cast.Account
) -> None:
    target, foreign = cast.ready(cleo, "target", faces=5), cast.ready(dan, "source")

    def with_consents(body: dict[str, Any]) -> dict[str, Any]:
        for swap in body["swaps"]:
            source = Asset.objects.get(pk=swap["sources"][0]["asset"])
            swap["donor_consent"] = cast.ask(cleo, "face_donor", "Ada", source, target)[0].pk
            swap["target_consent"] = cast.ask(cleo, "target_person", "Ben", source, target)[0].pk
        return body

    is_problem(post(cleo, "/v1/jobs", with_consents(body_of(cleo, target, *range(5)))), 422, "too_many_swaps")
    is_problem(post(cleo, "/v1/jobs", with_consents(body_of(cleo, target, 0, 0))), 422, "face_twice")
    stolen = with_consents(body_of(cleo, target, 0, 1))
    stolen["swaps"][1]["sources"][0]["asset"] = foreign.pk
    is_problem(post(cleo, "/v1/jobs", stolen), 404, "not_found")
    theirs = with_consents(body_of(cleo, target, 0, 1))
    theirs["swaps"][1]["donor_consent"] = cast.donor(cast.submitted(dan)).pk
    is_problem(post(cleo, "/v1/jobs", theirs), 404, "not_found")
    unsaid = body_of(cleo, target, 0, 1)
    unsaid["swaps"][1]["target_face"] = None
    is_problem(post(cleo, "/v1/jobs", unsaid), 422, "face_choice_required")
    assert not Job.objects.of(cleo.organisation).exists()
