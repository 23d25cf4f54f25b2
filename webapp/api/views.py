"""Assets, jobs and outputs. Views translate; the services decide and write."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from webapp.api import forms, shapes
from webapp.api.base import (
    Resource,
    once,
    organisation,
    own_asset,
    own_attestation,
    own_consent,
    own_job,
    own_output,
)
from webapp.api.pagination import page
from webapp.api.parsing import read
from webapp.api.schema import IDEMPOTENCY_KEY, PAGE, documented
from webapp.jobs import services as jobs
from webapp.jobs.errors import JobsError
from webapp.jobs.models import Asset, Job, Output
from webapp.pages.delivery import send_file
from webapp.profile import is_live
from worker.spec import EXTENSIONS


class Assets(Resource):
    """Uploaded files."""

    parser_classes = [MultiPartParser]

    @documented("list_assets", "List uploads", {200: shapes.AssetList}, 400, 401, 406, parameters=PAGE)
    def get(self, request: Request) -> Response:
        return page(request, Asset.objects.of(organisation(request)), jobs.asset_state)

    @documented(
        "create_asset",
        "Upload a photo or a video",
        {201: shapes.AssetOut},
        *(400, 401, 406, 409, 413, 415, 422, 503, 507),
        request={"multipart/form-data": forms.AssetUpload},
        parameters=[IDEMPOTENCY_KEY],
    )
    @once
    def post(self, request: Request) -> Response:
        body = read(forms.AssetUpload, request.data)
        asset = jobs.receive_asset(
            organisation(request),
            None,
            role=body["role"],
            file=body["file"],
            name=body.get("name") or body["file"].name,
        )
        return Response(
            jobs.asset_state(asset), status=201, headers={"Location": f"{settings.PUBLIC_URL}/v1/assets/{asset.pk}"}
        )


class AssetDetail(Resource):
    """One uploaded file."""

    @documented("get_asset", "See an upload, its state and the faces found", {200: shapes.AssetOut}, 401, 404, 406)
    def get(self, request: Request, asset_id: str) -> Response:
        return Response(jobs.asset_state(own_asset(request, asset_id)))


class Jobs(Resource):
    """Replacement jobs."""

    @documented(
        "list_jobs",
        "List jobs",
        {200: shapes.JobList},
        *(400, 401, 406),
        parameters=[*PAGE, OpenApiParameter("state", OpenApiTypes.STR, enum=Job.State.values)],
    )
    def get(self, request: Request) -> Response:
        rows = Job.objects.of(organisation(request)).whole()
        if state := request.query_params.get("state"):
            if state not in Job.State.values:
                raise JobsError(
                    "state_unknown",
                    f"There is no job state of that name. Use {', '.join(Job.State.values)}.",
                    status=400,
                )
            rows = rows.filter(state=state)
        return page(request, rows, jobs.job_state)

    @documented(
        "create_job",
        "Start a job; without permission named, 422 consent_required with a request to send",
        {201: shapes.JobOut},
        *(400, 401, 404, 406, 409, 415, 422),
        request=forms.JobCreate,
        parameters=[IDEMPOTENCY_KEY],
    )
    @once
    def post(self, request: Request) -> Response:
        body = read(forms.JobCreate, request.data)
        target = own_asset(request, body["target"]["asset"])
        job = jobs.submit_job(
            organisation(request),
            None,
            target=target,
            swaps=_wanted(request, target, body),
            declaration=own_attestation(request, body["declaration"]),
            purpose=body["purpose"],
            options=body.get("options") or {},
            livemode=is_live(),
        )
        return Response(
            jobs.job_state(job), status=201, headers={"Location": f"{settings.PUBLIC_URL}/v1/jobs/{job.pk}"}
        )


def _wanted(request: Request, target: Asset, body: dict[str, Any]) -> list[jobs.SwapWanted]:
    """The replacements that a body names. Raises JobsError for a face or a permission that is missing."""
    faces = [jobs.chosen_face(target, swap["target_face"]) for swap in body["swaps"]]
    photos: list[list[tuple[Asset, int]]] = []
    for swap in body["swaps"]:
        named = [(own_asset(request, ref["asset"]), ref["face"]) for ref in swap["sources"]]
        photos.append([(asset, jobs.chosen_face(asset, face)) for asset, face in named])
    for number, swap in enumerate(body["swaps"]):
        asked = [] if swap["donor_consent"] else ["face_donor"]
        asked += [] if swap["target_consent"] or swap["target_attestation"] else ["target_person"]
        if asked:
            raise ConsentRequiredError(
                asked[0], swap=number, purpose=body["purpose"], target=(target, faces[number]), photos=photos[number]
            )
    return [
        jobs.SwapWanted(
            target_face=face,
            sources=sources,
            donor_consent=own_consent(request, swap["donor_consent"]),
            target_consent=own_consent(request, swap["target_consent"]) if swap["target_consent"] else None,
            target_attestation=(
                own_attestation(request, swap["target_attestation"]) if swap["target_attestation"] else None
            ),
        )
        for face, sources, swap in zip(faces, photos, body["swaps"], strict=True)
    ]


class ConsentRequiredError(JobsError):
    """422 with `consent_request`: a body for POST /v1/consent_requests that lacks only who is asked.

    `swap` is the place of the replacement in the body's `swaps`, 0 for the short form; `role` says who was not asked.
    """

    def __init__(
        self, role: str, *, swap: int, purpose: str, target: tuple[Asset, int], photos: list[tuple[Asset, int]]
    ) -> None:
        asset, face = target
        who = "whose face is put in" if role == "face_donor" else "whose face is replaced"
        super().__init__(
            "consent_required",
            f"The person {who} (swap {swap}, target face {face}) was not asked; no job was made. Complete "
            "`consent_request`, send it to /v1/consent_requests, and name the consent in the job.",
        )
        refs = [{"asset": photo.pk, "face": each} for photo, each in photos]
        self.extra = {
            "swap": swap,
            "role": role,
            "consent_request": {
                "role": role,
                "name": "",
                "contact": "",
                "locale": "en",
                "purposes": [purpose],
                "photos": refs if role == "face_donor" else [],
                "target": {"asset": asset.pk, "face": face},
                "max_outputs": 1,
                "days": 90,
            },
        }


class JobDetail(Resource):
    """One job."""

    @documented("get_job", "See a job's state and progress", {200: shapes.JobOut}, 401, 404, 406)
    def get(self, request: Request, job_id: str) -> Response:
        return Response(jobs.job_state(own_job(request, job_id)))


class JobCancel(Resource):
    """The end of a job before its end."""

    @documented(
        "cancel_job",
        "Cancel a job",
        {200: shapes.JobOut},
        *(401, 404, 406, 409),
        request=None,
        parameters=[IDEMPOTENCY_KEY],
    )
    @once
    def post(self, request: Request, job_id: str) -> Response:
        return Response(jobs.job_state(jobs.cancel_job(own_job(request, job_id))))


def output_state(output: Output) -> dict[str, Any]:
    """An output as the API shows it."""
    return {
        **jobs.output_state(output),
        "mark_id": bytes(output.mark_id).hex(),
        "content_url": f"{settings.PUBLIC_URL}/v1/outputs/{output.pk}/content",
        "manifest_url": f"{settings.PUBLIC_URL}/v1/outputs/{output.pk}/manifest",
    }


class OutputDetail(Resource):
    """One published result."""

    @documented("get_output", "See a result and its permission", {200: shapes.OutputOut}, 401, 404, 406)
    def get(self, request: Request, output_id: str) -> Response:
        return Response(output_state(own_output(request, output_id)))


class OutputContent(Resource):
    """The bytes of a result."""

    @documented(
        "get_output_content",
        "Download a result (byte ranges are honoured)",
        {(200, mime): OpenApiTypes.BINARY for mime in EXTENSIONS}
        | {(206, mime): OpenApiTypes.BINARY for mime in EXTENSIONS},
        *(401, 404, 406, 410, 416, 503),
    )
    def get(self, request: Request, output_id: str) -> HttpResponseBase:
        output = own_output(request, output_id)
        file = jobs.output_file(output)
        name = f"imprimatur-{output.pk}.{EXTENSIONS.get(output.mime, 'bin')}"
        return send_file(
            request._request, file, size=output.size, mime=output.mime, name=name, download=True, etag=output.sha256
        )


class OutputManifest(Resource):
    """The C2PA manifest store of a result, as it was when it was published."""

    @documented(
        "get_output_manifest",
        "Download the manifest store",
        {(200, "application/c2pa"): OpenApiTypes.BINARY},
        *(401, 404, 406),
    )
    def get(self, request: Request, output_id: str) -> HttpResponse:
        output = own_output(request, output_id)
        return HttpResponse(
            bytes(output.manifest_store),
            content_type="application/c2pa",
            headers={"Content-Disposition": f'attachment; filename="imprimatur-{output.pk}.c2pa"'},
        )


class OutputDeletion(Resource):
    """The duty to delete: a partner says that its copies are gone."""

    @documented(
        "confirm_output_deletion",
        "Confirm that your copies of a result whose permission ended are deleted",
        {200: shapes.OutputOut},
        *(401, 404, 406, 409),
        request=None,
        parameters=[IDEMPOTENCY_KEY],
    )
    @once
    def post(self, request: Request, output_id: str) -> Response:
        return Response(output_state(jobs.confirm_deletion(own_output(request, output_id))))
