"""The partner's way against a refusal by the gate."""

from __future__ import annotations

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from webapp.api import shapes
from webapp.api.base import Resource, once, own_asset, own_job
from webapp.api.parsing import Strict, read
from webapp.api.schema import IDEMPOTENCY_KEY, documented
from webapp.jobs import services as jobs
from webapp.screening import appeals

PROBLEMS = (400, 401, 404, 406, 409, 415, 422)


class AppealCreate(Strict):
    """Why the refusal is wrong, in your words."""

    statement = serializers.CharField(
        allow_blank=True,
        trim_whitespace=False,
        help_text=f"{appeals.SHORTEST} to {appeals.LONGEST} characters; the people who decide read it.",
    )


class AssetAppeal(Resource):
    """An appeal about an upload."""

    @documented(
        "appeal_asset",
        "Appeal once against the screening's refusal of an upload; it is in_review until two people have decided",
        {200: shapes.AssetOut},
        *PROBLEMS,
        request=AppealCreate,
        parameters=[IDEMPOTENCY_KEY],
    )
    @once
    def post(self, request: Request, asset_id: str) -> Response:
        asset = own_asset(request, asset_id)
        appeals.appeal(asset, None, read(AppealCreate, request.data)["statement"])
        return Response(jobs.asset_state(asset))


class JobAppeal(Resource):
    """An appeal about a job."""

    @documented(
        "appeal_job",
        "Appeal once against the screening's refusal of a job; it is in_review until two people have decided",
        {200: shapes.JobOut},
        *PROBLEMS,
        request=AppealCreate,
        parameters=[IDEMPOTENCY_KEY],
    )
    @once
    def post(self, request: Request, job_id: str) -> Response:
        job = own_job(request, job_id)
        appeals.appeal(job, None, read(AppealCreate, request.data)["statement"])
        return Response(jobs.job_state(job))
