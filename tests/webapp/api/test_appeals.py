"""The API's way against a refusal: once, idempotent, with stable codes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.webapp import cast
from webapp.jobs.models import Job
from webapp.screening import services
from webapp.screening.models import Review
from worker.gate import policy, profiles, signals

pytestmark = pytest.mark.django_db

WHY = {"statement": "The face is larger than the check says."}


def send(owner: cast.Account, path: str, body: Any = WHY, **headers: str) -> Any:
    return owner.browser.post(path, body, content_type="application/json", headers={**owner.api, **headers})


def test_an_upload_is_appealed_once_and_the_same_key_gets_the_same_answer(cleo: cast.Account) -> None:
    asset = cast.refused(cleo)
    path = f"/v1/assets/{asset.pk}/appeal"
    answer = send(cleo, path, **{"Idempotency-Key": "one"})
    assert (answer.status_code, answer.json()["state"], answer.json()["failure"]) == (200, "in_review", None)
    again = send(cleo, path, **{"Idempotency-Key": "one"})
    assert (again.status_code, again.json()["state"], again["Idempotent-Replayed"]) == (200, "in_review", "true")
    other = send(cleo, path, {"statement": "Something else entirely."}, **{"Idempotency-Key": "one"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    second = send(cleo, path, **{"Idempotency-Key": "two"})
    assert (second.status_code, second.json()["code"]) == (409, "appeal_made_before")
    review = Review.objects.get()
    assert (review.kind, review.statement, review.appellant) == ("appeal", WHY["statement"], None)


def test_a_job_is_appealed(cleo: cast.Account) -> None:
    job = cast.submitted(cleo)
    Job.objects.filter(pk=job.pk).update(state="screening", lease_owner="gate")
    found = [signals.identity([0.9]), signals.pose(1, 0, 3.0), signals.assurance(["L1", "L1"])]
    assert services.settle_job(policy.decide_job(found, profiles.named("evaluation")), job.pk, "gate")
    state = cleo.browser.get(f"/v1/jobs/{job.pk}", headers=cleo.api).json()
    assert (state["state"], state["failure"]["code"], state["final"]) == ("refused", "identity_mismatch", True)
    answer = send(cleo, f"/v1/jobs/{job.pk}/appeal").json()
    assert (answer["state"], answer["failure"], answer["final"], answer["finished_at"]) == (
        "in_review",
        None,
        False,
        None,
    )


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"statement": "short"}, 422, "statement_length"),
        ({"statement": "x" * 1001}, 422, "statement_length"),
        ({"statement": ""}, 422, "statement_length"),
        ({}, 400, "invalid_request"),
        ({"statement": "long enough, truly", "more": 1}, 400, "invalid_request"),
        ({"statement": ["a list of words"]}, 400, "invalid_request"),
    ],
)
def test_a_bad_statement_changes_nothing(cleo: cast.Account, body: Any, status: int, code: str) -> None:
    asset = cast.refused(cleo)
    answer = send(cleo, f"/v1/assets/{asset.pk}/appeal", body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    asset.refresh_from_db()
    assert asset.state == "refused"


def test_what_cannot_be_appealed_says_what_to_do(cleo: cast.Account, settings: Any) -> None:
    settings.CONTROLLER_CONTACT = "help@example.org"
    for asset, words in (
        (cast.refused(cleo, "protected_stop"), "write to help@example.org"),
        (cast.ready(cleo, "target"), ""),
    ):
        answer = send(cleo, f"/v1/assets/{asset.pk}/appeal")
        assert (answer.status_code, answer.json()["code"]) == (409, "appeal_not_possible")
        assert words in answer.json()["detail"]


def test_another_tenants_refusal_is_not_found(cleo: cast.Account, dan: cast.Account) -> None:
    asset = cast.refused(cleo)
    for path in (f"/v1/assets/{asset.pk}/appeal", "/v1/assets/ast_none/appeal", "/v1/jobs/job_none/appeal"):
        assert send(dan, path).status_code == 404
    assert not Review.objects.exists()


def test_a_suspected_attacker_reads_one_code_everywhere(cleo: cast.Account) -> None:
    for reason in ("listed_face", "listed_picture", "stay_down", "protected_stop"):
        asset = cast.refused(cleo, reason)
        shown = cleo.browser.get(f"/v1/assets/{asset.pk}", headers=cleo.api).content.decode()
        assert '"code":"refused_by_screening"' in shown.replace(" ", "")
        assert reason not in shown
        assert asset.screenings.get().reasons == [reason]
