"""Pictures and results for the account's own pages."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_safe

from webapp import storage
from webapp.jobs import services as jobs
from webapp.jobs.models import Job, Output
from webapp.pages.access import for_account, own_asset, own_job
from webapp.pages.delivery import send_file
from worker.spec import EXTENSIONS

SHOWN_BY_BROWSERS = frozenset(EXTENSIONS)


@require_safe
@for_account
def preview(request: HttpRequest, asset_id: str, face: int) -> HttpResponse:
    """A small picture of an upload with one face framed."""
    asset = own_asset(request, asset_id)
    try:
        return HttpResponse(jobs.asset_preview(asset.pk, face), content_type="image/jpeg")
    except jobs.JobsError:
        raise Http404 from None


@require_safe
@for_account
def before(request: HttpRequest, job_id: str) -> HttpResponseBase:
    """The target of a job as it was uploaded, as long as it is kept, for the comparison."""
    asset = own_job(request, job_id).target
    if asset.erased_at is not None or asset.mime not in SHOWN_BY_BROWSERS:
        raise Http404
    try:
        file = storage.open_decrypted(asset.object_name, asset.key_id)
    except storage.StorageError:
        raise Http404 from None
    return send_file(request, file, size=asset.size, mime=asset.mime, name="before", download=False, etag=asset.sha256)


@require_safe
@for_account
def output(request: HttpRequest, job_id: str) -> HttpResponseBase:
    """The result of a job: shown in the page, or with `?download=1` as a file."""
    job = own_job(request, job_id)
    found = published(job)
    if found is None:
        raise Http404
    try:
        file = jobs.output_file(found)
    except jobs.JobsError as error:
        context = {"heading": "Not shown any more", "text": error.message, "status": error.status}
        return render(request, "failure.html", context, status=error.status)
    name = f"imprimatur-{job.pk}.{EXTENSIONS.get(found.mime, 'bin')}"
    return send_file(
        request,
        file,
        size=found.size,
        mime=found.mime,
        name=name,
        download="download" in request.GET,
        etag=found.sha256,
    )


def published(job: Job) -> Output | None:
    """The job's output, if there is one."""
    return Output.objects.filter(job=job).first()
